"""Radial curves of lenses, and the lensfun model that fits them best.

lensfun maps corrected radii `Ru` to radii `Rd` of the photo, as this package does. Radii start at
the centre of the frame, and their unit is half the short side (between pixel centres):

    ptlens   Rd = Ru (a Ru³ + b Ru² + c Ru + 1 − a − b − c)
    poly5    Rd = Ru (1 + k1 Ru² + k2 Ru⁴)

Source: lensfun's manual, `lfDistortionModel`, and the comments of its `modifier.cpp`. ptlens maps
the radius 1 to itself. The zoom is not part of the models: the correcting program chooses it
(lensfun 0.3 even scales ptlens to a slope of 1 at the centre). Only the shape of a curve is
therefore fitted. As polynomials with a free zoom, both models are linear in their coefficients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Model = Literal["ptlens", "poly5"]

_POWERS: dict[Model, tuple[int, ...]] = {"ptlens": (1, 2, 3, 4), "poly5": (1, 3, 5)}
_TABLE = 4001
_LATTICE = (41, 41)  # of a quarter of the frame


@dataclass(frozen=True)
class RadialCurve:
    """The radial part of a photo's lens, zoomed so that the radius 1 is mapped to itself."""

    coefficients: tuple[float, float, float, float]
    """Of `x, x³, x⁵, x⁷`: photo radius as a function of corrected radius, in half short sides."""
    corner: float
    """Corrected radius of the corner of the corrected frame, at that zoom."""

    def __call__(self, radius: Array) -> Array:
        square = radius * radius
        a, b, c, d = self.coefficients
        curve: Array = radius * (a + square * (b + square * (c + square * d)))
        return curve


@dataclass(frozen=True)
class LensfunFit:
    """A lens in one of lensfun's models, and the errors of the fit."""

    model: Model
    terms: dict[str, float]
    """The model's coefficients by name."""
    rms_px: float
    """Root mean square over the frame of the model minus the median of the photos' curves."""
    max_px: float
    """Largest absolute value of this difference."""
    corner_pct: float
    """Median displacement of the corner of the corrected frame, in % of its radius."""
    spread_pct: float | None
    """Standard deviation of this displacement over the photos; None for a single photo."""


def radial_curve(params: Sequence[float], height: int, width: int) -> RadialCurve | None:
    """The curve of the lens `params [8]` of a photo, without its centre and tangential terms.

    None if the lens folds before it reaches the middle of the photo's long edge.
    """
    k1, k2, k3, *_, s = params
    corner = frame_corner(height, width)
    at = np.linspace(0.0, 2 * corner, _TABLE)
    square = (at / corner) ** 2
    reads = at * (1 + square * (k1 + square * (k2 + square * k3)))
    rising = int(np.argmax(np.append(np.diff(reads) <= 0, True))) + 1
    if reads[rising - 1] < 1:
        return None
    still = float(np.interp(1.0, reads[:rising], at[:rising]))
    terms = tuple(k * still * (still / corner) ** p for k, p in ((1, 0), (k1, 2), (k2, 4), (k3, 6)))
    total = sum(terms)  # 1 within the table's precision; divided by it, exactly 1
    a, b, c, d = (term / total for term in terms)
    return RadialCurve((a, b, c, d), corner / s / still)


def frame_corner(height: int, width: int) -> float:
    """Radius of a frame's corner, in half short sides."""
    return math.hypot(width - 1, height - 1) / (min(height, width) - 1)


def fit_lensfun(curves: Sequence[RadialCurve], height: int, width: int) -> LensfunFit:
    """Fits both models to the median of the curves over a frame, and returns the better fit."""
    corner = float(np.median([curve.corner for curve in curves]))
    radii = _frame_radii(height, width) * corner / frame_corner(height, width)
    median = np.median([curve(radii) for curve in curves], axis=0)
    fits = {model: _fit(radii, median, powers) for model, powers in _POWERS.items()}
    half_short = (min(height, width) - 1) / 2
    errors = {
        model: half_short * (_polynomial(radii, terms, _POWERS[model]) - median)
        for model, terms in fits.items()
    }
    rms = {model: float(np.sqrt(np.mean(error**2))) for model, error in errors.items()}
    best = min(rms, key=lambda model: rms[model])
    moved = [100 * (float(curve(np.array(corner))) / corner - 1) for curve in curves]
    return LensfunFit(
        model=best,
        terms=_ptlens_terms(fits[best]) if best == "ptlens" else _poly5_terms(fits[best]),
        rms_px=rms[best],
        max_px=float(np.abs(errors[best]).max()),
        corner_pct=float(np.median(moved)),
        spread_pct=float(np.std(moved, ddof=1)) if len(moved) > 1 else None,
    )


def _frame_radii(height: int, width: int) -> Array:
    """Radii of evenly spread pixels: a fit gives each radius the weight of its share of pixels."""
    short = min(height, width) - 1
    x, y = np.meshgrid(
        np.linspace(0, (width - 1) / short, _LATTICE[1]),
        np.linspace(0, (height - 1) / short, _LATTICE[0]),
    )
    radii: Array = np.hypot(x, y).ravel()
    return radii


def _fit(radii: Array, curve: Array, powers: tuple[int, ...]) -> Array:
    terms: Array = np.linalg.lstsq(
        np.stack([radii**power for power in powers], axis=1), curve, rcond=None
    )[0]
    return terms


def _polynomial(radii: Array, terms: Array, powers: tuple[int, ...]) -> Array:
    values: Array = np.sum(
        [term * radii**power for term, power in zip(terms, powers, strict=True)], axis=0
    )
    return values


def _ptlens_terms(terms: Array) -> dict[str, float]:
    """`a, b, c` of ptlens: zoomed so that the radius 1 maps to 1 (the coefficients sum to 1)."""
    still = 1.0
    for _ in range(20):  # Newton's method; the curves cross 1 near 1, rising
        value = float(_polynomial(np.array(still), terms, (1, 2, 3, 4)))
        slope = sum(
            power * float(term) * still ** (power - 1) for power, term in enumerate(terms, 1)
        )
        still -= (value - 1) / slope
    _, c, b, a = (float(term) * still**power for power, term in enumerate(terms, 1))
    return {"a": a, "b": b, "c": c}


def _poly5_terms(terms: Array) -> dict[str, float]:
    """`k1, k2` of poly5: zoomed so that the slope at the centre is 1."""
    slope, cubic, quintic = map(float, terms)
    return {"k1": cubic / slope**3, "k2": quintic / slope**5}
