"""Brown–Conrady lenses in numpy: random lenses, and the inverse map of a complete frame.

The formula is the one in `warp_train.geometry`. Here it is evaluated in loading processes at a few
hundred points per sample, where the overhead of a torch call would exceed the arithmetic.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from warp_train.data.lens_config import LensConfig
from warp_train.data.lens_shapes import radial_terms, shapes
from warp_train.runtime.errors import WarpTrainError

Array = NDArray[np.floating[Any]]
Points = tuple[Array, Array]

_SHAPE_DRAWS = 8
_BEND_DRAWS = 400
_TOUCH = 1 - 1e-5  # of the half frame: slightly inside, so that float32 rounding stays inside
_RADII = np.linspace(0.0, 2.0, 101)
_MIN_SLOPE = 0.2  # of the radial curve, from the centre to the radius that reads the input's corner
_NODES = 41
_NEWTON_STEPS = 3
_SMALL_STEP = 2e-5  # in half diagonals: the error after such a step is a few times its square


class LensSampler(Protocol):
    """The distribution that `scenes` and `photos` draw lenses from. It must be picklable, since
    loading processes receive it by pickle."""

    def sample(self, rng: np.random.Generator, height: int, width: int) -> Array:
        """A lens `[k1, k2, k3, p1, p2, dcx, dcy, s]` (float64) for frames of that size.

        A pure function of the generator's state. The lens's `s` is such that the distorted frame
        just covers the corrected one. Raises WarpTrainError if practically every draw is rejected.
        """
        ...


@dataclass(frozen=True)
class AnalyticLenses:
    """The distribution in a recipe's section `data.lens`."""

    config: LensConfig

    def sample(self, rng: np.random.Generator, height: int, width: int) -> Array:
        """See `sample_lens`."""
        return sample_lens(rng, self.config, height, width)


def half_extent(height: int, width: int) -> tuple[float, float]:
    """Half width and half height of a frame in lens units (a corner is at radius 1)."""
    diagonal = float(np.hypot(width - 1, height - 1))
    return (width - 1) / diagonal, (height - 1) / diagonal


def backward_map(params: Array, x: Array, y: Array) -> Points:
    """Position in the input at which each corrected point is read, both in lens units."""
    _, _, _, p1, p2, cx, cy, s = params
    ux, uy = (x - cx) / s, (y - cy) / s
    r2, gain = _gain(params, ux, uy)
    return ux * gain + p2 * r2 + cx, uy * gain + p1 * r2 + cy


def _radial(params: Array, r2: Array) -> Array:
    k1, k2, k3 = params[:3]
    radial: Array = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    return radial


def _gain(params: Array, ux: Array, uy: Array) -> tuple[Array, Array]:
    """`r²`, and the factor of `u` in the source position."""
    r2 = ux * ux + uy * uy
    return r2, _radial(params, r2) + 2 * (params[4] * ux + params[3] * uy)


def _jacobian(
    params: Array, ux: Array, uy: Array, r2: Array, both: Array
) -> tuple[Array, Array, Array]:
    """Derivative of the source by `u`, a symmetric matrix: (xx, xy, yy). `r2, both` is `_gain`'s
    result."""
    k1, k2, k3, p1, p2 = params[:5]
    slope = 2 * k1 + r2 * (4 * k2 + r2 * (6 * k3))
    cross = ux * uy * slope + 2 * (p1 * ux + p2 * uy)
    return both + ux * (ux * slope + 4 * p2), cross, both + uy * (uy * slope + 4 * p1)


def min_determinant(params: Array, height: int, width: int) -> float:
    """Smallest local area ratio of the backward map in the corrected frame; 1 for the identity."""
    x, y = _lattice(height, width)
    s = params[7]
    ux, uy = (x - params[5]) / s, (y - params[6]) / s
    xx, cross, yy = _jacobian(params, ux, uy, *_gain(params, ux, uy))
    return float((xx * yy - cross * cross).min() / s**2)


@lru_cache(maxsize=16)
def _lattice(height: int, width: int, count: int = 17) -> Points:
    ax, ay = half_extent(height, width)
    x, y = np.meshgrid(np.linspace(-ax, ax, count), np.linspace(-ay, ay, count))
    return x.ravel(), y.ravel()


@lru_cache(maxsize=16)
def _border(height: int, width: int) -> Points:
    """Every border pixel's centre, in lens units."""
    ax, ay = half_extent(height, width)
    xs, ys = np.linspace(-ax, ax, width), np.linspace(-ay, ay, height)
    x = np.concatenate([xs, xs, np.full(height, -ax), np.full(height, ax)])
    y = np.concatenate([np.full(width, -ay), np.full(width, ay), ys, ys])
    return x, y


def _reach(params: Array, height: int, width: int) -> float:
    """Farthest position that the corrected frame is read at; 1 is exactly the input's border."""
    ax, ay = half_extent(height, width)
    sx, sy = backward_map(params, *_border(height, width))
    return float(max(np.abs(sx).max() / ax, np.abs(sy).max() / ay))


def solve_scale(params: Array, height: int, width: int) -> Array | None:
    """The lens with the `s` at which the input just covers the corrected frame, or None if no such
    `s` is found. Secant method in the logarithm of `s`."""
    lens: Array = params.copy()
    previous: tuple[float, float] | None = None
    for _ in range(24):
        log_s, error = float(np.log(lens[7])), float(np.log(_reach(lens, height, width) / _TOUCH))
        if abs(error) < 1e-7:
            return lens
        if previous is not None and log_s == previous[0]:  # clipped at the largest or smallest s
            return None
        slope = -1.0 if previous is None else (error - previous[1]) / (log_s - previous[0])
        if not -20 < slope < -0.02:  # a kink, or a curve about to fold
            slope = -1.0
        previous = (log_s, error)
        lens[7] = np.exp(np.clip(log_s - error / slope, -1.0, 1.0))
    return None


def reaches_corner(params: Array) -> bool:
    """Whether the radial curve rises with at least `_MIN_SLOPE` up to the input's farthest corner.
    Such a lens can be inverted on the complete input frame."""
    r2 = _RADII * _RADII
    k1, k2, k3 = params[:3]
    slope = 1 + r2 * (3 * k1 + r2 * (5 * k2 + r2 * 7 * k3))
    far = 1.02 + float(np.hypot(params[5], params[6])) + 4 * float(np.hypot(params[3], params[4]))
    reached = _RADII * _radial(params, r2) >= far
    end = int(reached.argmax())
    return bool(reached[end] and slope[: end + 1].min() > _MIN_SLOPE)


def usable_lens(params: Array, height: int, width: int, min_det: float) -> Array | None:
    """The lens with `s` solved; None if it folds, nearly folds or cannot be inverted.

    Args:
        params: the lens; its `s` is the start value.
        height, width: size of the frame in pixels.
        min_det: the lens is refused unless its smallest local area ratio in the frame is larger.
    """
    if not reaches_corner(params):
        return None
    solved = solve_scale(params, height, width)
    safe = solved is not None and min_determinant(solved, height, width) > min_det
    return solved if safe else None


def draw_misalignment(rng: np.random.Generator, lens: LensConfig) -> tuple[float, ...]:
    """Random `(p1, p2, dcx, dcy)`: the tangential terms and the centre of an imperfectly aligned
    lens."""
    p = rng.uniform(-1, 1, 2) * lens.tangential
    c = rng.uniform(-1, 1, 2) * lens.decentre
    return (*p, *c)


def sample_lens(rng: np.random.Generator, lens: LensConfig, height: int, width: int) -> Array:
    """A lens `[k1, k2, k3, p1, p2, dcx, dcy, s]` (float64) from the distribution `lens`.

    `s` is solved so that the input frame just covers the corrected one, which is read up to a
    border of the input and never outside. The determinant of the backward map exceeds
    `lens.min_det` everywhere in the frame.
    Raises WarpTrainError if the distribution contains practically no such lens.
    """
    if lens.straight > 0 and rng.random() < lens.straight:
        return np.array([0, 0, 0, 0, 0, 0, 0, 1.0])
    for _ in range(_BEND_DRAWS):
        # A rejected lens gets another shape first: strong bends must not become rarer.
        for shape in islice(shapes(rng, lens), _SHAPE_DRAWS):
            params = np.array([*radial_terms(shape), *draw_misalignment(rng, lens), 1.0])
            solved = usable_lens(params, height, width, lens.min_det)
            if solved is not None:
                return solved
    raise WarpTrainError(
        f"data.lens: no lens without folds found for bend {list(lens.bend)}; "
        "set a weaker bend or a smaller min_det"
    )


def _newton_step(params: Array, u: Points, target: Points) -> Points:
    """One Newton step towards the `u` that the lens, without its centre, maps to `target`."""
    ux, uy = u
    p1, p2 = params[3:5]
    r2, gain = _gain(params, ux, uy)
    ex, ey = ux * gain + p2 * r2 - target[0], uy * gain + p1 * r2 - target[1]
    xx, cross, yy = _jacobian(params, ux, uy, r2, gain)
    det = xx * yy - cross * cross
    return ux - (yy * ex - cross * ey) / det, uy - (xx * ey - cross * ex) / det


def _radial_start(params: Array, target: Points) -> Points:
    """The inverse of the radial part alone, from a table of the curve up to its first maximum."""
    curve = _RADII * _radial(params, _RADII * _RADII)
    falls = np.flatnonzero(np.diff(curve) <= 0)
    end = int(falls[0]) + 1 if falls.size else len(curve)
    radius = np.sqrt(target[0] ** 2 + target[1] ** 2)
    ratio = np.interp(radius, curve[:end], _RADII[:end]) / np.maximum(radius, 1e-12)
    return target[0] * ratio, target[1] * ratio


@lru_cache(maxsize=16)
def _chebyshev(size: int) -> tuple[Array, Array]:
    """Nodes in -1..1, and the matrix from values at them to values at `size` pixel centres.

    Barycentric interpolation at Chebyshev points of the second kind (Berrut and Trefethen, 2004).
    """
    nodes = -np.cos(np.pi * np.arange(_NODES) / (_NODES - 1))
    weights = (-1.0) ** np.arange(_NODES)
    weights[[0, -1]] /= 2
    gap = np.linspace(-1, 1, size)[:, None] - nodes[None]
    hit = np.abs(gap) < 1e-12
    rows = weights / np.where(hit, 1.0, gap)
    rows /= rows.sum(1, keepdims=True)
    rows = np.where(hit.any(1, keepdims=True), hit, rows)
    return nodes, rows.astype(np.float32)


def inverse_map(params: Array, height: int, width: int) -> Points:
    """Corrected pixel position (x, y), each float32 [H, W], of every pixel of the distorted input.

    Positions are in pixels of the corrected frame and may lie outside it. Newton's method is used
    at the nodes, with interpolation between them. The error is largest where a lens nearly folds,
    about 0.02 px.
    """
    ax, ay = half_extent(height, width)
    cx, cy, s = params[5:8]
    (nodes_x, to_x), (nodes_y, to_y) = _chebyshev(width), _chebyshev(height)
    target = (nodes_x * ax - cx, (nodes_y * ay - cy)[:, None])
    u = _radial_start(params, target)
    for _ in range(_NEWTON_STEPS):
        before, u = u, _newton_step(params, u, target)
        if max(float(np.abs(a - b).max()) for a, b in zip(u, before, strict=True)) < _SMALL_STEP:
            break
    to_px_x, to_px_y = (width - 1) / 2 / ax, (height - 1) / 2 / ay
    x = ((u[0] * s + cx + ax) * to_px_x).astype(np.float32)
    y = ((u[1] * s + cy + ay) * to_px_y).astype(np.float32)
    return to_y @ x @ to_x.T, to_y @ y @ to_x.T
