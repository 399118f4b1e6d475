"""Starts for the refinement: the best of many simple lenses, tried on a thumbnail of the pair."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from warp_train.registration.field import Field, Plane, plain_field
from warp_train.registration.frames import (
    FLAT,
    Frames,
    Geometry,
    as_plane,
    lattice,
    surroundings,
)

_ZOOMS = np.geomspace(0.66, 1.5, 17)
_BENDS = np.linspace(-0.6, 0.9, 26)
"""The steps are about 2 px at the corner of a thumbnail, a distance that refinement can close."""
_LEAST_OVERLAP = 0.4


def best_starts(frames: Frames, count: int) -> list[Field]:
    """The (at most) `count` simple lenses with the highest correlations that are local maxima."""
    scores = _correlations(frames).reshape(len(_BENDS), len(_ZOOMS))
    around = cv2.dilate(scores, np.ones((3, 3), np.uint8))
    peaks = np.argwhere((scores >= around) & (scores > -1))
    order = sorted(peaks.tolist(), key=lambda at: -scores[at[0], at[1]])
    return [plain_field(_ZOOMS[zoom], _BENDS[bend]) for bend, zoom in order[:count]]


def _correlations(frames: Frames) -> Plane:
    """Normalised cross-correlation of each candidate inside the photo; -1 for too small an overlap.

    Local mean and contrast are removed from both pictures first: otherwise large dark and bright
    areas would correlate for any lens.
    """
    x, y, inside = _candidates(frames.geometry)
    bent, straight = np.ascontiguousarray(frames.bent[..., 0]), frames.straight
    bent, straight = (
        (plane - mean) / (contrast + FLAT)
        for plane, (mean, contrast) in ((bent, surroundings(bent)), (straight, frames.surroundings))
    )
    read = as_plane(cv2.remap(bent, x, y, cv2.INTER_LINEAR)) * inside
    target = straight.ravel()
    count = np.maximum(inside.sum(1), 1)
    mean, other = read.sum(1) / count, inside @ target / count
    both = read @ target / count - mean * other
    spread = np.square(read).sum(1) / count - mean**2
    spread *= inside @ np.square(target) / count - other**2
    score = both / np.sqrt(np.maximum(spread, 1e-12))
    return as_plane(np.where(count > _LEAST_OVERLAP * target.size, score, -1).astype(np.float32))


@lru_cache(maxsize=2)
def _candidates(geometry: Geometry) -> tuple[Plane, Plane, Plane]:
    """Source positions of each candidate, x and y in pixels, and 1 where they are in the photo.

    All are `[candidates, h·w]`, so that OpenCV can process them as a single picture.
    """
    height, width, unit_x, unit_y = geometry
    x, y = lattice(geometry)
    zooms, bends = np.float32(_ZOOMS)[:, None, None], np.float32(_BENDS)[:, None, None, None]
    factor = (zooms * (1 + bends * (x * x + y * y))).reshape(-1, height, width)
    x = (factor * (x * np.float32(unit_x)) + np.float32((width - 1) / 2)).reshape(len(factor), -1)
    y = (factor * (y * np.float32(unit_y)) + np.float32((height - 1) / 2)).reshape(len(factor), -1)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return x, y, inside.astype(np.float32)
