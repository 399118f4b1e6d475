"""Photos of one lens at one focal length whose measured lenses disagree.

A photo that was corrected before it was measured has hardly any distortion left. Averaged with
others, it would weaken the lens for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from warp_train.export.lensfun_fit import RadialCurve, frame_corner, radial_curve
from warp_train.export.photo_lens import LeftOut, PhotoLens, without_refused

_RADII = 33
_LEAST = 0.5  # % of the corner's radius; below, photos agree whatever they measure
_SHARE, _SHARE_OF_TWO = 0.5, 0.7  # of the lens: farther away, a photo is corrected or mismeasured
_SPREADS = 3.0  # standard deviations of the others
_PER_DEVIATION = 1.4826  # standard deviations per median absolute deviation

Array = NDArray[np.floating[Any]]


def agreeing(photos: Sequence[PhotoLens], left_out: list[LeftOut]) -> list[PhotoLens]:
    """The photos whose lens agrees with the median of the others; the others are left out.

    All are left out if there are two that disagree: which of them is wrong is unknown.

    Args:
        photos: of one lens, one focal length and one frame, none of which folds.
    """
    if len(photos) < 2:
        return list(photos)
    profiles = _profiles(photos)
    reasons = {id(photo): _reason(profiles, i) for i, photo in enumerate(photos)}
    return without_refused(photos, lambda photo: reasons[id(photo)], left_out)


def _profiles(photos: Sequence[PhotoLens]) -> Array:
    """`[N, _RADII]` displacements over the radius, in % of the corner's radius. Zoom has no part
    in them: each curve maps half the short side to itself."""
    curves = [_curve(photo) for photo in photos]
    corner = min(
        *(curve.corner for curve in curves), frame_corner(photos[0].height, photos[0].width)
    )
    radii = np.linspace(0, corner, _RADII)
    profiles: Array = np.stack([100 * (curve(radii) - radii) / corner for curve in curves])
    return profiles


def _curve(photo: PhotoLens) -> RadialCurve:
    curve = radial_curve(photo.params, photo.height, photo.width)
    assert curve is not None, photo.path
    return curve


def _reason(profiles: Array, one: int) -> str | None:
    """Why a photo's lens is not that of the others; None if it agrees."""
    others = np.delete(profiles, one, axis=0)
    median = np.median(others, axis=0)
    spread = _PER_DEVIATION * float(np.median([_largest(other - median) for other in others]))
    here, there = _largest(profiles[one]), _largest(median)
    share = _SHARE if len(others) > 1 else _SHARE_OF_TWO
    if _largest(profiles[one] - median) <= max(_LEAST, share * max(here, there), _SPREADS * spread):
        return None
    of_others, advice = "the other photos", "it may be corrected already, or measured wrongly"
    if len(others) == 1:
        of_others, advice = "the only other photo", "one of them may be corrected: add a third"
    return (
        f"its lens bends by {here:.1f} % at most, but that of {of_others} of this focal length by "
        f"{there:.1f} %: {advice}"
    )


def _largest(profile: Array) -> float:
    return float(np.abs(profile).max())
