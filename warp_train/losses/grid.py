"""Supervision by the warp itself, where it is known."""

from typing import Any

import torch
from torch import Tensor

from warp_train.geometry import full_precision, identity_grid, isotropic_scale, planes
from warp_train.losses.config import GridLossKind
from warp_train.losses.scales import mean, per_sample_mean

EPSILON = 1e-6
"""In isotropic units, under a thousandth of a pixel: makes the root smooth at a perfect grid."""

LEAST_BEND = 0.5
"""In % of the half diagonal: below, `balanced` treats all samples alike."""


@full_precision
def grid_loss(grid: Tensor, target_grid: Tensor, kind: GridLossKind = "epe") -> Tensor:
    """Mean end-point error `e = 100 |prediction - target|` in % of the half diagonal, or `e²`.

    `balanced` divides each sample's error by `√(b + 0.5)`, `b` the root mean square of what its
    warp moves in the same unit: half a pixel counts for more in a photo that is hardly bent than in
    one that is bent by ten, and neither kind of lens is learned at the other's cost.

    Lengths are taken in isotropic units, in which a corner lies at radius 1. Samples with a
    non-finite value in their target grid are unknown warps: they add 0 to the sum and 1 to the
    count, so that the mean over processes is the mean over the global batch.

    Args:
        grid: `[B, H, W, 2]` in grid units.
        target_grid: the same shape.
        kind: `epe` for the mean of `e`, `squared` for the mean of `e²`, `balanced` as above.
    """
    # A sum is finite only if all its parts are: one pass instead of a mask over the grid.
    known = target_grid.sum((1, 2, 3)).isfinite().view(-1, 1, 1)
    scale = isotropic_scale(*grid.shape[1:3])
    squared: Tensor = _SquaredDistance.apply(grid, target_grid, known, scale)
    if kind == "squared":
        return 100**2 * mean(squared)
    error = 100 * ((squared + EPSILON**2).sqrt() - EPSILON)
    if kind == "epe":
        return mean(error)
    still = identity_grid(*grid.shape[1:3], grid.device, grid.dtype)
    moved = _SquaredDistance.apply(target_grid, still, known, scale)
    bend = 100 * moved.mean((1, 2)).sqrt()
    balanced: Tensor = (per_sample_mean(error) / (bend + LEAST_BEND).sqrt()).mean()
    return balanced


class _SquaredDistance(torch.autograd.Function):
    """`|grid - target|²` in isotropic units, `[B, H, W]`; 0 where `known` is false."""

    @staticmethod
    def forward(
        ctx: Any, grid: Tensor, target: Tensor, known: Tensor, scale: tuple[float, float]
    ) -> Tensor:
        pairs = zip(grid.unbind(-1), target.unbind(-1), scale, strict=True)
        # Replaced before anything else: the gradient of a masked NaN would still be NaN.
        off_x, off_y = (torch.where(known, g - t, 0.0).mul_(factor) for g, t, factor in pairs)
        ctx.save_for_backward(off_x, off_y)
        ctx.scale = scale
        return (off_x * off_x).addcmul_(off_y, off_y)

    @staticmethod
    def backward(ctx: Any, by_square: Tensor) -> tuple[Tensor, None, None, None]:
        off_x, off_y = ctx.saved_tensors
        scale_x, scale_y = ctx.scale
        by_x = (by_square * off_x).mul_(2 * scale_x)
        return planes(by_x, (by_square * off_y).mul_(2 * scale_y)), None, None, None
