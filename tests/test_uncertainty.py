"""The expected error: learned from the errors, given with each warp, and acted on."""

import pytest
import torch

from warp_train.geometry import IDENTITY_PARAMS, half_diagonal, percent_to_px
from warp_train.inference.fallback import choose_warp, moved_px, reliable_share
from warp_train.inference.photo_warp import PhotoWarp
from warp_train.losses import uncertainty_loss
from warp_train.models import HybridModel

BENT = torch.tensor([-0.05, 0, 0, 0, 0, 0, 0, 1.0], dtype=torch.float64)


def test_the_loss_is_smallest_where_the_uncertainty_is_the_mean_error() -> None:
    errors = torch.tensor([0.2, 0.5, 1.1, float("nan")])
    mean = errors[:3].mean().item()
    uncertainty = torch.full((4,), mean, requires_grad=True)
    least = uncertainty_loss(uncertainty, errors)
    least.backward()  # type: ignore[no-untyped-call]
    assert uncertainty.grad is not None
    assert uncertainty.grad.sum().item() == pytest.approx(0, abs=1e-6)
    assert uncertainty.grad[3] == 0
    for other in (0.7 * mean, 1.4 * mean):
        assert uncertainty_loss(torch.full((4,), other), errors) > least


def test_training_the_uncertainty_leaves_the_lens_alone() -> None:
    model = HybridModel()
    torch.nn.init.normal_(model.parametric_head.uncertainty.out.weight)
    with torch.no_grad():  # gates that let gradients through, were there any
        model.parametric_head.plumb_line.gates.fill_(0.01)
    model(torch.rand(2, 3, 64, 96))["uncertainty"].sum().backward()
    touched = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert touched
    assert all(name.startswith("parametric_head.uncertainty.") for name in touched)


def test_how_far_a_warp_moves_is_its_mean_displacement() -> None:
    shift = torch.tensor([0, 0, 0, 0, 0, 0, 0, 1 / 0.9], dtype=torch.float64)
    # A zoom by 0.9 moves a pixel at distance d by d/10.
    height, width = 201, 301
    y, x = torch.meshgrid(torch.arange(-100.0, 101), torch.arange(-150.0, 151), indexing="ij")
    expected = 0.1 * torch.hypot(x, y).mean().item()
    assert moved_px(PhotoWarp(shift), height, width) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("relative", [0.0, 0.5, 0.99, 1.01, 12.0])
def test_a_warp_is_weakened_by_its_expected_error_and_left_out_beyond_its_displacement(
    relative: float,
) -> None:
    height, width = 320, 480
    moved = moved_px(PhotoWarp(BENT), height, width)
    expected = relative * moved / half_diagonal(height, width) * 100
    chosen = choose_warp(PhotoWarp(BENT, None, expected), height, width)
    assert percent_to_px(expected, height, width) == pytest.approx(relative * moved)
    if relative < 1:
        assert chosen.mode == "lens"
        share = 1 - relative**2
        assert moved_px(chosen.warp, height, width) == pytest.approx(share * moved, rel=0.01)
        assert torch.equal(chosen.warp.params, BENT) == (relative == 0)
    else:
        assert chosen.mode == "unchanged"
        assert chosen.warp.is_identity
        assert all("expected to be wrong by" in line for line in chosen.refused)
        assert len(chosen.refused) == 2


@pytest.mark.parametrize(("true", "error"), [(3.0, 1.0), (1.0, 1.0), (0.5, 2.0), (0.0, 1.0)])
def test_the_reliable_share_is_the_best_multiple_of_noisy_predictions(
    true: float, error: float
) -> None:
    random = torch.Generator().manual_seed(0)
    truth = torch.randn(200_000, 2, generator=random, dtype=torch.float64) * true
    noise = torch.randn(200_000, 2, generator=random, dtype=torch.float64) * error
    predicted = truth + noise
    best = (truth * predicted).sum() / predicted.square().sum()  # least squares
    rms = [part.square().sum(1).mean().sqrt().item() for part in (predicted, noise)]
    assert reliable_share(*rms) == pytest.approx(best.item(), abs=0.01)


def test_the_reliable_share_has_limits() -> None:
    assert reliable_share(0.0, 0.0) == 1
    assert reliable_share(0.0, 1.0) == 0
    assert reliable_share(1.0, float("inf")) == 0
    assert reliable_share(1.0, 2.0) == 0


@pytest.mark.parametrize(("displaced", "mode"), [(1.1, "hybrid"), (0.9, "unchanged")])
def test_the_residual_counts_in_the_displacement(displaced: float, mode: str) -> None:
    height, width = 320, 480
    lens = torch.tensor(IDENTITY_PARAMS, dtype=torch.float64)
    residual = torch.zeros(8, 12, 2)
    residual[..., 0] = displaced * 2 / (width - 1)  # px to grid units
    warp = PhotoWarp(lens, residual, 100 / half_diagonal(height, width))  # expected error: 1 px
    assert choose_warp(warp, height, width).mode == mode
