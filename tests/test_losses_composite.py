"""The composite: what it computes, what it leaves out, and that it stays finite."""

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from warp_train.geometry import identity_grid
from warp_train.losses import CompositeLoss, LossConfig, composite
from warp_train.runtime.errors import WarpTrainError

FUNCTIONS = {
    "pixel": "pixel_loss",
    "ssim": "ssim_loss",
    "edge": "edge_loss",
    "line": "line_orientation_loss",
    "grad_orient": "gradient_orientation_loss",
    "grid": "grid_loss",
    "flow_tv": "flow_total_variation",
    "flow_mag": "flow_magnitude",
    "flow_curv": "flow_curvature",
    "jacobian": "jacobian_loss",
    "uncertainty": "uncertainty_loss",
}
"""The function in `composite` that computes each component."""

NEEDS_GRADIENTS = {"edge", "line", "grad_orient"}


def weighted(default: float = 0.0, **weights: float) -> LossConfig:
    keys = {f"{name}_weight": weights.get(name, default) for name in FUNCTIONS}
    return LossConfig().model_copy(update=keys)  # unchecked: also the uncertainty alone


def inputs(
    height: int = 40, width: int = 36, batch: int = 2, dtype: torch.dtype = torch.float32
) -> tuple[tuple[Tensor, Tensor], dict[str, Any]]:
    generator = torch.Generator().manual_seed(height * width)

    def noise(*shape: int) -> Tensor:
        return torch.rand(batch, *shape, generator=generator, dtype=torch.float64).to(dtype)

    grid = identity_grid(height, width, dtype=torch.float64).to(dtype)
    images = noise(3, height, width).requires_grad_(), noise(3, height, width)
    return images, {
        "final_grid": (grid + 0.1 * noise(height, width, 2)).requires_grad_(),
        "target_grid": grid.expand(batch, -1, -1, -1),
        "residual_flow": noise(2, 5, 4).requires_grad_(),
        "uncertainty": (1 + noise()).requires_grad_(),
    }


def test_total_is_the_weighted_sum_of_unweighted_components() -> None:
    images, geometric = inputs()
    weights = {name: 0.5 + index for index, name in enumerate(FUNCTIONS)}
    total, terms = CompositeLoss(weighted(**weights))(*images, **geometric)
    alone = {
        name: CompositeLoss(weighted(**{name: 1.0}))(*images, **geometric)[0].item()
        for name in FUNCTIONS
    }
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(alone, rel=1e-6)
    assert min(alone.values()) > 0
    expected = sum(weights[name] * alone[name] for name in FUNCTIONS)
    assert total.item() == pytest.approx(expected, rel=1e-6)


def forbid(monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    def computed(*_: Any) -> None:
        raise AssertionError(f"{function} was computed")

    monkeypatch.setattr(composite, function, computed)


@pytest.mark.parametrize("only", FUNCTIONS)
def test_nothing_of_weight_zero_is_computed(only: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images, geometric = inputs()
    for name, function in FUNCTIONS.items():
        if name != only:
            forbid(monkeypatch, function)
    if only not in NEEDS_GRADIENTS:
        forbid(monkeypatch, "gradient_field")
        if only != "ssim":
            forbid(monkeypatch, "luma")
    total, terms = CompositeLoss(weighted(**{only: 2.0}))(*images, **geometric)
    assert list(terms) == [only]
    total.backward()


def test_one_sobel_per_image_and_level(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    sobel = composite.gradient_field

    def counted(image: Tensor) -> Any:
        sizes.append(image.shape[-1])
        return sobel(image)

    monkeypatch.setattr(composite, "gradient_field", counted)
    images, _ = inputs(64, 64)
    CompositeLoss(LossConfig(pyramid_levels=3))(*images, final_grid=None)
    assert sorted(sizes) == [16, 16, 32, 32, 64, 64]


@pytest.mark.parametrize(
    ("component", "missing"),
    [
        ("grid", "target_grid"),
        ("grid", "final_grid"),
        ("jacobian", "final_grid"),
        ("flow_tv", "residual_flow"),
        ("flow_mag", "residual_flow"),
        ("flow_curv", "residual_flow"),
        ("uncertainty", "target_grid"),
        ("uncertainty", "final_grid"),
    ],
)
def test_a_missing_input_names_the_weight(component: str, missing: str) -> None:
    images, geometric = inputs()
    geometric[missing] = None
    with pytest.raises(WarpTrainError, match=rf"loss\.{component}_weight is 0\.2.*{missing}"):
        CompositeLoss(weighted(**{component: 0.2}))(*images, **geometric)


def test_different_shapes_are_named() -> None:
    (prediction, target), geometric = inputs()
    with pytest.raises(WarpTrainError, match=r"target_image .*40, 30\].*pred_image .*40, 36\]"):
        CompositeLoss(LossConfig())(prediction, target[..., :30], **geometric)
    geometric["target_grid"] = geometric["target_grid"][:1]
    with pytest.raises(WarpTrainError, match="target_grid"):
        CompositeLoss(weighted(grid=1.0))(prediction, target, **geometric)


@pytest.mark.parametrize("pixel_kind", ["l1", "charbonnier"])
def test_gradients_in_float64(pixel_kind: str) -> None:
    (prediction, target), geometric = inputs(34, 36, batch=1, dtype=torch.float64)
    config = weighted(1.0).model_copy(update={"pixel_kind": pixel_kind})
    loss = CompositeLoss(config)

    def total(image: Tensor, grid: Tensor, flow: Tensor) -> Tensor:
        return loss(
            image,
            target,
            final_grid=grid,
            target_grid=geometric["target_grid"],
            residual_flow=flow,
        )[0]

    variables = (prediction, geometric["final_grid"], geometric["residual_flow"])
    assert total(*variables).dtype == torch.float64
    assert torch.autograd.gradcheck(total, variables, fast_mode=True)


def test_the_uncertainty_gets_the_gradient_and_the_warp_does_not() -> None:
    (prediction, target), geometric = inputs(dtype=torch.float64)
    loss, uncertainty = CompositeLoss(weighted(uncertainty=0.7)), geometric.pop("uncertainty")

    def total(uncertainty: Tensor) -> Tensor:
        return loss(prediction, target, uncertainty=uncertainty, **geometric)[0]

    assert torch.autograd.gradcheck(total, uncertainty)
    total(uncertainty).backward()
    for leaf in (prediction, geometric["final_grid"], geometric["residual_flow"]):
        assert leaf.grad is None


def test_the_total_of_a_warp_without_uncertainty_can_be_compared() -> None:
    images, geometric = inputs()
    loss = CompositeLoss(weighted(1.0, grid=2.0, uncertainty=0.5))
    objective, terms = loss(*images, **geometric)
    geometric["uncertainty"] = None
    without, fewer = loss(*images, **geometric)
    assert terms.keys() - fewer.keys() == {"uncertainty"}
    assert torch.equal(loss.warp_total(terms), without)
    assert torch.equal(loss.warp_total(fewer), without)
    assert objective.item() == pytest.approx(
        without.item() + 0.5 * terms["uncertainty"].item(), rel=1e-6
    )


def test_where_no_warp_is_known_the_uncertainty_costs_nothing() -> None:
    images, geometric = inputs()
    geometric["target_grid"] = torch.full_like(geometric["target_grid"], torch.nan)
    _, terms = CompositeLoss(weighted(1.0))(*images, **geometric)
    assert terms["uncertainty"] == 0
    terms["uncertainty"].backward()
    assert geometric["uncertainty"].grad.count_nonzero() == 0


def test_mean_over_equal_shares_is_the_value_of_the_batch() -> None:
    (prediction, target), geometric = inputs(batch=4)
    # Samples of very different contrast: a mean over pooled pixels would weigh them differently.
    contrast = torch.tensor([1.0, 0.3, 0.05, 0.0]).view(4, 1, 1, 1)
    target = target * contrast
    geometric["target_grid"] = geometric["target_grid"].clone()
    geometric["target_grid"][1] = torch.nan
    loss = CompositeLoss(weighted(1.0))
    _, whole = loss(prediction, target, **geometric)
    shares = []
    for half in (slice(0, 2), slice(2, 4)):
        own = {name: value[half] for name, value in geometric.items()}
        shares.append(loss(prediction[half], target[half], **own)[1])
    for name, value in whole.items():
        mean = (shares[0][name] + shares[1][name]) / 2
        assert mean.item() == pytest.approx(value.item(), rel=1e-6), name


def test_nothing_is_copied_to_the_host() -> None:
    images, geometric = inputs()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        CompositeLoss(weighted(1.0))(*images, **geometric)[0].backward()
    called = {event.name for event in profile.events()}
    assert "aten::avg_pool2d" in called
    assert not called & {"aten::item", "aten::_local_scalar_dense", "aten::nonzero"}


def test_the_target_gets_no_gradient() -> None:
    (prediction, target), geometric = inputs()
    target.requires_grad_()
    CompositeLoss(weighted(1.0))(prediction, target, **geometric)[0].backward()
    assert target.grad is None


def test_autocast_changes_nothing() -> None:
    images, geometric = inputs()
    loss = CompositeLoss(weighted(1.0))
    plain, _ = loss(*images, **geometric)
    with torch.autocast("cpu", torch.bfloat16):
        mixed, terms = loss(*images, **geometric)
    assert all(term.dtype == torch.float32 for term in terms.values())
    assert torch.equal(plain, mixed)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_inputs_are_raised_first(dtype: torch.dtype) -> None:
    images, geometric = inputs(dtype=dtype)
    loss = CompositeLoss(weighted(1.0))
    raised = {name: value.float() for name, value in geometric.items()}
    exact, _ = loss(*(image.float() for image in images), **raised)
    assert torch.equal(loss(*images, **geometric)[0], exact)


FILLS = {"zeros": 0.0, "ones": 1.0, "grey": 0.3, "noise": None}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("size", [(1, 1), (1, 37), (37, 1), (2, 3), (40, 36)], ids=str)
@pytest.mark.parametrize("predicted", FILLS)
@pytest.mark.parametrize("targeted", FILLS)
def test_values_and_gradients_are_finite(
    predicted: str, targeted: str, size: tuple[int, int], dtype: torch.dtype
) -> None:
    (prediction, target), geometric = inputs(*size, dtype=dtype)
    with torch.no_grad():
        for image, fill in ((prediction, FILLS[predicted]), (target, FILLS[targeted])):
            if fill is not None:
                image.fill_(fill)
    total, terms = CompositeLoss(weighted(1.0))(prediction, target, **geometric)
    total.backward()
    for name, term in terms.items():
        assert term.isfinite(), name
    predicted = (geometric[name] for name in ("final_grid", "residual_flow", "uncertainty"))
    for leaf in (prediction, *predicted):
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()


def test_a_flat_target_says_nothing_about_orientation() -> None:
    (prediction, target), _ = inputs()
    loss = CompositeLoss(weighted(line=1.0, grad_orient=1.0))
    _, terms = loss(prediction, torch.full_like(target, 0.5), final_grid=None)
    assert {name: term.item() for name, term in terms.items()} == {"line": 0, "grad_orient": 0}


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"edge_weight": -0.1}, "edge_weight"),
        ({"edges_weight": 0.1}, "edges_weight"),
        ({"pixel_kind": "l2"}, "pixel_kind"),
        ({"ssim_window": 7}, "ssim_window"),
        ({"pyramid_levels": 0}, "pyramid_levels"),
        ({"jacobian_margin": 1.0}, "jacobian_margin"),
        ({f"{name}_weight": 0.0 for name in FUNCTIONS}, "at least one"),
        (
            {f"{name}_weight": float(name == "uncertainty") for name in FUNCTIONS},
            "other than uncertainty_weight",
        ),
    ],
)
def test_bad_configurations_name_the_key(keys: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        LossConfig.model_validate(keys)


def test_every_key_is_documented() -> None:
    assert all(field.description for field in LossConfig.model_fields.values())
