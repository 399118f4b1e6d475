"""Direct refinement: the field that makes the bent photo, read through it, equal the straight one.

Levenberg-Marquardt over all pixels at once, after B. Lucas and T. Kanade, "An iterative image
registration technique", 1981. Brightness and contrast are brought to those of wide surroundings, so
that a pair may differ in exposure, vignetting or tone; the weights are Cauchy's, so that it may
differ in places altogether.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from warp_train.registration.field import (
    PRIOR,
    Field,
    Floats,
    Placed,
    Plane,
    derivatives,
    place,
)
from warp_train.registration.frames import FLAT, Frames, as_plane, surroundings, to_pixels

_CAUCHY = 2.385
_LEAST_NOISE = 0.002
"""Of grey 0..1: below 8-bit quantisation, residuals say nothing."""
_NORMAL_80 = 1.2816
"""80 % of normal values are smaller than so many standard deviations."""
_MOST_GAIN = 4.0
_STILL = 0.01
"""Pixels, the mean over the frame: a step that moves less ends a level."""
_START_DAMPING = 1e-3
_LARGEST_DAMPING = 1e3
_AT_REST = np.eye(len(PRIOR))[0]
"""The identity's field."""


@dataclass(frozen=True)
class Light:
    """What brings the bent photo's brightness to that of the straight one; planes `[h, w]`."""

    gain: Plane
    offset: Plane


@dataclass(frozen=True)
class View:
    """A pair seen through a field; planes `[h, w]`, at the points of its frames."""

    placed: Placed
    read: Plane
    """What was read from the bent photo."""
    across: Plane
    down: Plane
    """Its derivatives per pixel."""
    inside: Plane
    """1 where the field reads inside the photo, else 0."""
    light: Light
    residual: Plane
    """What was read, in the straight photo's light, less the straight photo; 0 outside."""
    noise: float
    """Robust standard deviation of the residuals."""

    @property
    def weight(self) -> Plane:
        """Cauchy's over the noise's square, 0 outside."""
        size = self.residual * np.float32(1 / (_CAUCHY * self.noise))
        return as_plane(self.inside * np.float32(1 / self.noise**2) / (1 + size * size))


@dataclass(frozen=True)
class Equations:
    """The normal equations of a step, the prior included."""

    normal: Floats
    """`[11, 11]`."""
    gradient: Floats


def refine(frames: Frames, field: Field, steps: int) -> tuple[Field, View]:
    """The field improved in at most `steps` steps, and the pair seen through it."""
    view, damping = look(frames, field), _START_DAMPING
    equations = normal_equations(frames, field, view)
    for _ in range(steps):
        damped = equations.normal + damping * np.diag(equations.normal.diagonal())
        moved = Field(field.values - np.linalg.solve(damped, equations.gradient))
        seen = look(frames, moved, view.light)
        shift = np.hypot(seen.placed.x - view.placed.x, seen.placed.y - view.placed.y)
        still = float(shift.mean()) * frames.geometry.unit_x < _STILL
        better = _cost(moved, seen, view.noise) < _cost(field, view, view.noise)
        if better:
            light = _balance(frames, seen.read)
            field, view, damping = moved, _compared(frames, seen, light), damping / 10
        else:
            damping *= 10
        if still or damping > _LARGEST_DAMPING:
            break
        if better:
            equations = normal_equations(frames, field, view)
    return field, view


def look(frames: Frames, field: Field, light: Light | None = None) -> View:
    """Reads the bent photo through the field and compares; in the best light if none is given."""
    height, width, *_ = frames.geometry
    placed = place(field, *frames.points())
    x, y = to_pixels(placed.x, placed.y, frames.geometry)
    inside = ((x > 0.5) & (x < width - 1.5) & (y > 0.5) & (y < height - 1.5)).astype(np.float32)
    planes = cv2.remap(frames.bent, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    read, across, down = (as_plane(plane) for plane in cv2.split(planes))
    light = light or _balance(frames, read)
    return _compared(frames, View(placed, read, across, down, inside, light, read, 0.0), light)


def normal_equations(frames: Frames, field: Field, view: View) -> Equations:
    """Of the weighted least squares around a field."""
    columns = derivatives(
        view.placed,
        view.light.gain * view.across * np.float32(frames.geometry.unit_x),
        view.light.gain * view.down * np.float32(frames.geometry.unit_y),
    )
    slopes = np.stack([column.ravel() for column in columns])
    weighted = slopes * view.weight.ravel()
    pull = (field.values - _AT_REST) / PRIOR**2
    return Equations(
        (weighted @ slopes.T).astype(np.float64) + np.diag(1 / PRIOR**2),
        (weighted @ view.residual.ravel()).astype(np.float64) + pull,
    )


def correlation(frames: Frames, view: View) -> float:
    """Normalised cross-correlation of the pair less its surroundings; 0 where it shows nothing."""
    seen = view.inside > 0
    read, straight = (plane - surroundings(plane)[0] for plane in (view.read, frames.straight))
    pair = np.stack([read[seen], straight[seen]])
    if pair.size == 0 or pair.std(axis=1).min() < _LEAST_NOISE:
        return 0.0
    return float(np.corrcoef(pair)[0, 1])


def _balance(frames: Frames, read: Plane) -> Light:
    (mean, contrast), (target, wanted) = surroundings(read), frames.surroundings
    gain = as_plane(np.clip((wanted + FLAT) / (contrast + FLAT), 1 / _MOST_GAIN, _MOST_GAIN))
    return Light(gain, target - gain * mean)


def _compared(frames: Frames, view: View, light: Light) -> View:
    """The same view in another light."""
    residual = as_plane((light.gain * view.read + light.offset - frames.straight) * view.inside)
    return replace(view, light=light, residual=residual, noise=_noise(residual, view.inside))


def _cost(field: Field, view: View, noise: float) -> float:
    """Cauchy's function of the residuals, per pixel in sight: to see fewer is no gain."""
    size = view.residual * np.float32(1 / (_CAUCHY * noise))
    data = float(np.log1p(size * size).sum()) * _CAUCHY**2 / 2
    pull = float(np.square((field.values - _AT_REST) / PRIOR).sum()) / 2
    return data / max(float(view.inside.sum()), 1.0) + pull / view.inside.size


def _noise(residual: Plane, inside: Plane) -> float:
    """From the size that 80 % of the residuals keep below; at least that of rounding.

    The median would be that of bare walls, for which every edge not yet aligned is an outlier.
    """
    sizes = np.abs(residual.ravel()[::5][inside.ravel()[::5] > 0])
    spread = float(np.quantile(sizes, 0.8)) / _NORMAL_80 if sizes.size else 0.0
    return max(spread, _LEAST_NOISE)
