"""Brown–Conrady lenses in numpy: drawing them, and inverting them on a whole frame.

The formula is that of `warp_train.geometry`; here it runs in loading processes on a few hundred
points a sample, where torch's per-call cost would exceed the arithmetic.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from warp_train.data.config import LensConfig
from warp_train.runtime.errors import WarpTrainError

Array = NDArray[np.floating[Any]]
Points = tuple[Array, Array]

_SHAPE_DRAWS = 8
_BEND_DRAWS = 400
_TOUCH = 1 - 1e-5  # of the half frame: a hair inside, so that float32 never reads outside
_RADII = np.linspace(0.0, 2.0, 101)
_MIN_SLOPE = 0.2  # of the radial curve, out to where the input frame's corner is read from
_NODES = 41
_NEWTON_STEPS = 3
_SMALL_STEP = 2e-5  # in half diagonals: what is left after it is its square, times a few


class LensSampler(Protocol):
    """What `scenes` and `photos` draw their lenses from; goes to loading processes by pickle."""

    def sample(self, rng: np.random.Generator, height: int, width: int) -> Array:
        """A lens `[k1, k2, k3, p1, p2, dcx, dcy, s]` (float64) for frames of that size.

        A pure function of the generator's state. The frame as the lens bends it just covers the
        corrected one. Raises WarpTrainError where practically no lens can be drawn.
        """
        ...


@dataclass(frozen=True)
class AnalyticLenses:
    """The distribution that a recipe states as `data.lens`."""

    config: LensConfig

    def sample(self, rng: np.random.Generator, height: int, width: int) -> Array:
        """See `sample_lens`."""
        return sample_lens(rng, self.config, height, width)


def half_extent(height: int, width: int) -> tuple[float, float]:
    """Half width and half height of a frame in lens units (a corner is at radius 1)."""
    diagonal = float(np.hypot(width - 1, height - 1))
    return (width - 1) / diagonal, (height - 1) / diagonal


def backward_map(params: Array, x: Array, y: Array) -> Points:
    """Where corrected points (lens units) are read in the input (lens units)."""
    _, _, _, p1, p2, cx, cy, s = params
    ux, uy = (x - cx) / s, (y - cy) / s
    r2, gain = _gain(params, ux, uy)
    return ux * gain + p2 * r2 + cx, uy * gain + p1 * r2 + cy


def _radial(params: Array, r2: Array) -> Array:
    k1, k2, k3 = params[:3]
    radial: Array = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    return radial


def _gain(params: Array, ux: Array, uy: Array) -> tuple[Array, Array]:
    """`r²`, and the factor that `u` has in the source."""
    r2 = ux * ux + uy * uy
    return r2, _radial(params, r2) + 2 * (params[4] * ux + params[3] * uy)


def _jacobian(
    params: Array, ux: Array, uy: Array, r2: Array, both: Array
) -> tuple[Array, Array, Array]:
    """Derivative of the source by `u`, a symmetric matrix: (xx, xy, yy). See `_gain`."""
    k1, k2, k3, p1, p2 = params[:5]
    slope = 2 * k1 + r2 * (4 * k2 + r2 * (6 * k3))
    cross = ux * uy * slope + 2 * (p1 * ux + p2 * uy)
    return both + ux * (ux * slope + 4 * p2), cross, both + uy * (uy * slope + 4 * p1)


def min_determinant(params: Array, height: int, width: int) -> float:
    """Smallest area change of the backward map over the corrected frame; 1 for identity."""
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
    """How far out the corrected frame reads, 1 being exactly the input's border."""
    ax, ay = half_extent(height, width)
    sx, sy = backward_map(params, *_border(height, width))
    return float(max(np.abs(sx).max() / ax, np.abs(sy).max() / ay))


def solve_scale(params: Array, height: int, width: int) -> Array | None:
    """The lens with `s` such that the input just covers the corrected frame, or None."""
    lens: Array = params.copy()
    previous: tuple[float, float] | None = None
    for _ in range(24):
        log_s, error = float(np.log(lens[7])), float(np.log(_reach(lens, height, width) / _TOUCH))
        if abs(error) < 1e-7:
            return lens
        if previous is not None and log_s == previous[0]:  # held at the largest or smallest scale
            return None
        slope = -1.0 if previous is None else (error - previous[1]) / (log_s - previous[0])
        if not -20 < slope < -0.02:  # a kink, or a curve about to fold
            slope = -1.0
        previous = (log_s, error)
        lens[7] = np.exp(np.clip(log_s - error / slope, -1.0, 1.0))
    return None


def reaches_corner(params: Array) -> bool:
    """Whether the radial curve rises steadily out to the input's farthest corner."""
    r2 = _RADII * _RADII
    k1, k2, k3 = params[:3]
    slope = 1 + r2 * (3 * k1 + r2 * (5 * k2 + r2 * 7 * k3))
    far = 1.02 + float(np.hypot(params[5], params[6])) + 4 * float(np.hypot(params[3], params[4]))
    reached = _RADII * _radial(params, r2) >= far
    end = int(reached.argmax())
    return bool(reached[end] and slope[: end + 1].min() > _MIN_SLOPE)


def usable_lens(params: Array, height: int, width: int, min_det: float) -> Array | None:
    """The lens with its scale solved; None where it folds, nearly does, or cannot be inverted."""
    if not reaches_corner(params):
        return None
    solved = solve_scale(params, height, width)
    safe = solved is not None and min_determinant(solved, height, width) > min_det
    return solved if safe else None


def draw_misalignment(rng: np.random.Generator, lens: LensConfig) -> tuple[float, ...]:
    """Tangential terms and centre `(p1, p2, dcx, dcy)`: a lens that is not quite in line."""
    p = rng.uniform(-1, 1, 2) * lens.tangential
    c = rng.uniform(-1, 1, 2) * lens.decentre
    return (*p, *c)


def _draw(rng: np.random.Generator, lens: LensConfig, bend: float) -> Array:
    m = bend * rng.uniform(*lens.early) + rng.uniform(-1, 1) * lens.moustache
    w = rng.uniform(-1, 1) * lens.ripple
    k = (bend + 4 * m + 10.4 * w, -4 * m - 31.2 * w, 20.8 * w)
    return np.array([*k, *draw_misalignment(rng, lens), 1.0])


def sample_lens(rng: np.random.Generator, lens: LensConfig, height: int, width: int) -> Array:
    """A lens `[k1, k2, k3, p1, p2, dcx, dcy, s]` (float64) from the stated distribution.

    `s` is solved so that the input frame just covers the corrected one: it is read up to a border
    and never outside. The backward map's determinant exceeds `lens.min_det` in the whole frame.
    Raises WarpTrainError when the distribution holds practically no such lens.
    """
    for _ in range(_BEND_DRAWS):
        bend = rng.uniform(*lens.bend)
        # Redrawing the shape before the bend keeps strong bends as frequent as stated.
        for _ in range(_SHAPE_DRAWS):
            params = _draw(rng, lens, bend)
            solved = usable_lens(params, height, width, lens.min_det)
            if solved is not None:
                return solved
    raise WarpTrainError(
        f"data.lens: no lens without folds found for bend {list(lens.bend)}; "
        "allow a weaker bend or a smaller min_det"
    )


def _newton_step(params: Array, u: Points, target: Points) -> Points:
    """One step towards the `u` that the lens, its centre left out, maps to `target`."""
    ux, uy = u
    p1, p2 = params[3:5]
    r2, gain = _gain(params, ux, uy)
    ex, ey = ux * gain + p2 * r2 - target[0], uy * gain + p1 * r2 - target[1]
    xx, cross, yy = _jacobian(params, ux, uy, r2, gain)
    det = xx * yy - cross * cross
    return ux - (yy * ex - cross * ey) / det, uy - (xx * ey - cross * ex) / det


def _radial_start(params: Array, target: Points) -> Points:
    """The inverse of the radial part alone, from a table of its first rising stretch."""
    curve = _RADII * _radial(params, _RADII * _RADII)
    falls = np.flatnonzero(np.diff(curve) <= 0)
    end = int(falls[0]) + 1 if falls.size else len(curve)
    radius = np.sqrt(target[0] ** 2 + target[1] ** 2)
    ratio = np.interp(radius, curve[:end], _RADII[:end]) / np.maximum(radius, 1e-12)
    return target[0] * ratio, target[1] * ratio


@lru_cache(maxsize=16)
def _chebyshev(size: int) -> tuple[Array, Array]:
    """Nodes in -1..1, and the matrix from values there to values at `size` pixel centres.

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

    Positions are in pixels of the corrected frame and may lie outside it. Newton's method at the
    nodes, interpolated between them: to about 0.02 px at worst, where a lens nearly folds.
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
