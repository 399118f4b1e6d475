"""Lenses in Adobe's camera model, the one of lens profiles (LCP).

With `x` a corrected position and `x_d` the position in the photo, both relative to the lens's
centre and in units of a focal length `F`, and `P = (k5, k4)`:

    x_d = x (1 + k1 r² + k2 r⁴ + k3 r⁶) + 2 (P·x) x + r² P

Source: S. Chen, H. Jin, J. Chien, E. Chan, D. Goldman, "Adobe Camera Model", technical report,
2010. It is this package's model (`warp_train.geometry.lens_grid`) with the zoom 1: for `F` = half
the diagonal, `k1, k2, k3`, `k4 = p1`, `k5 = p2` and the centre are ours, unchanged. Corrected
photos are those of `s` = 1: ours, magnified `1/s` times about the lens's centre.

Adobe's newer profiles also have a ScaleFactor `a`, `x_d = a x (1 + k1 r² + …)`. With `a = 1/s` and
`F` = half the diagonal, it would hold `s` as `k1/s², k2/s⁴, k3/s⁶, p/s`. But RawTherapee ignores it
(5.9, measured), and these coefficients without the factor are those of another lens. The zoom is
therefore left to the reading program, which zooms to fill the frame anyway.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from warp_train.export.lensfun_fit import RadialCurve, frame_corner, radial_curve
from warp_train.export.photo_lens import PhotoLens

Array = NDArray[np.floating[Any]]
Pair = tuple[float, float]

_TURNED = (5, 6, 7, 8)
"""EXIF orientations that exchange height and width."""
_STORED_AXES: dict[int, tuple[Pair, Pair]] = {
    1: ((1, 0), (0, 1)),
    2: ((-1, 0), (0, 1)),
    3: ((-1, 0), (0, -1)),
    4: ((1, 0), (0, -1)),
    5: ((0, 1), (1, 0)),
    6: ((0, 1), (-1, 0)),
    7: ((0, -1), (-1, 0)),
    8: ((0, -1), (1, 0)),
}
"""By EXIF orientation: the stored x and y components of a vector from its upright (x, y)."""
_LATTICE = (41, 41)  # of a quarter of the frame
_POWERS = (1, 3, 5, 7)


@dataclass(frozen=True)
class LcpModel:
    """The lens of some photos in Adobe's camera model, in the frame of the files' pixels.

    Lengths are in units of half the diagonal, between pixel centres.
    """

    radial: tuple[float, float, float]
    """`k1, k2, k3`."""
    tangential: Pair
    """`k4, k5`, which are `p1, p2` in that frame."""
    centre: Pair
    """Offset (x, y) of the lens's centre from the frame's."""
    zoom: float
    """`s`: `rectify` shows the corrected photo `s` times as large as this model does."""
    corner_pct: float
    """Displacement of the frame's corner by the radial terms, in % of its radius."""
    spread_pct: float | None
    """Standard deviation of this displacement over the photos; None for a single photo."""


def stored_size(photo: PhotoLens) -> tuple[int, int]:
    """(height, width) of the pixels in the file, before its orientation is applied."""
    size = (photo.height, photo.width)
    return size[::-1] if photo.camera.orientation in _TURNED else size


def is_landscape(photo: PhotoLens) -> bool:
    """Whether the pixels in the file are at least as wide as high, as sensors are."""
    height, width = stored_size(photo)
    return width >= height


def lcp_model(photos: Sequence[PhotoLens], landscape: bool) -> LcpModel:
    """The lens that the photos agree on, in the frame of the files' pixels. Exact for one photo.

    The radial terms are fitted to the median of the photos' curves, at equal zoom. The centre and
    the tangential terms are medians, over the photos whose pixels are stored in that frame. A photo
    that a program has rotated contributes its curve only: in which direction is unknown.

    Args:
        photos: at one focal length; their lenses do not fold.
        landscape: the frame: wider than high, or higher than wide.
    """
    size = photos[0].height, photos[0].width
    curves = [_curve(photo) for photo in photos]
    linear, *rest = _median_curve(curves, *size)
    unit = frame_corner(*size)
    radial = [
        term * unit**power / linear ** (power + 1)
        for term, power in zip(rest, (2, 4, 6), strict=True)
    ]
    in_frame = [photo for photo in photos if is_landscape(photo) == landscape]
    vectors = [_stored_vectors(photo) for photo in in_frame] or [(0.0, 0.0, 0.0, 0.0)]
    p2, p1, x, y = (statistics.median(column) for column in zip(*vectors, strict=True))
    corners = [100 * (_slope_one(curve, unit) - 1) for curve in curves]
    return LcpModel(
        radial=(radial[0], radial[1], radial[2]),
        tangential=(p1, p2),
        centre=(x, y),
        zoom=unit / (linear * statistics.median(curve.corner for curve in curves)),
        corner_pct=100 * sum(radial),
        spread_pct=statistics.stdev(corners) if len(corners) > 1 else None,
    )


def _curve(photo: PhotoLens) -> RadialCurve:
    curve = radial_curve(photo.params, photo.height, photo.width)
    assert curve is not None, photo.path
    return curve


def _slope_one(curve: RadialCurve, corner: float) -> float:
    """Where a curve, zoomed to the slope 1 at the centre, moves the frame's corner: a ratio."""
    at = corner / curve.coefficients[0]
    return float(curve(np.array(at))) / corner


def _median_curve(curves: Sequence[RadialCurve], height: int, width: int) -> list[float]:
    """The terms of `x, x³, x⁵, x⁷` of the median curve over the frame, in half short sides.

    The fit reaches the corner of the corrected frame at either zoom, `rectify`'s and slope 1.
    """
    corner = frame_corner(height, width)
    reach = max(
        statistics.median(curve.corner for curve in curves),
        statistics.median(corner / curve.coefficients[0] for curve in curves),
    )
    short = min(height, width) - 1
    x, y = np.meshgrid(
        np.linspace(0, (width - 1) / short, _LATTICE[1]),
        np.linspace(0, (height - 1) / short, _LATTICE[0]),
    )
    radii: Array = np.hypot(x, y).ravel() * reach / corner
    median = np.median([curve(radii) for curve in curves], axis=0)
    basis = np.stack([radii**power for power in _POWERS], axis=1)
    return [float(term) for term in np.linalg.lstsq(basis, median, rcond=None)[0]]


def _stored_vectors(photo: PhotoLens) -> tuple[float, float, float, float]:
    """`p2, p1, dcx, dcy` in the frame of the file's pixels: both pairs rotate as vectors."""
    _, _, _, p1, p2, dcx, dcy, _ = photo.params
    axes = _STORED_AXES[photo.camera.orientation]
    tangential, centre = (
        [math.fsum(a * b for a, b in zip(axis, vector, strict=True)) for axis in axes]
        for vector in ((p2, p1), (dcx, dcy))
    )
    return tangential[0], tangential[1], centre[0], centre[1]
