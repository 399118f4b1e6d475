"""Schedules against torch's own and closed forms; weight decay; the moving average."""

import contextlib
import json
import math

import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

from warp_train.models import HybridModel
from warp_train.recipe.sections import OptimConfig, SchedulerConfig
from warp_train.training.optim import Ema, build_optimizer, build_scheduler, swapped


def rates(scheduler: SchedulerConfig, total_steps: int, count: int) -> list[float]:
    optimizer = build_optimizer(nn.Linear(2, 2), OptimConfig(lr=1e-2))
    schedule = build_scheduler(optimizer, scheduler, total_steps)
    seen = []
    for _ in range(count):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def test_the_residual_head_may_have_a_rate_of_its_own() -> None:
    model = HybridModel()
    optimizer = build_optimizer(model, OptimConfig(lr=1e-3, residual_lr=1e-2))
    schedule = build_scheduler(optimizer, SchedulerConfig(min_lr=1e-5), 20)
    rate_of = {p: group for group in optimizer.param_groups for p in group["params"]}
    for rates_now in ((1e-2, 1e-3), (1e-5, 1e-5)):
        for name, parameter in model.named_parameters():
            expected = rates_now[0 if name.startswith("residual_head.") else 1]
            assert rate_of[parameter]["lr"] == pytest.approx(expected), name
            assert (rate_of[parameter]["weight_decay"] > 0) == (parameter.ndim >= 2)
        for _ in range(20):
            optimizer.step()
            schedule.step()
    assert len(build_optimizer(model, OptimConfig()).param_groups) == 2


def test_cosine_is_torchs() -> None:
    optimizer = SGD(nn.Linear(2, 2).parameters(), lr=1e-2)
    reference = CosineAnnealingLR(optimizer, T_max=40, eta_min=1e-6)
    expected = []
    for _ in range(41):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    assert rates(SchedulerConfig(min_lr=1e-6), 40, 41) == pytest.approx(expected, rel=1e-9)


def test_onecycle_is_torchs() -> None:
    optimizer = SGD(nn.Linear(2, 2).parameters(), lr=1e-2)
    # torch counts its phases to the last step, and this schedule to the end of it.
    reference = OneCycleLR(
        optimizer, max_lr=1e-2, total_steps=41, pct_start=13 / 41, cycle_momentum=False
    )
    expected = []
    for _ in range(40):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    floor = 1e-2 / 25 / 1e4
    seen = rates(SchedulerConfig(name="onecycle", min_lr=floor), 40, 40)
    assert seen == pytest.approx(expected, rel=1e-9)


def test_warmup_rises_in_a_line_and_then_falls_to_the_floor() -> None:
    seen = rates(SchedulerConfig(warmup_steps=4, min_lr=1e-4), 24, 40)
    assert seen[:5] == pytest.approx([0.002, 0.004, 0.006, 0.008, 0.01])
    assert seen[14] == pytest.approx((1e-2 + 1e-4) / 2)
    assert seen[24:] == pytest.approx([1e-4] * 16)


def test_none_is_constant_after_the_warmup() -> None:
    seen = rates(SchedulerConfig(name="none", warmup_steps=1), 10, 12)
    assert seen == pytest.approx([0.005] + [0.01] * 11)


def test_schedule_restored_from_json_goes_on_alike() -> None:
    whole = rates(SchedulerConfig(warmup_steps=3), 20, 20)
    optimizer = build_optimizer(nn.Linear(2, 2), OptimConfig(lr=1e-2))
    first = build_scheduler(optimizer, SchedulerConfig(warmup_steps=3), 20)
    for _ in range(7):
        optimizer.step()
        first.step()
    saved = json.loads(json.dumps(first.state_dict()))
    saved_optimizer = optimizer.state_dict()

    optimizer = build_optimizer(nn.Linear(2, 2), OptimConfig(lr=1e-2))
    second = build_scheduler(optimizer, SchedulerConfig(warmup_steps=3), 20)
    second.load_state_dict(saved)
    optimizer.load_state_dict(saved_optimizer)
    seen = []
    for _ in range(7, 20):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        second.step()
    assert seen == whole[7:]


def test_biases_norms_and_frozen_parts_are_not_decayed() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 4), nn.Linear(4, 4))
    model[3].requires_grad_(False)
    optimizer = build_optimizer(model, OptimConfig(lr=0.1, weight_decay=0.5))
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, value in model.named_parameters():
        decayed = name in ("0.weight", "2.weight")
        assert torch.allclose(value, before[name] * (0.95 if decayed else 1.0)), name


def test_average_follows_the_closed_form_and_lends_itself_bit_for_bit() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    ema = Ema(model, decay=0.5)
    expected = model[0].weight.detach().clone()
    for step in range(1, 9):
        with torch.no_grad():
            model[0].weight.add_(torch.randn(3, 3))
        model(torch.randn(4, 3))
        ema.update(model, step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model[0].weight.detach()
    assert torch.allclose(ema.weights["0.weight"], expected, atol=1e-6)
    assert ema.weights["1.num_batches_tracked"].item() == 8

    own = {name: value.clone() for name, value in model.state_dict().items()}
    with contextlib.suppress(KeyboardInterrupt), swapped(model, ema.weights):
        assert torch.equal(model[0].weight, ema.weights["0.weight"])
        raise KeyboardInterrupt
    for name, value in model.state_dict().items():
        assert torch.equal(value, own[name])


def test_average_of_constant_weights_is_those_weights() -> None:
    model = nn.Linear(2, 2)
    ema = Ema(model, decay=0.999)
    for step in range(1, 50):
        ema.update(model, step)
    assert torch.equal(ema.weights["weight"], model.weight)
    assert math.isclose(ema.decay, 0.999)
