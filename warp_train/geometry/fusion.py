"""Lens grid and residual flow become one grid, so that the photo is resampled once."""

from torch import Tensor

from warp_train.geometry.coordinates import full_precision


@full_precision
def fuse_grids(param_grid: Tensor, residual: Tensor) -> Tensor:
    """Adds residual displacements to a lens grid: both `[B, H, W, 2]` in grid units.

    The lens maps each corrected pixel to a position in the photo; the residual displaces that
    position.
    """
    return param_grid + residual
