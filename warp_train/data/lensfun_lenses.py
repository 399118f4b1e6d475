"""Lenses as they are: lensfun's calibrations, amplified or not, as Brown–Conrady lenses."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from warp_train.data.config import LensConfig, LensfunConfig
from warp_train.data.lenses import Array, draw_misalignment, usable_lens
from warp_train.data.lensfun_calibrations import Calibration, read_calibrations, split_calibrations
from warp_train.runtime.errors import WarpTrainError

_CALIBRATION_DRAWS = 200
_FACTOR_DRAWS = 8
_LATTICE = 16  # a side, of a quarter of the frame
_TAIL_POINTS = 24
_TAIL_WEIGHT = 0.05  # of the frame's, for what lies between it and the photo's corner
_FARTHEST = 2.0  # in frame corners: how far out the photo's corner is looked for
_ZOOM_STEPS = 60
_ZOOM_TOLERANCE = 1e-3  # the fit needs the domain, not the last digit: `s` is solved afterwards


@dataclass(frozen=True)
class LensfunLenses:
    """Calibrations to draw lenses from; a few arrays, so that it is cheap to pickle."""

    terms: Array
    """[N, 5]: `Calibration.terms`."""
    cumulative: Array
    """[N], rising to 1: the chance of each calibration and all before it."""
    amplify: tuple[float, float]
    real_share: float
    lens: LensConfig
    """Of which `tangential`, `decentre` and `min_det` count."""

    def sample(self, rng: np.random.Generator, height: int, width: int) -> Array:
        """A lens `[k1, k2, k3, p1, p2, dcx, dcy, s]` (float64), nearest to a drawn calibration.

        The calibration's unit is half the short side of the frame, whatever its camera's was.
        Raises WarpTrainError when practically every draw folds.
        """
        last = len(self.cumulative) - 1
        for _ in range(_CALIBRATION_DRAWS):
            row = min(int(np.searchsorted(self.cumulative, rng.random(), side="right")), last)
            real = rng.random() < self.real_share
            # Redrawing the factor before the calibration keeps strong lenses as frequent as others.
            for _ in range(1 if real else _FACTOR_DRAWS):
                factor = 1.0 if real else float(np.exp(rng.uniform(*np.log(self.amplify))))
                radial = fit_brown(factor * self.terms[row], height, width)
                aside = draw_misalignment(rng, self.lens)
                if radial is None:
                    continue
                params = np.array([*radial[:3], *aside, radial[3]])
                solved = usable_lens(params, height, width, self.lens.min_det)
                if solved is not None:
                    return solved
        raise WarpTrainError(
            f"data.lensfun: no lens without folds found for amplify {list(self.amplify)}; "
            "allow a smaller factor or a smaller data.lens.min_det"
        )


def lensfun_lenses(config: LensfunConfig, lens: LensConfig) -> tuple[LensfunLenses, LensfunLenses]:
    """The lenses of the training and of the validation samples, read from the database once.

    Raises WarpTrainError, in one line: lensfunpy is not installed, a maker that lensfun does not
    have, no calibration left to train or to validate on.
    """
    train, val = split_calibrations(read_calibrations(), config)
    return _lenses(train, config, lens), _lenses(val, config, lens)


def _lenses(
    entries: Collection[Calibration], config: LensfunConfig, lens: LensConfig
) -> LensfunLenses:
    terms = np.array([entry.terms for entry in entries])
    cumulative = np.cumsum(_chances(entries))
    return LensfunLenses(
        terms, cumulative / cumulative[-1], config.amplify, config.real_share, lens
    )


def _chances(entries: Collection[Calibration]) -> Array:
    """[N]: makers by the root of their number of lenses, then lenses alike, then focal lengths.

    The root lies between two evils: drawing lenses alike trains on three or four large makers, and
    drawing makers alike on the one lens of many a small one. A zoom of twenty calibrations counts
    as one lens.
    """
    lens_of = [(entry.maker.casefold(), entry.lens) for entry in entries]
    per_lens = Counter(lens_of)
    per_maker = Counter(maker for maker, _ in per_lens)
    return np.array([per_maker[lens[0]] ** -0.5 / per_lens[lens] for lens in lens_of])


def fit_brown(terms: Array, height: int, width: int) -> tuple[float, float, float, float] | None:
    """`(k1, k2, k3, s)` of the Brown–Conrady lens nearest to `Rd = Ru (1 + Σ t_i Ruⁱ)`, or None.

    `terms` [5] go with radii in half short sides, the result with half diagonals of the frame, as
    everywhere in `warp_train.geometry`.
    Zoomed so that the photo about covers the corrected frame. With `u = R/s` the source
    `u (1 + k1 u² + k2 u⁴ + k3 u⁶)` is linear in its coefficients up to the scale of `u`.
    Least squares over the frame's area, and with little weight on to the photo's corner, whose
    corrected place is needed to bend a photo. None where the curve folds before that.
    """
    corner = float(np.hypot(width - 1, height - 1)) / (min(height, width) - 1)
    zoom = _covering_zoom(terms, corner)
    if zoom is None:
        return None
    frame = zoom * _frame_radii(height, width)
    tail = _beyond_frame(terms, zoom * corner, corner)
    weight = np.sqrt(_TAIL_WEIGHT * len(frame) / max(len(tail), 1))
    weights = np.concatenate([np.ones(len(frame)), np.full(len(tail), weight)])
    radii = np.concatenate([frame, tail])
    r = radii / corner
    r2 = r * r
    rows = np.stack([r, r * r2, r * r2**2, r * r2**3]) * weights
    a1, a3, a5, a7 = np.linalg.solve(rows @ rows.T, rows @ (r * _radial(terms, radii) * weights))
    if a1 <= 0:
        return None
    return float(a3 / a1**3), float(a5 / a1**5), float(a7 / a1**7), float(1 / (a1 * zoom))


def _radial(terms: Array, radii: Array) -> Array:
    t0, t1, t2, t3, t4 = terms
    radial: Array = 1 + t0 + radii * (t1 + radii * (t2 + radii * (t3 + radii * t4)))
    return radial


def _covering_zoom(terms: Array, corner: float) -> float | None:
    """The zoom at which the frame's border reads just up to the photo's, or None.

    On every side the photo is read farthest where `radial` is largest along the border, whose
    distances from the centre are 1 … `corner`.
    """
    border = np.linspace(1, corner, 17)
    zoom = 1.0
    for _ in range(_ZOOM_STEPS):
        reach = zoom * float(_radial(terms, zoom * border).max())
        if not 0.2 < reach < 5:
            return None
        if abs(reach - 1) < _ZOOM_TOLERANCE:
            return zoom
        zoom *= reach**-0.7
    return None


def _beyond_frame(terms: Array, start: float, corner: float) -> Array:
    """Corrected radii from `start` on to where the photo's corner is read, or the curve folds."""
    radii = np.linspace(start, _FARTHEST * start, _TAIL_POINTS + 1)[1:]
    reads = radii * _radial(terms, radii)
    past = (reads > 1.03 * corner) | (np.diff(reads, prepend=-np.inf) <= 0)
    return radii[: int(past.argmax())] if past.any() else radii


@lru_cache(maxsize=16)
def _frame_radii(height: int, width: int) -> Array:
    """Radii of evenly spread points of the frame, in half short sides: each weighs its area."""
    short = min(height, width) - 1
    x, y = np.meshgrid(
        np.linspace(0, (width - 1) / short, _LATTICE),
        np.linspace(0, (height - 1) / short, _LATTICE),
    )
    radii: Array = np.hypot(x, y).ravel()
    return radii
