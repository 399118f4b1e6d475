"""How a photo's pixels were changed: what its metadata have to follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from warp_train.photos.exif import Box, Points
from warp_train.photos.pixels import Pixels

_BORDER = np.array(
    ((0, 0), (0.5, 0), (1, 0), (1, 0.5), (1, 1), (0.5, 1), (0, 1), (0, 0.5), (0.5, 0.5)), float
)


@dataclass(frozen=True)
class Change:
    """The warp and the crop of an upright photo. Positions have the outer edges at 0 and W."""

    move: Callable[[Points], Points]
    """Positions `[n, 2]` in pixels of the upright photo → of the result."""
    companion: Callable[[Pixels], Pixels]
    """A smaller upright picture of the same view, such as a gain map, changed in the same way."""
    corrected: bool
    """Whether a lens correction was applied, which the XMP of the result then marks."""


def moved_box(
    box: Box,
    stored: tuple[int, int],
    orientation: int,
    result: tuple[int, int],
    change: Change,
    *,
    to_border: bool = False,
) -> Box | None:
    """The bounds of a box of the stored picture in the result; None if it lies outside.

    Args:
        box: in pixels of the stored picture.
        stored: (width, height) of the stored picture.
        orientation: EXIF's, 1..8, by which the picture is rotated upright.
        result: (width, height) of the result.
        change: what happens to the upright picture.
        to_border: a box outside is moved to the border instead, for corners of a larger shape.
    """
    if not np.isfinite(box).all():
        return None
    corner, size = np.array(box[:2]), np.array((box[2] - box[0], box[3] - box[1]))
    points = change.move(upright_points(corner + _BORDER * size, stored, orientation))
    if not np.isfinite(points).all():
        return None
    left, top = points.min(0)
    right, bottom = points.max(0)
    if not to_border and (right < 0 or bottom < 0 or left > result[0] or top > result[1]):
        return None
    edges = np.clip((left, top, right, bottom), 0, (*result, *result))
    return tuple(float(edge) for edge in edges)  # type: ignore[return-value]


def upright_points(points: Points, stored: tuple[int, int], orientation: int) -> Points:
    """Positions `[n, 2]` of a stored picture in the picture that is rotated upright."""
    width, height = stored
    x, y = points[:, 0], points[:, 1]
    turned = {
        2: (width - x, y),
        3: (width - x, height - y),
        4: (x, height - y),
        5: (y, x),
        6: (height - y, x),
        7: (height - y, width - x),
        8: (y, width - x),
    }.get(orientation, (x, y))
    return np.stack(turned, axis=1)


UNCHANGED = Change(move=lambda points: points, companion=lambda picture: picture, corrected=False)
"""Of a photo that is encoded again with the same pixels."""
