"""A small smooth warp on top of a lens, which the residual flow can learn.

The photo is read at `source(x) = lens(x + δ(x))`, where `δ` is a smooth random field on the
corrected frame. It imitates lens defects, warped prints and rolling shutters.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from warp_train.data.lenses import Array, Points, backward_map, half_extent

_NODES = (5, 7)
_INVERSION_STEPS = 6  # of x = z - δ(x): each multiplies the error by at most the slope of δ


def draw_local_warp(
    rng: np.random.Generator, strength: float, height: int, width: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """`δ` in pixels of the corrected frame, x and y, each float32 [H, W].

    Its longest vector is drawn between a third of `strength` and `strength`, in half diagonals.
    """
    field = rng.normal(size=(*_NODES, 2)).astype(np.float32)
    smooth = cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC)
    longest = float(np.hypot(smooth[..., 0], smooth[..., 1]).max())
    half_diagonal = 0.5 * float(np.hypot(height - 1, width - 1))
    smooth *= np.float32(rng.uniform(1 / 3, 1) * strength * half_diagonal / longest)
    return smooth[..., 0].copy(), smooth[..., 1].copy()


def before_the_lens(inverse: Points, delta: Points) -> Points:
    """The inverse of `x → lens(x + δ(x))`, from the inverse of the lens alone.

    Args:
        inverse: corrected position, in pixels, of every pixel of the photo, by the lens alone.
        delta: `δ` in pixels; outside the frame, the value at the border is used.

    Returns:
        Corrected position of every pixel of the photo, as `inverse`.
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
    """The complete warp as a backward grid in grid units, float32 [H, W, 2]."""
    half_x, half_y = half_extent(height, width)
    to_unit_x, to_unit_y = half_x / ((width - 1) / 2), half_y / ((height - 1) / 2)
    rows, columns = np.mgrid[:height, :width]
    x = (columns + delta[0]) * to_unit_x - half_x
    y = (rows + delta[1]) * to_unit_y - half_y
    source_x, source_y = backward_map(params, x, y)
    return np.stack((source_x / half_x, source_y / half_y), axis=-1).astype(np.float32)
