"""Refines a field until the distorted photo, read through it, matches the straight photo.

Levenberg-Marquardt over all pixels at once, after B. Lucas and T. Kanade, "An iterative image
registration technique", 1981. Brightness and contrast are matched in wide windows, so that the
photos may differ in exposure, vignetting or tone. Cauchy weights reduce the influence of places
where the photos show different things.
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
"""Least noise, in grey levels of 0..1: smaller residuals are 8-bit quantisation."""
_NORMAL_80 = 1.2816
"""80 % of normally distributed values are within this many standard deviations."""
_MOST_GAIN = 4.0
_SMALL_STEP = 0.01
"""A step that moves the field by less than this ends the refinement; mean over the frame, in px."""
_START_DAMPING = 1e-3
_LARGEST_DAMPING = 1e3
_IDENTITY = np.eye(len(PRIOR))[0]
"""The values of the identity's field."""


@dataclass(frozen=True)
class Light:
    """Matches the distorted photo's brightness to the straight photo's: `gain · grey + offset`."""

    gain: Plane
    """`[h, w]`."""
    offset: Plane
    """`[h, w]`."""


@dataclass(frozen=True)
class Alignment:
    """The distorted photo read through a field; planes `[h, w]`, at the points of its frames."""

    placed: Placed
    read: Plane
    """Grey values read from the distorted photo."""
    across: Plane
    down: Plane
    """Their derivatives in x and y, per pixel."""
    inside: Plane
    """1 where the source position is inside the photo, else 0."""
    light: Light
    residual: Plane
    """`gain · read + offset` minus the straight photo; 0 outside."""
    noise: float
    """Robust standard deviation of the residuals."""

    @property
    def weight(self) -> Plane:
        """Cauchy's weight divided by the squared noise; 0 outside."""
        size = self.residual * np.float32(1 / (_CAUCHY * self.noise))
        return as_plane(self.inside * np.float32(1 / self.noise**2) / (1 + size * size))


@dataclass(frozen=True)
class Equations:
    """The normal equations of a step, including the prior."""

    normal: Floats
    """`[11, 11]`."""
    gradient: Floats
    """`[11]`."""


def refine(frames: Frames, field: Field, steps: int) -> tuple[Field, Alignment]:
    """The field after at most `steps` steps, and the pair read through it."""
    alignment, damping = align(frames, field), _START_DAMPING
    equations = normal_equations(frames, field, alignment)
    for _ in range(steps):
        damped = equations.normal + damping * np.diag(equations.normal.diagonal())
        moved = Field(field.values - np.linalg.solve(damped, equations.gradient))
        after = align(frames, moved, alignment.light)
        shift = np.hypot(after.placed.x - alignment.placed.x, after.placed.y - alignment.placed.y)
        small = float(shift.mean()) * frames.geometry.unit_x < _SMALL_STEP
        better = _cost(moved, after, alignment.noise) < _cost(field, alignment, alignment.noise)
        if better:
            light = _balance(frames, after.read)
            field, alignment, damping = moved, _compared(frames, after, light), damping / 10
        else:
            damping *= 10
        if small or damping > _LARGEST_DAMPING:
            break
        if better:
            equations = normal_equations(frames, field, alignment)
    return field, alignment


def align(frames: Frames, field: Field, light: Light | None = None) -> Alignment:
    """Reads the distorted photo through the field and compares it with the straight photo.

    Brightness is matched by `light`, or if None by gain and offset that are computed here.
    """
    height, width, *_ = frames.geometry
    placed = place(field, *frames.points())
    x, y = to_pixels(placed.x, placed.y, frames.geometry)
    inside = ((x > 0.5) & (x < width - 1.5) & (y > 0.5) & (y < height - 1.5)).astype(np.float32)
    planes = cv2.remap(frames.bent, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    read, across, down = (as_plane(plane) for plane in cv2.split(planes))
    light = light or _balance(frames, read)
    return _compared(frames, Alignment(placed, read, across, down, inside, light, read, 0.0), light)


def normal_equations(frames: Frames, field: Field, alignment: Alignment) -> Equations:
    """The normal equations of the weighted least squares, linearised at a field."""
    columns = derivatives(
        alignment.placed,
        alignment.light.gain * alignment.across * np.float32(frames.geometry.unit_x),
        alignment.light.gain * alignment.down * np.float32(frames.geometry.unit_y),
    )
    slopes = np.stack([column.ravel() for column in columns])
    weighted = slopes * alignment.weight.ravel()
    pull = (field.values - _IDENTITY) / PRIOR**2
    return Equations(
        (weighted @ slopes.T).astype(np.float64) + np.diag(1 / PRIOR**2),
        (weighted @ alignment.residual.ravel()).astype(np.float64) + pull,
    )


def correlation(frames: Frames, alignment: Alignment) -> float:
    """Normalised cross-correlation of both photos minus their local means; 0 without contrast."""
    inside = alignment.inside > 0
    read, straight = (plane - surroundings(plane)[0] for plane in (alignment.read, frames.straight))
    pair = np.stack([read[inside], straight[inside]])
    if pair.size == 0 or pair.std(axis=1).min() < _LEAST_NOISE:
        return 0.0
    return float(np.corrcoef(pair)[0, 1])


def _balance(frames: Frames, read: Plane) -> Light:
    """Gain and offset that give `read` the local mean and contrast of the straight photo."""
    (mean, contrast), (target, wanted) = surroundings(read), frames.surroundings
    gain = as_plane(np.clip((wanted + FLAT) / (contrast + FLAT), 1 / _MOST_GAIN, _MOST_GAIN))
    return Light(gain, target - gain * mean)


def _compared(frames: Frames, alignment: Alignment, light: Light) -> Alignment:
    """The alignment with another gain and offset: its residual and noise are computed again."""
    residual = as_plane(
        (light.gain * alignment.read + light.offset - frames.straight) * alignment.inside
    )
    return replace(
        alignment, light=light, residual=residual, noise=_noise(residual, alignment.inside)
    )


def _cost(field: Field, alignment: Alignment, noise: float) -> float:
    """Cauchy's loss of the residuals and the prior's.

    The first is a mean over the pixels inside: a field that reads fewer of them gains nothing.
    """
    size = alignment.residual * np.float32(1 / (_CAUCHY * noise))
    data = float(np.log1p(size * size).sum()) * _CAUCHY**2 / 2
    pull = float(np.square((field.values - _IDENTITY) / PRIOR).sum()) / 2
    return data / max(float(alignment.inside.sum()), 1.0) + pull / alignment.inside.size


def _noise(residual: Plane, inside: Plane) -> float:
    """Standard deviation of the residuals, from their 80 % quantile; at least `_LEAST_NOISE`.

    The median would describe areas without texture, and make every misaligned edge an outlier.
    """
    sizes = np.abs(residual.ravel()[::5][inside.ravel()[::5] > 0])
    spread = float(np.quantile(sizes, 0.8)) / _NORMAL_80 if sizes.size else 0.0
    return max(spread, _LEAST_NOISE)
