"""The network: what it starts as, what bounds it, and what it depends on."""

import math

import pytest
import torch

from warp_train.geometry import (
    PARAM_NAMES,
    build_parametric_grid,
    fuse_grids,
    upsample_residual_flow,
    warp_image,
)
from warp_train.models import HybridModel, ModelConfig, ParamBounds
from warp_train.models.coord_channels import coord_channels
from warp_train.models.edges import measure_edges


@pytest.mark.parametrize("backbone", ["tiny", "resnet34", "resnet50"])
@pytest.mark.parametrize("size", [(64, 96), (131, 77), (1, 1), (2, 45), (17, 1)])
def test_an_untrained_model_returns_its_input(backbone: str, size: tuple[int, int]) -> None:
    model = HybridModel(ModelConfig(backbone=backbone)).eval()  # type: ignore[arg-type]
    image = torch.rand(2, 3, *size)
    out = model(image)
    residual = upsample_residual_flow(out["residual_flow"], *size)
    grid = fuse_grids(build_parametric_grid(out["params"], *size), residual)
    torch.testing.assert_close(warp_image(image, grid), image, atol=1e-6, rtol=0)


@pytest.mark.parametrize("bias", [-1e6, -50.0, 50.0, 1e6])
def test_parameters_reach_their_bounds_and_no_further(bias: float) -> None:
    bounds = ParamBounds(k1=0.3, k2=0.2, k3=0.1, p1=0.01, p2=0.03, dcx=0.05, dcy=0.06, s=0.25)
    model = HybridModel(ModelConfig(param_bounds=bounds))
    torch.nn.init.eye_(model.parametric_head.mixing)
    torch.nn.init.constant_(model.parametric_head.votes.bias, bias)  # type: ignore[arg-type]
    params = model(torch.rand(1, 3, 32, 48))["params"][0]
    limits = torch.tensor([0.3, 0.2, 0.1, 0.01, 0.03, 0.05, 0.06, 0.25])
    expected = torch.tensor([0.0] * 7 + [1.0]) + limits * (1 if bias > 0 else -1)
    torch.testing.assert_close(params, expected, atol=0, rtol=1e-6)


def test_mixing_may_not_break_the_bounds() -> None:
    model = HybridModel()
    torch.nn.init.normal_(model.parametric_head.mixing, std=100)
    torch.nn.init.normal_(model.parametric_head.votes.bias, std=100)  # type: ignore[arg-type]
    deviation = model(torch.rand(1, 3, 32, 48))["params"][0] - torch.tensor([0.0] * 7 + [1.0])
    bounds = torch.tensor([getattr(ParamBounds(), name) for name in PARAM_NAMES])
    assert (deviation.abs() <= bounds * (1 + 1e-6)).all()


def test_votes_are_weighted_by_their_precision() -> None:
    head = HybridModel().parametric_head
    torch.nn.init.eye_(head.mixing)
    channels = head.votes.in_channels
    with torch.no_grad():  # channel 0 is the value, channel 1 the log-precision, of every vote
        head.votes.weight[:8, 0] = 1
        head.votes.weight[8:, 1] = 1
    values, logs = torch.tensor([0.3, -0.2, 0.9, 0.1]), torch.tensor([0.0, 1.0, -2.0, 0.5])
    features = torch.zeros(1, channels, 2, 2)
    features[0, 0], features[0, 1] = values.view(2, 2), logs.view(2, 2)
    out = head(features, measure_edges(torch.zeros(1, 3, 16, 16), 64), (16, 16))
    precision = logs.exp()
    mean = (precision * values).sum() / precision.sum()
    torch.testing.assert_close(out["params_raw"], mean.expand(1, 8))
    kish = precision.sum() ** 2 / (precision**2).sum()
    torch.testing.assert_close(out["effective_votes"], kish.expand(1, 8))


def test_tiny_looks_at_one_sample_at_a_time() -> None:
    torch.manual_seed(0)
    model = HybridModel()
    torch.nn.init.normal_(model.parametric_head.votes.weight, std=0.1)
    image = torch.rand(4, 3, 64, 96)
    together = model(image)["params"]
    apart = torch.cat([model(one[None])["params"] for one in image])
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(50, 70), (16, 16), (1, 33)])
@pytest.mark.parametrize("backbone", ["tiny", "resnet34"])
def test_a_disabled_residual_is_the_flow_of_a_new_head(
    backbone: str, size: tuple[int, int]
) -> None:
    model = HybridModel(ModelConfig(backbone=backbone)).eval()  # type: ignore[arg-type]
    image = torch.rand(1, 3, *size)
    new = model(image)["residual_flow"]
    model.residual_enabled = False
    off = model(image)["residual_flow"]
    assert new.shape == off.shape == (1, 2, -(-size[0] // 16), -(-size[1] // 16))
    assert (new == 0).all()
    assert torch.equal(off, new)


@pytest.mark.parametrize("enabled", [False, True])
def test_every_parameter_that_trains_has_a_gradient(enabled: bool) -> None:
    model = HybridModel(residual_enabled=enabled)
    out = model(torch.rand(1, 3, 50, 70))
    (out["params"].sum() + out["residual_flow"].sum() + out["uncertainty"].sum()).backward()
    for name, parameter in model.named_parameters():
        used = enabled or not name.startswith("residual_head.")
        assert (parameter.grad is not None) == used, name


def test_residual_is_bounded() -> None:
    model = HybridModel(ModelConfig(residual_max_disp=0.5))
    torch.nn.init.normal_(model.residual_head.flow.weight, std=10)
    assert model(torch.rand(1, 3, 64, 96))["residual_flow"].abs().max() <= 0.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_under_autocast_the_lens_and_the_flow_are_float32(dtype: torch.dtype) -> None:
    model = HybridModel()
    torch.nn.init.normal_(model.parametric_head.votes.weight)
    with torch.autocast("cpu", dtype=dtype):
        out = model(torch.rand(1, 3, 48, 64))
    for name in ("params", "params_raw", "residual_flow"):
        assert out[name].dtype == torch.float32
        assert torch.isfinite(out[name]).all()


def test_a_forward_and_backward_pass_copies_nothing_to_the_host() -> None:
    model = HybridModel()
    image = torch.rand(2, 3, 32, 48)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        out = model(image)
        (out["params"].sum() + out["residual_flow"].sum() + out["uncertainty"].sum()).backward()
    names = {event.key for event in profile.key_averages()}
    assert "aten::conv2d" in names
    assert not names & {"aten::item", "aten::_local_scalar_dense", "aten::nonzero"}


def test_coordinate_channels_are_isotropic() -> None:
    x, y, r = coord_channels(31, 41)
    diagonal = math.hypot(30, 40)
    assert x[0, -1].item() == pytest.approx(40 / diagonal)
    assert y[-1, 0].item() == pytest.approx(30 / diagonal)
    assert r[0, 0].item() == pytest.approx(1)
    assert r[15, 20].item() == pytest.approx(0, abs=1e-6)
    # One pixel is as long across as down.
    assert (x[0, 1] - x[0, 0]).item() == pytest.approx((y[1, 0] - y[0, 0]).item())
    assert torch.isfinite(coord_channels(1, 1)).all()
