"""Lens and residual into one grid, so that the photo is resampled once."""

from torch import Tensor

from warp_train.geometry.coordinates import full_precision


@full_precision
def fuse_grids(param_grid: Tensor, residual: Tensor) -> Tensor:
    """Adds residual displacements to a lens grid: both `[B, H, W, 2]` in grid units.

    The residual moves the reading position in the photo, after the lens has placed it.
    """
    return param_grid + residual
