"""Radial curves to draw lenses from: of a range, of ordinary cameras, or of stronger ones."""

from collections.abc import Iterator

import numpy as np

from warp_train.data.lens_config import LensConfig

Rng = np.random.Generator
_BARREL = 0.7
"""Share of ordinary lenses whose bend is below the usual one; see `ordinary_shape`."""
_USUAL_BEND, _BARREL_SCALE, _PINCUSHION_SCALE = -0.018, 0.035, 0.015
_USUAL_EARLY, _USUAL_MOUSTACHE, _MOUSTACHE_SCALE = 0.08, -0.004, 0.0045
_RIPPLE_SCALE = 0.0006

Shape = tuple[float, float, float]
"""`bend`, `m` and `w` of the radial curve in `LensConfig`."""


def _uniform_shapes(rng: Rng, lens: LensConfig) -> Iterator[Shape]:
    """Shapes of one bend, from the ranges of `lens`."""
    bend = rng.uniform(*lens.bend)
    while True:
        m = bend * rng.uniform(*lens.early) + rng.uniform(-1, 1) * lens.moustache
        yield bend, m, rng.uniform(-1, 1) * lens.ripple


def ordinary_shape(rng: Rng) -> Shape:
    """A lens as wide and normal lenses of ordinary cameras are.

    Most of them correct a little barrel distortion, with a moustache of its own. The constants were
    fitted to quantiles of published calibrations of lenses of 8 … 40 mm on a full frame: bends of
    −0.11, −0.05, −0.03, −0.01 and 0.02 at 5, 25, 50, 75 and 95 %.
    """
    if rng.random() < _BARREL:
        bend = _USUAL_BEND - rng.exponential(_BARREL_SCALE)
    else:
        bend = _USUAL_BEND + rng.exponential(_PINCUSHION_SCALE)
    m = _USUAL_EARLY * bend + _USUAL_MOUSTACHE + rng.laplace(0, _MOUSTACHE_SCALE)
    return bend, m, rng.laplace(0, _RIPPLE_SCALE)


def _ordinary_shapes(rng: Rng) -> Iterator[Shape]:
    while True:
        yield ordinary_shape(rng)


def _amplified_shapes(rng: Rng, amplify: tuple[float, float]) -> Iterator[Shape]:
    """One ordinary shape, many times as strong."""
    bend, m, w = ordinary_shape(rng)
    while True:
        factor = float(np.exp(rng.uniform(*np.log(amplify))))
        yield bend * factor, m * factor, w * factor


def shapes(rng: Rng, lens: LensConfig) -> Iterator[Shape]:
    """Shapes about as strong as each other, of one of the kinds of `lens`."""
    if lens.ordinary + lens.amplified == 0:
        return _uniform_shapes(rng, lens)
    kind = rng.random()
    if kind < lens.ordinary:
        return _ordinary_shapes(rng)
    if kind < lens.ordinary + lens.amplified:
        return _amplified_shapes(rng, lens.amplify)
    return _uniform_shapes(rng, lens)


def radial_terms(shape: Shape) -> Shape:
    """`k1, k2, k3` of the curve in `LensConfig`."""
    bend, m, w = shape
    return bend + 4 * m + 10.4 * w, -4 * m - 31.2 * w, 20.8 * w
