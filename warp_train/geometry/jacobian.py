"""How a warp stretches and folds, from finite differences between neighbouring pixels."""

import math

import torch
from torch import Tensor

from warp_train.geometry.coordinates import full_precision


@full_precision
def jacobian_determinant(grid: Tensor) -> Tensor:
    """Area that each pixel cell takes up in the photo, relative to its own: 1 for the identity.

    Args:
        grid: `[B, H, W, 2]`.

    Returns:
        `[B, H-1, W-1]`; negative where the warp folds over. A frame with a side of one pixel has
        no cells and cannot fold: it gives `[B, 1, 1]` ones.
    """
    height, width = grid.shape[1:3]
    if height < 2 or width < 2:
        return grid.new_ones(len(grid), 1, 1)
    corner = grid[:, :-1, :-1]
    across = (grid[:, :-1, 1:] - corner) * ((width - 1) / 2)
    down = (grid[:, 1:, :-1] - corner) * ((height - 1) / 2)
    # Grid units differ between the axes: the mixed terms carry (H-1)/(W-1) and its inverse, which
    # cancel in their product.
    return across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0]


def out_of_bounds(grid: Tensor) -> Tensor:
    """`[B, H, W]` mask of pixels that read outside the photo, by more than rounding."""
    return grid.abs().amax(-1) > 1 + 1e-5


def jacobian_stats(grid: Tensor) -> dict[str, Tensor]:
    """Fold-over and coverage figures per sample, as `[B]` tensors on the grid's device.

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
