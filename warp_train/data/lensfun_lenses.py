"""Real lenses: lensfun's calibrations, amplified or not, as Brown–Conrady lenses."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from warp_train.data.lens_config import LensConfig, LensfunConfig
from warp_train.data.lenses import Array, draw_misalignment, usable_lens
from warp_train.data.lensfun_calibrations import Calibration, read_calibrations, split_calibrations
from warp_train.runtime.errors import WarpTrainError

_CALIBRATION_DRAWS = 200
_FACTOR_DRAWS = 8
_LATTICE = 16  # points per side of a quarter of the frame
_TAIL_POINTS = 24
_TAIL_WEIGHT = 0.05  # weight of all radii beyond the frame, relative to those within it
_FARTHEST = 2.0  # largest radius of the fit, in radii of the frame's corner
_ZOOM_STEPS = 60
_ZOOM_TOLERANCE = 1e-3  # coarse, since `s` is solved precisely after the fit


@dataclass(frozen=True)
class LensfunLenses:
    """Calibrations to draw lenses from. It consists of a few arrays, so it is cheap to pickle."""

    terms: Array
    """[N, 5]: `Calibration.terms`."""
    cumulative: Array
    """[N], rising to 1: cumulative chances of the calibrations."""
    amplify: tuple[float, float]
    real_share: float
    lens: LensConfig
    """Only `tangential`, `decentre` and `min_det` are used."""

    def sample(self, rng: np.random.Generator, height: int, width: int) -> Array:
        """The lens `[k1, k2, k3, p1, p2, dcx, dcy, s]` (float64) nearest to a drawn calibration.

        The calibration is applied in units of half the short side of the frame, even if the frame
        has another aspect ratio than the calibrated camera. Raises WarpTrainError if practically
        every lens folds.
        """
        last = len(self.cumulative) - 1
        for _ in range(_CALIBRATION_DRAWS):
            row = min(int(np.searchsorted(self.cumulative, rng.random(), side="right")), last)
            real = rng.random() < self.real_share
            # A rejected lens gets a new factor first: strong calibrations must not become rarer.
            for _ in range(1 if real else _FACTOR_DRAWS):
                factor = 1.0 if real else float(np.exp(rng.uniform(*np.log(self.amplify))))
                radial = fit_brown(factor * self.terms[row], height, width)
                misalignment = draw_misalignment(rng, self.lens)
                if radial is None:
                    continue
                params = np.array([*radial[:3], *misalignment, radial[3]])
                solved = usable_lens(params, height, width, self.lens.min_det)
                if solved is not None:
                    return solved
        raise WarpTrainError(
            f"data.lensfun: no lens without folds found for amplify {list(self.amplify)}; "
            "set a smaller factor or a smaller data.lens.min_det"
        )


def lensfun_lenses(config: LensfunConfig, lens: LensConfig) -> tuple[LensfunLenses, LensfunLenses]:
    """The lenses of the training and of the validation samples; the database is read once.

    Raises WarpTrainError, in one line, if lensfunpy is not installed, a maker is unknown, or no
    calibration is left to train or to validate on.
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
    """[N] chances, not normalised.

    A maker's chance grows with the square root of its number of lenses; its lenses are equally
    likely, and so are the calibrations of a lens. The root is a compromise: with equally likely
    lenses, three or four large makers would dominate; with equally likely makers, the few lenses
    of small makers would. A zoom lens with twenty calibrations counts as one lens.
    """
    lens_of = [(entry.maker.casefold(), entry.lens) for entry in entries]
    per_lens = Counter(lens_of)
    per_maker = Counter(maker for maker, _ in per_lens)
    return np.array([per_maker[lens[0]] ** -0.5 / per_lens[lens] for lens in lens_of])


def fit_brown(terms: Array, height: int, width: int) -> tuple[float, float, float, float] | None:
    """`(k1, k2, k3, s)` of the Brown–Conrady lens nearest to `Rd = Ru (1 + Σ t_i Ruⁱ)`, or None.

    With `u = R/s`, the source `u (1 + k1 u² + k2 u⁴ + k3 u⁶)` is linear in its coefficients up to
    the scale of `u`. They are fitted by least squares over the frame's area and, with a small
    weight, beyond it up to the photo's corner, since bending a photo needs the corrected position
    of its corner. `s` is such that the photo approximately covers the corrected frame.

    Args:
        terms: `[5]`, for radii in half short sides of the frame.
        height, width: size of the frame in pixels.

    Returns:
        The parameters for radii in half diagonals, as in `warp_train.geometry`; None if no `s` is
        found or the fitted curve falls at the centre.
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
    """The zoom at which the frame is read just up to the photo's border, or None.

    The farthest position is read where `radial` is largest along the border, whose points have
    distances of 1 … `corner` from the centre.
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
    """Corrected radii from `start` to where the photo's corner is read or the curve folds."""
    radii = np.linspace(start, _FARTHEST * start, _TAIL_POINTS + 1)[1:]
    reads = radii * _radial(terms, radii)
    past = (reads > 1.03 * corner) | (np.diff(reads, prepend=-np.inf) <= 0)
    return radii[: int(past.argmax())] if past.any() else radii


@lru_cache(maxsize=16)
def _frame_radii(height: int, width: int) -> Array:
    """Radii, in half short sides, of points on a regular lattice: each represents an equal area."""
    short = min(height, width) - 1
    x, y = np.meshgrid(
        np.linspace(0, (width - 1) / short, _LATTICE),
        np.linspace(0, (height - 1) / short, _LATTICE),
    )
    radii: Array = np.hypot(x, y).ravel()
    return radii
