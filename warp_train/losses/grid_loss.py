"""Supervision by the warp itself, where it is known."""

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from warp_train.geometry import full_precision, identity_grid, isotropic_scale

GridLossKind: TypeAlias = Literal["epe", "squared", "balanced"]

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
        kind: `epe` for the mean of `e`, `squared` for the mean of `e²`, `balanced` as said.
    """
    # A sum is finite only if all its parts are: one pass instead of a mask over the grid.
    known = target_grid.flatten(1).sum(1).isfinite().view(-1, 1, 1, 1)
    # Replaced before the root: the gradient of a masked NaN would still be NaN.
    difference = torch.where(known, grid - target_grid, 0.0)
    scale_x, scale_y = isotropic_scale(*grid.shape[1:3])
    squared = (difference[..., 0] * scale_x).square() + (difference[..., 1] * scale_y).square()
    if kind == "squared":
        return 100**2 * squared.mean()
    error = 100 * ((squared + EPSILON**2).sqrt() - EPSILON)
    if kind == "epe":
        return error.mean()
    moved = torch.where(known, target_grid - identity_grid(*grid.shape[1:3], grid.device), 0.0)
    bend = 100 * (moved * moved.new_tensor((scale_x, scale_y))).square().sum(-1).mean((1, 2)).sqrt()
    return (error.mean((1, 2)) / (bend + LEAST_BEND).sqrt()).mean()
