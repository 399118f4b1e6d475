"""Grey frames of a pair at several resolutions, and the positions of pixels in half diagonals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np

from warp_train.registration.field import Plane

_SOFTENING = 0.8
"""Standard deviation of the blur, in px. Bilinear interpolation is nearly exact in a picture this
smooth, and the noise of the sensor and of JPEG is reduced."""
_LEAST_LONG_SIDE = 48
"""Least long side of the smallest frame, in px."""
_LEAST_SIDE = 8
_WINDOWS = 3
"""Windows of `surroundings` along the long side."""
_MOST_POINTS = 60_000
"""Most pixels that are compared: more take longer and hardly add precision."""


FLAT = 0.01
"""Contrast, in grey levels of 0..1, below which a picture shows only noise. It is added to the
contrast before a division by it, so that noise is not amplified."""


class Geometry(NamedTuple):
    """A frame's size in pixels, and the full photo's half diagonal in pixels of this frame.

    The half diagonal of a reduced frame itself differs from this: its outermost pixel centres are
    at other positions than those of the full photo.
    """

    height: int
    width: int
    unit_x: float
    unit_y: float


@dataclass(frozen=True)
class Frames:
    """A pair at one resolution, grey float32 in 0..1."""

    bent: Plane
    """`[height, width, 3]`: the distorted photo and its derivatives in x and y, per pixel."""
    straight: Plane
    """`[h, w]`: every `stride`-th pixel of the straight photo, in both directions."""
    surroundings: tuple[Plane, Plane]
    """Mean and standard deviation around each pixel of `straight`, each `[h, w]`."""
    geometry: Geometry
    stride: int

    def points(self) -> tuple[Plane, Plane]:
        """Positions of `straight`'s pixels from the centre, in half diagonals, each `[h, w]`."""
        return lattice(self.geometry, self.stride)


def pyramid(bent: Plane, straight: Plane, full: tuple[int, int], longest: int) -> list[Frames]:
    """The pair at sizes that double from one level to the next, the smallest first.

    Args:
        bent, straight: grey in 0..1, of equal shape; they may have been reduced while decoding.
        full: (height, width) of the photos in full size.
        longest: most pixels of the long side of the last level.
    """
    side = float(min(max(bent.shape), longest))
    levels: list[Frames] = []
    while side >= _LEAST_LONG_SIDE or not levels:
        bent, straight = (_reduced(plane, side) for plane in (bent, straight))
        levels.append(_frames(bent, straight, full))
        side /= 2
    return levels[::-1]


def _reduced(plane: Plane, side: float) -> Plane:
    height, width = plane.shape
    factor = side / max(height, width)
    if factor >= 1:
        return plane
    size = (max(round(width * factor), _LEAST_SIDE), max(round(height * factor), _LEAST_SIDE))
    return as_plane(cv2.resize(plane, size, interpolation=cv2.INTER_AREA))


def _frames(bent: Plane, straight: Plane, full: tuple[int, int]) -> Frames:
    (height, width), (tall, wide) = bent.shape, full
    half = 0.5 * float(np.hypot(wide - 1, tall - 1))
    soft, target = (cv2.GaussianBlur(plane, (5, 5), _SOFTENING) for plane in (bent, straight))
    across, down = (
        cv2.Scharr(soft, cv2.CV_32F, *order, scale=1 / 32) for order in ((1, 0), (0, 1))
    )
    stride = math.ceil(math.sqrt(height * width / _MOST_POINTS))
    sampled = as_plane(np.ascontiguousarray(target[::stride, ::stride]))
    return Frames(
        as_plane(cv2.merge([soft, across, down])),
        sampled,
        surroundings(sampled),
        Geometry(height, width, half * width / wide, half * height / tall),
        stride,
    )


@lru_cache(maxsize=32)
def lattice(geometry: Geometry, stride: int = 1) -> tuple[Plane, Plane]:
    """Positions of every `stride`-th pixel from the frame's centre, in half diagonals."""
    height, width, unit_x, unit_y = geometry
    y, x = np.mgrid[:height:stride, :width:stride].astype(np.float32)
    return (
        (x - np.float32((width - 1) / 2)) / np.float32(unit_x),
        (y - np.float32((height - 1) / 2)) / np.float32(unit_y),
    )


def surroundings(plane: Plane) -> tuple[Plane, Plane]:
    """Mean and standard deviation around each pixel, in windows of a third of the long side."""
    side = max(max(plane.shape) // _WINDOWS | 1, 7)
    mean = as_plane(cv2.blur(plane, (side, side)))
    square = as_plane(cv2.blur(plane * plane, (side, side)))
    return mean, np.sqrt(np.maximum(square - mean * mean, 0))


def to_pixels(x: Plane, y: Plane, geometry: Geometry) -> tuple[Plane, Plane]:
    """Positions in pixels of the frame, from positions in half diagonals."""
    height, width, unit_x, unit_y = geometry
    return (
        x * np.float32(unit_x) + np.float32((width - 1) / 2),
        y * np.float32(unit_y) + np.float32((height - 1) / 2),
    )


def as_plane(array: Any) -> Plane:
    """The array that OpenCV returns for a float32 image, with its type."""
    plane: Plane = array
    return plane
