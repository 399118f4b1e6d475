"""A small smooth warp on top of a lens: what is left for the residual flow to learn.

A photo is then read at `source(x) = lens(x + δ(x))`, where `δ` is a smooth random field on the
corrected frame: a field-dependent defect, a bulging print, a rolling shutter's wobble.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from warp_train.data.lenses import Array, Points, backward_map, half_extent

_NODES = (5, 7)
_INVERSION_STEPS = 6  # of x = z - δ(x): each leaves a fraction of the field's slope


def draw_local_warp(
    rng: np.random.Generator, strength: float, height: int, width: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """`δ` in pixels of the corrected frame, x and y, each float32 [H, W].

    `strength`: its largest length, as a share of the half diagonal; drawn between a third and all
    of that.
    """
    field = rng.normal(size=(*_NODES, 2)).astype(np.float32)
    smooth = cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC)
    longest = float(np.hypot(smooth[..., 0], smooth[..., 1]).max())
    half_diagonal = 0.5 * float(np.hypot(height - 1, width - 1))
    smooth *= np.float32(rng.uniform(1 / 3, 1) * strength * half_diagonal / longest)
    return smooth[..., 0].copy(), smooth[..., 1].copy()


def before_the_lens(inverse: Points, delta: Points) -> Points:
    """The inverse of `x → lens(x + δ(x))`, from the lens's own.

    Args:
        inverse: corrected pixel position of every pixel of the photo, for the lens alone.
        delta: `δ` in pixels; outside the frame it is that of the border.
    """
    x, y = (part.astype(np.float32) for part in inverse)
    at_x, at_y = x, y
    for _ in range(_INVERSION_STEPS):
        moved = [
            cv2.remap(part, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            for part in delta
        ]
        at_x, at_y = x - moved[0], y - moved[1]
    return at_x, at_y


def local_grid(params: Array, delta: Points, height: int, width: int) -> NDArray[np.float32]:
    """The whole warp as a backward grid in grid units, float32 [H, W, 2]."""
    half_x, half_y = half_extent(height, width)
    to_unit_x, to_unit_y = half_x / ((width - 1) / 2), half_y / ((height - 1) / 2)
    rows, columns = np.mgrid[:height, :width]
    x = (columns + delta[0]) * to_unit_x - half_x
    y = (rows + delta[1]) * to_unit_y - half_y
    source_x, source_y = backward_map(params, x, y)
    return np.stack((source_x / half_x, source_y / half_y), axis=-1).astype(np.float32)
