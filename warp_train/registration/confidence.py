"""Estimates the error of a recovered lens."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np

from warp_train.data.lenses import Array, Points
from warp_train.registration.field import (
    SIZE,
    Field,
    Floats,
    Plane,
    derivatives,
    place,
)
from warp_train.registration.frames import Frames, Geometry, lattice
from warp_train.registration.refine import Alignment, normal_equations

Warp = Callable[[Array, Array], Points]
"""A backward warp: source positions of corrected points, both in half diagonals."""

_INFLATION = 2.5
"""Factor on the standard deviation, measured on photos: the noise of neighbouring pixels is
correlated, and not exactly normal."""
_DRIFT_SHARE = 0.6
"""Share of the blocks' remaining shifts that counts as error: the rest is noise that their own
equations underestimate."""
_BLOCKS = 8
"""Blocks along each side of the frame."""
_MESH = 65
"""Points along each side at which folds are searched: enough, as lenses and profiles are smooth."""
_SAMPLES = 8
"""Step, in pixels, between the points over which means are computed."""


def registration_error(frames: Frames, field: Field, alignment: Alignment) -> float:
    """Estimate of the field's mean distance from the true warp, in half diagonals.

    It has two parts. The first is the error that noise causes, from the covariance of the unknowns.
    The second is the distance by which blocks of the picture would still move if each were
    registered alone. The second part also detects warps that no field of this kind can represent (a
    rotated or cropped photo, or another photo), and a refinement that ended too early.
    """
    spread = _INFLATION * _spread(frames, field, alignment)
    drift = _DRIFT_SHARE * _drift(alignment) / frames.geometry.unit_x
    return float(np.hypot(spread, drift))


def distance(frames: Frames, field: Field, warp: Warp) -> float:
    """Mean distance between a warp and the registered field, in half diagonals."""
    x, y = samples(frames)
    placed = place(field, x, y)
    found = warp(x.astype(np.float64), y.astype(np.float64))
    return float(np.hypot(found[0] - placed.x, found[1] - placed.y).mean())


def folds(frames: Frames, warp: Warp) -> bool:
    """Whether the warp folds: whether its Jacobian determinant is 0 or negative at some point."""
    read_x, read_y = warp(*_mesh(frames.geometry))
    across = np.diff(read_x, axis=1)[:-1] * np.diff(read_y, axis=0)[:, :-1]
    down = np.diff(read_y, axis=1)[:-1] * np.diff(read_x, axis=0)[:, :-1]
    return bool((across - down <= 0).any())


@lru_cache(maxsize=32)
def _mesh(geometry: Geometry) -> Points:
    """Points spread over the frame, including its border, in half diagonals."""
    rows, columns = (
        np.unique(np.linspace(0, count - 1, _MESH).round().astype(int)) for count in geometry[:2]
    )
    x, y = (plane[np.ix_(rows, columns)].astype(np.float64) for plane in lattice(geometry))
    return x, y


def samples(frames: Frames) -> tuple[Plane, Plane]:
    """Points spread over the frame, in half diagonals."""
    x, y = (plane[::_SAMPLES, ::_SAMPLES] for plane in lattice(frames.geometry))
    return x, y


def _spread(frames: Frames, field: Field, alignment: Alignment) -> float:
    """Root mean square over the frame of the field's standard deviation, in half diagonals."""
    covariance = np.linalg.inv(normal_equations(frames, field, alignment).normal)
    x, y = samples(frames)
    placed, one, none = place(field, x, y), np.ones_like(x), np.zeros_like(x)
    total = 0.0
    for direction in ((one, none), (none, one)):
        slopes = np.stack(derivatives(placed, *direction)).reshape(SIZE, -1)
        total += float(((covariance @ slopes) * slopes).sum(0).mean())
    return math.sqrt(total)


def _drift(alignment: Alignment) -> float:
    """Root mean square of the blocks' own shifts, in pixels, less the part that noise explains.

    Each shift is found by least squares (Lucas and Kanade) with a prior of 1 px, which keeps blocks
    without texture in place.
    """
    across, down = alignment.light.gain * alignment.across, alignment.light.gain * alignment.down
    w_x, w_y = alignment.weight * across, alignment.weight * down
    xx, xy, yy, rx, ry = (
        _block_sums(plane)
        for plane in (
            w_x * across,
            w_x * down,
            w_y * down,
            w_x * alignment.residual,
            w_y * alignment.residual,
        )
    )
    xx, yy = xx + 1, yy + 1
    determinant = xx * yy - xy * xy
    shift_x, shift_y = (yy * rx - xy * ry) / determinant, (xx * ry - xy * rx) / determinant
    noise = (xx + yy) / determinant
    return float(max(0.0, (shift_x**2 + shift_y**2 - noise).mean()) ** 0.5)


def _block_sums(plane: Plane) -> Floats:
    means = cv2.resize(plane, (_BLOCKS, _BLOCKS), interpolation=cv2.INTER_AREA)
    sums: Floats = means.astype(np.float64) * (plane.size / _BLOCKS**2)
    return sums
