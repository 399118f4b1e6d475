"""Optimizer, learning-rate schedule, and the moving average of weights."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from warp_train.recipe.sections import OptimConfig, SchedulerConfig

ScheduleName = Literal["cosine", "onecycle", "none"]

RESIDUAL_HEAD = "residual_head."
"""Prefix of the residual head's parameter names."""
ONECYCLE_START = 1 / 25
"""First learning rate of `onecycle`, as a share of the peak (Smith & Topin, 2017)."""
ONECYCLE_RISE = 0.3
"""Share of the steps in which `onecycle` rises."""


def build_optimizer(model: nn.Module, optim: OptimConfig) -> AdamW:
    """AdamW over the trainable parameters. Biases and norms (below 2-D) are not decayed; the
    residual head uses `residual_lr` where it is set."""
    apart = optim.residual_lr is not None
    training = [
        (apart and name.startswith(RESIDUAL_HEAD), parameter)
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    ]
    groups = [
        {
            "params": [p for own, p in training if own == residual and (p.ndim >= 2) == decayed],
            "weight_decay": optim.weight_decay if decayed else 0.0,
            "lr": optim.residual_lr if residual else optim.lr,
        }
        for residual in (False, True)
        for decayed in (True, False)
    ]
    return AdamW([g for g in groups if g["params"]], lr=optim.lr, betas=optim.betas, eps=optim.eps)


def build_scheduler(optimizer: Optimizer, scheduler: SchedulerConfig, total_steps: int) -> LambdaLR:
    """Schedule that is stepped once per optimizer step, on every rank alike.

    It must not go through `Accelerator.prepare`, which would step it once per process. Its state is
    JSON. After `total_steps` the rate keeps its last value, so that a run can be prolonged.
    """
    return LambdaLR(
        optimizer,
        [
            partial(
                lr_factor,
                name=scheduler.name,
                total_steps=total_steps,
                warmup_steps=scheduler.warmup_steps,
                floor=min(scheduler.min_lr / group["lr"], 1.0),
            )
            for group in optimizer.param_groups
        ],
    )


def continue_schedule(scheduler: LambdaLR, steps: int) -> None:
    """Puts a schedule where it is after `steps` optimizer steps. The rates are those of its own
    recipe, whatever the rates were so far."""
    rates = [
        base * factor(steps)
        for base, factor in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
    ]
    place = {"last_epoch": steps, "_step_count": steps + 1, "_last_lr": rates}
    scheduler.load_state_dict({**scheduler.state_dict(), **place})
    for group, rate in zip(scheduler.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


def lr_factor(
    step: int, *, name: ScheduleName, total_steps: int, warmup_steps: int, floor: float
) -> float:
    """Learning rate after `step` optimizer steps, as a share of the peak.

    `cosine` and `none` rise linearly over `warmup_steps` (the first step already moves); `cosine`
    then falls to `floor` at `total_steps`. `onecycle` rises from 1/25 to 1 over 30 % of the steps
    and falls to `floor`, each along half a cosine; it takes no `warmup_steps`.
    """
    if name == "onecycle":
        rise = ONECYCLE_RISE * total_steps
        if step < rise:
            return _half_cosine(ONECYCLE_START, 1.0, step / rise)
        return _half_cosine(1.0, floor, (step - rise) / (total_steps - rise))
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if name == "none":
        return 1.0
    return _half_cosine(1.0, floor, (step - warmup_steps) / max(1, total_steps - warmup_steps))


def _half_cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


class Ema:
    """Exponential moving average of a model's weights and float buffers, on its device.

    The decay warms up as `min(decay, (1 + n) / (10 + n))` after `n` updates, so that the random
    start is soon forgotten. Integer buffers are copied.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights: dict[str, Tensor] = {k: v.clone() for k, v in _values(model).items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Updates the averages with the weights after optimizer step `step` (counted from 1)."""
        rate = 1 - min(self.decay, (1 + step) / (10 + step))
        floats, sources = [], []
        for name, value in _values(model).items():
            if value.is_floating_point():
                floats.append(self.weights[name])
                sources.append(value)
            else:
                self.weights[name].copy_(value)
        torch._foreach_lerp_(floats, sources, rate)

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Loads saved averages, bit for bit."""
        _assign(self.weights, weights)


@contextmanager
def swapped(model: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Gives `model` other weights for a while; at the end its own are restored bit for bit."""
    own = {name: value.clone() for name, value in _values(model).items()}
    try:
        _assign(_values(model), weights)
        yield
    finally:
        _assign(_values(model), own)


def _values(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in model.state_dict().items()}


@torch.no_grad()
def _assign(target: Mapping[str, Tensor], source: Mapping[str, Tensor]) -> None:
    for name, value in target.items():
        value.copy_(source[name])
