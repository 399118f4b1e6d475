"""One pair: its lens, and how far off that may be."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from warp_train.data.lenses import backward_map
from warp_train.data.profiles import Profile, profiled_map
from warp_train.data.samples import Image
from warp_train.geometry import IDENTITY_PARAMS
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
    left_over,
    nearest_lens,
    plain_field,
)
from warp_train.registration.frames import Frames, as_plane, pyramid
from warp_train.registration.refine import View, correlation, refine
from warp_train.registration.start import best_starts

WORKING_SIDE = 640
"""Long side in px: a larger photo is reduced. More pixels would not make eight numbers surer."""
LARGEST_ERROR_PX = 0.14
"""A lens is trusted up to this estimate, which is right to about 0.01: its error is then under
0.15 px, in a frame of `LARGEST_ERROR_SIDE`. In a longer one up to as much in proportion."""
LARGEST_ERROR_SIDE = 480
_UNKNOWN = 0.1
"""Half diagonals: the error of a lens that nothing speaks for; about what strong ones displace."""
_LEAST_CORRELATION = 0.7
_LEAST_SEEN = 0.3
"""Of the straight photo, which the bent one shows."""
_STARTS = 3
_START_STEPS = 12
_GOOD_START = 0.9
"""Correlation of thumbnails that makes further starts needless."""
_STEPS = 8


@dataclass(frozen=True)
class SureProfile:
    """What makes the lens exact."""

    values: Floats
    """`[33]`: see `warp_train.data.profiles`."""
    error_px: float
    """As the lens's, of both together."""


@dataclass(frozen=True)
class Recovery:
    """What registration found."""

    params: Floats
    """`[8]` in the order of `PARAM_NAMES`."""
    error_px: float
    """Estimate of the lens's mean end-point error, in px of the whole photo."""
    ok: bool
    """Whether that is small enough to learn from."""
    profile: SureProfile | None = None
    """Where the lens leaves something over that is surely known."""


def recover_lens(bent: Image, straight: Image, full: tuple[int, int]) -> Recovery:
    """The lens that bends `straight` into `bent`.

    Args:
        bent, straight: RGB uint8 `[h, w, 3]`, of one shape, perhaps reduced while decoding.
        full: (height, width) of the whole photo.
    """
    levels = pyramid(_grey(bent), _grey(straight), full, WORKING_SIDE)
    field, view = _registered(levels)
    top, half = levels[-1], 0.5 * float(np.hypot(full[0] - 1, full[1] - 1))
    params = nearest_lens(field, *(plane.ravel().astype(np.float64) for plane in samples(top)))
    if params is None:
        return Recovery(np.array(IDENTITY_PARAMS), _UNKNOWN * half, False)
    lens = partial(backward_map, params)
    registered, left = registration_error(top, field, view), distance(top, field, lens)
    floor = 0.0 if _matches(top, view) else _UNKNOWN
    error_px = min(max(float(np.hypot(registered, left)), floor), 1.0) * half
    allowed = LARGEST_ERROR_PX * max(1.0, max(full) / LARGEST_ERROR_SIDE)
    ok = error_px <= allowed and not folds(top, lens)
    if left <= registered or max(registered, floor) * half > allowed:
        return Recovery(params, error_px, ok)
    return Recovery(params, error_px, ok, _profile(top, field, params, registered, half))


def _matches(frames: Frames, view: View) -> bool:
    seen = float(view.inside.mean())
    return correlation(frames, view) >= _LEAST_CORRELATION and seen >= _LEAST_SEEN


def _profile(
    frames: Frames, field: Field, params: Floats, registered: float, half: float
) -> SureProfile | None:
    """None where the whole would fold."""
    values = left_over(field, params)
    whole = partial(profiled_map, params, Profile(values))
    if folds(frames, whole):
        return None
    return SureProfile(values, float(np.hypot(registered, distance(frames, field, whole))) * half)


def _registered(levels: list[Frames]) -> tuple[Field, View]:
    """The field found on the smallest frames, from several starts, and refined on the larger."""
    first, best = levels[0], -1.0
    field = plain_field(1, 0)
    for start in best_starts(first, _STARTS):
        found, view = refine(first, start, _START_STEPS)
        if (score := correlation(first, view)) > best:
            field, best = found, score
        if best > _GOOD_START:
            break
    for frames in levels[1:] or levels:
        field, view = refine(frames, field, _STEPS)
    return field, view


def _grey(image: Image) -> Plane:
    return as_plane(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255)
