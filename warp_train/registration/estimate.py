"""Recovers the lens of one pair, and estimates its error."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from warp_train.data.lenses import backward_map
from warp_train.data.profiles import Profile, profiled_map
from warp_train.geometry import IDENTITY_PARAMS
from warp_train.photos.pixels import Image
from warp_train.registration.confidence import (
    distance,
    folds,
    registration_error,
    samples,
)
from warp_train.registration.field import (
    Field,
    Floats,
    Plane,
    nearest_lens,
    plain_field,
    residual_profile,
)
from warp_train.registration.frames import Frames, as_plane, pyramid
from warp_train.registration.refine import Alignment, correlation, refine
from warp_train.registration.start import best_starts

WORKING_SIDE = 640
"""Long side in px to which larger photos are reduced: more pixels would hardly add precision."""
LARGEST_ERROR_PX = 0.14
"""Largest estimated error of an accepted lens, in px of a photo `LARGEST_ERROR_SIDE` px long; for
longer photos it grows in proportion. The estimate is right to about 0.01 px, so that the true error
is below 0.15 px."""
LARGEST_ERROR_SIDE = 480
_UNKNOWN = 0.1
"""Error, in half diagonals, that is assumed if the photos do not match: the displacement by a
strong lens."""
_LEAST_CORRELATION = 0.7
_LEAST_OVERLAP = 0.3
"""Least share of the straight photo that the distorted photo has to contain."""
_STARTS = 3
_START_STEPS = 12
_GOOD_START = 0.9
"""Correlation of the thumbnails above which no further start is tried."""
_STEPS = 8


@dataclass(frozen=True)
class SureProfile:
    """A radial profile that completes the lens and is known precisely enough to be used."""

    values: Floats
    """`[33]` radial displacements in half diagonals, see `warp_train.data.profiles`."""
    error_px: float
    """Estimated mean end-point error of lens and profile together, in px of the full photo."""


@dataclass(frozen=True)
class Recovery:
    """The result of registering one pair."""

    params: Floats
    """`[8]` in the order of `PARAM_NAMES`."""
    error_px: float
    """Estimated mean end-point error of the lens, in px of the full photo."""
    ok: bool
    """Whether the error is small enough for training, and the lens does not fold."""
    profile: SureProfile | None = None
    """The radial displacement that the eight parameters leave over; None if it is smaller than the
    error of registration, or not known precisely enough."""


def recover_lens(bent: Image, straight: Image, full: tuple[int, int]) -> Recovery:
    """Recovers the lens that distorts `straight` into `bent`.

    Args:
        bent, straight: the distorted and the straight photo, RGB uint8 `[h, w, 3]`, of equal shape;
            they may have been reduced while decoding.
        full: (height, width) of the photos in full size.
    """
    levels = pyramid(_grey(bent), _grey(straight), full, WORKING_SIDE)
    field, alignment = _registered(levels)
    top, half = levels[-1], 0.5 * float(np.hypot(full[0] - 1, full[1] - 1))
    params = nearest_lens(field, *(plane.ravel().astype(np.float64) for plane in samples(top)))
    if params is None:
        return Recovery(np.array(IDENTITY_PARAMS), _UNKNOWN * half, False)
    lens = partial(backward_map, params)
    registered, left = registration_error(top, field, alignment), distance(top, field, lens)
    floor = 0.0 if _matches(top, alignment) else _UNKNOWN
    error_px = min(max(float(np.hypot(registered, left)), floor), 1.0) * half
    allowed = LARGEST_ERROR_PX * max(1.0, max(full) / LARGEST_ERROR_SIDE)
    ok = error_px <= allowed and not folds(top, lens)
    if left <= registered or max(registered, floor) * half > allowed:
        return Recovery(params, error_px, ok)
    return Recovery(params, error_px, ok, _profile(top, field, params, registered, half))


def _matches(frames: Frames, alignment: Alignment) -> bool:
    """Whether the photos match when the distorted one is read through the registered field."""
    overlap = float(alignment.inside.mean())
    return correlation(frames, alignment) >= _LEAST_CORRELATION and overlap >= _LEAST_OVERLAP


def _profile(
    frames: Frames, field: Field, params: Floats, registered: float, half: float
) -> SureProfile | None:
    """The profile that the lens leaves over; None if lens and profile together would fold."""
    values = residual_profile(field, params)
    complete = partial(profiled_map, params, Profile(values))
    if folds(frames, complete):
        return None
    error = float(np.hypot(registered, distance(frames, field, complete)))
    return SureProfile(values, error * half)


def _registered(levels: list[Frames]) -> tuple[Field, Alignment]:
    """The field that is found on the smallest frames from several starts, refined on the others."""
    first, best = levels[0], -1.0
    field = plain_field(1, 0)
    for start in best_starts(first, _STARTS):
        found, alignment = refine(first, start, _START_STEPS)
        if (score := correlation(first, alignment)) > best:
            field, best = found, score
        if best > _GOOD_START:
            break
    for frames in levels[1:] or levels:
        field, alignment = refine(frames, field, _STEPS)
    return field, alignment


def _grey(image: Image) -> Plane:
    return as_plane(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255)
