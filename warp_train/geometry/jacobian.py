"""How a warp stretches and folds, from finite differences between neighbouring pixels."""

import math
from typing import Any

import torch
from torch import Tensor

from warp_train.geometry.coordinates import full_precision


@full_precision
def jacobian_determinant(grid: Tensor) -> Tensor:
    """Area in the photo that each pixel cell is read from, relative to the cell's own area.

    Args:
        grid: `[B, H, W, 2]`.

    Returns:
        `[B, H-1, W-1]`; 1 for the identity, negative where the warp folds over. A frame with a
        side of one pixel has no cells and cannot fold: the result is `[B, 1, 1]` ones.
    """
    height, width = grid.shape[1:3]
    if height < 2 or width < 2:
        return grid.new_ones(len(grid), 1, 1)
    determinant: Tensor = _Determinant.apply(grid)
    return determinant


class _Determinant(torch.autograd.Function):
    """`∂x/∂i ∂y/∂j - ∂y/∂i ∂x/∂j` by forward differences along the columns i and the rows j.

    Grid units differ between the axes: the mixed terms contain (H-1)/(W-1) and its inverse, which
    cancel in their product. The gradient is written by hand, since autograd is slow for slices.
    """

    @staticmethod
    def forward(ctx: Any, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        (x_i, x_j), (y_i, y_j) = (_differences(part) for part in grid.unbind(-1))
        return (x_i * y_j).sub_(y_i * x_j).mul_(_cells(grid))

    @staticmethod
    def backward(ctx: Any, by_determinant: Tensor) -> Tensor:
        (grid,) = ctx.saved_tensors
        (x_i, x_j), (y_i, y_j) = (_differences(part) for part in grid.unbind(-1))
        by_determinant = by_determinant * _cells(grid)
        by_grid = torch.zeros_like(grid)
        by_x, by_y = by_grid.unbind(-1)
        _undo_differences(by_x, by_determinant * y_j, y_i.mul_(by_determinant).neg_())
        _undo_differences(by_y, x_j.mul_(by_determinant).neg_(), x_i.mul_(by_determinant))
        return by_grid


def _cells(grid: Tensor) -> float:
    """Factor from squared grid units to pixel cells."""
    height, width = grid.shape[1:3]
    return (height - 1) * (width - 1) / 4


def _differences(part: Tensor) -> tuple[Tensor, Tensor]:
    corner = part[:, :-1, :-1]
    return part[:, :-1, 1:] - corner, part[:, 1:, :-1] - corner


def _undo_differences(by_part: Tensor, by_i: Tensor, by_j: Tensor) -> None:
    """The adjoint of `_differences`: adds their gradients `by_i` and `by_j` to `by_part`."""
    by_part[:, :-1, 1:] += by_i
    by_part[:, 1:, :-1] += by_j
    by_part[:, :-1, :-1] -= by_i + by_j


def out_of_bounds(grid: Tensor) -> Tensor:
    """`[B, H, W]` mask of pixels that are read outside the photo by more than rounding."""
    x, y = grid.abs().unbind(-1)
    return torch.maximum(x, y) > 1 + 1e-5


def jacobian_stats(grid: Tensor) -> dict[str, Tensor]:
    """Fold-over and coverage statistics per sample, as `[B]` tensors on the grid's device.

    Args:
        grid: `[B, H, W, 2]`.

    Returns:
        `negative_det_pct` (0..100, share of folded cells), `det_min`, `det_p01` (first
        percentile), `det_mean`, and `oob_ratio` (0..1, share of pixels read outside the photo).
    """
    det = jacobian_determinant(grid).flatten(1)
    rank = math.ceil(0.01 * det.shape[1])
    return {
        "negative_det_pct": 100 * (det <= 0).float().mean(1),
        "det_min": det.amin(1),
        "det_p01": torch.kthvalue(det, rank, dim=1).values,
        "det_mean": det.mean(1),
        "oob_ratio": out_of_bounds(grid).float().mean(dim=(1, 2)),
    }
