"""Where a pixel is: x, y and r, as channels beside the photo."""

import functools

import torch
from torch import Tensor

from warp_train.geometry import identity_grid, isotropic_scale

NUM_COORD_CHANNELS = 3


@functools.lru_cache(maxsize=32)
def coord_channels(height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """Position in isotropic units, `[3, H, W]` float32: x, y and the radius (1 in a corner).

    Cached: do not write into it.
    """
    grid = identity_grid(height, width, device)
    position = (grid * grid.new_tensor(isotropic_scale(height, width))).permute(2, 0, 1)
    return torch.cat((position, position.norm(dim=0, keepdim=True)))
