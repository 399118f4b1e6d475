"""Regularisers of the flow, the fold-over penalty and the grid term against closed forms."""

import math

import pytest
import torch
from torch import Tensor

from warp_train.geometry import identity_grid
from warp_train.losses import (
    flow_curvature,
    flow_magnitude,
    flow_total_variation,
    grid_loss,
    jacobian_loss,
)

FLOW_TERMS = (flow_total_variation, flow_magnitude, flow_curvature)


def pixels(height: int, width: int) -> tuple[Tensor, Tensor]:
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float64),
        torch.arange(width, dtype=torch.float64),
        indexing="ij",
    )
    return x, y


def grid(height: int = 20, width: int = 33) -> Tensor:
    return identity_grid(height, width, dtype=torch.float64)[None].clone()


def test_total_variation_of_a_linear_flow_is_the_sum_of_its_slopes() -> None:
    x, y = pixels(6, 9)
    flow = torch.stack([0.5 * x - 2 * y, 0.25 * y])[None]
    assert float(flow_total_variation(flow)) == pytest.approx(2.75)


def test_total_variation_of_a_step_is_its_height_per_row() -> None:
    x, _ = pixels(4, 11)
    flow = torch.stack([3.0 * (x >= 5), torch.zeros_like(x)])[None]
    assert float(flow_total_variation(flow)) == pytest.approx(3 / 10)


def test_magnitude_of_a_constant_flow_is_its_squared_length() -> None:
    flow = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1).expand(2, 2, 5, 7)
    assert float(flow_magnitude(flow)) == pytest.approx(25)


def test_curvature_of_a_quadratic_flow_is_its_bending_energy() -> None:
    x, y = pixels(7, 8)
    zero = torch.zeros_like(x)
    affine = torch.stack([3 * x - y + 1, x + 2 * y])[None]
    assert float(flow_curvature(affine)) == pytest.approx(0, abs=1e-20)
    # f_xx = 2a, f_xy = b, f_yy = 2c: 4a² + 2b² + 4c².
    bent = torch.stack([0.5 * x**2 + 0.3 * x * y, zero])[None]
    assert float(flow_curvature(bent)) == pytest.approx(4 * 0.25 + 2 * 0.09)
    assert float(flow_curvature(torch.stack([zero, -0.2 * y**2])[None])) == pytest.approx(0.16)


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (6, 1), (2, 2)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_flow_terms_are_finite_on_the_smallest_grids(
    size: tuple[int, int], dtype: torch.dtype
) -> None:
    for term in FLOW_TERMS:
        flow = torch.zeros(2, 2, *size, dtype=dtype, requires_grad=True)
        loss = term(flow)
        loss.backward()
        assert loss.dtype == torch.float32
        assert loss.item() == 0
        assert flow.grad is not None
        assert flow.grad.isfinite().all()


def test_fold_over_penalty_is_the_missing_area() -> None:
    assert float(jacobian_loss(grid(), 0.1)) == 0
    assert float(jacobian_loss(0.2 * grid(), 0.1)) == pytest.approx(0.1 - 0.04)
    mirrored = grid() * torch.tensor([-1.0, 1.0])
    assert float(jacobian_loss(mirrored, 0.1)) == pytest.approx(1.1)
    assert float(jacobian_loss(mirrored, 0.0)) == pytest.approx(1)


def test_one_fold_pushes_back_apart() -> None:
    folded = grid(4, 5)
    folded[0, :, 2, 0], folded[0, :, 3, 0] = folded[0, :, 3, 0].clone(), folded[0, :, 2, 0].clone()
    folded.requires_grad_()
    jacobian_loss(folded, 0.1).backward()
    assert folded.grad is not None
    unfolding = -folded.grad[0, 1, :, 0]
    assert unfolding[2] < 0 < unfolding[3]


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)])
def test_frames_without_cells_cannot_fold(size: tuple[int, int]) -> None:
    assert float(jacobian_loss(torch.zeros(1, *size, 2), 0.1)) == 0


def test_grid_loss_is_the_pixel_distance_in_percent_of_the_half_diagonal() -> None:
    true, (dx, dy) = grid(61, 81), (1.5, -2.0)
    shifted = true + torch.tensor([dx * 2 / 80, dy * 2 / 60])
    # 61×81 pixel centres span 60×80: the half diagonal is 50 px.
    expected = 100 * math.hypot(dx, dy) / 50
    assert float(grid_loss(shifted, true)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("unknown", [math.nan, math.inf, -math.inf])
def test_unknown_warps_add_nothing_but_count(unknown: float) -> None:
    true = grid().repeat(2, 1, 1, 1)
    predicted = (true + 0.1).requires_grad_()
    both = grid_loss(predicted, true)
    true[1, 3, 4, 0] = unknown
    half = grid_loss(predicted, true)
    half.backward()
    assert half.item() == pytest.approx(both.item() / 2)
    assert predicted.grad is not None
    assert predicted.grad[0].abs().min() > 0
    assert (predicted.grad[1] == 0).all()


def test_squared_grid_loss_of_a_uniform_shift_is_the_square_of_the_distance() -> None:
    true = grid(9, 13)
    shifted = true + true.new_tensor((0.1, -0.05))
    distance = grid_loss(shifted, true)
    squared = float(grid_loss(shifted, true, "squared"))
    assert squared == pytest.approx(float(distance) ** 2, rel=1e-4)


@pytest.mark.parametrize("fill", [math.nan, 0.0])
def test_grid_loss_gradient_is_finite_at_unknown_and_at_perfect_grids(fill: float) -> None:
    predicted = torch.zeros(1, 1, 1, 2, requires_grad=True)
    loss = grid_loss(predicted, torch.full((1, 1, 1, 2), fill))
    loss.backward()
    assert loss.item() == 0
    assert predicted.grad is not None
    assert (predicted.grad == 0).all()


def test_gradients_of_the_geometric_terms() -> None:
    generator = torch.Generator().manual_seed(0)
    flow = torch.randn(2, 2, 4, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    for term in FLOW_TERMS:
        assert torch.autograd.gradcheck(term, (flow,))
    noise = torch.rand(1, 5, 6, 2, generator=generator, dtype=torch.float64)
    wild = (grid(5, 6) + noise).requires_grad_()
    assert torch.autograd.gradcheck(lambda g: jacobian_loss(g, 0.5), (wild,))
    for kind in ("epe", "squared", "balanced"):
        assert torch.autograd.gradcheck(
            lambda g, k=kind: grid_loss(g, 0.9 * grid(5, 6), k), (wild,)
        )
