"""Finds the edges of a photo, follows each along its length, and measures its curvature.

A lens bends a straight edge by fractions of a pixel: invisible over 16 px, visible over 100 px. The
clearest point of every 8 × 8 cell is taken, the photo is read in a strip along the edge through it,
and a parabola is fitted to the edge's position across the strip: three times, each over a longer
stretch around the previous fit. Along the last parabola a second, longer strip is read, which shows
how far the edge continues. Whether the edge is straight in the world is decided elsewhere.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from warp_train.geometry import full_precision, half_diagonal, luma
from warp_train.models.line_channels import central_differences

CELL_PX = 8
"""Side of the cells that hold at most one edge; also the stride of `tiny`."""
STRETCHES = (0.035, 0.07, 0.14, 0.28)
"""Standard deviations of the stretches that parabolas are fitted over, in half diagonals."""

_PHOTOS_AT_A_TIME = 4  # on a CPU: a whole batch does not fit into its caches
_STEPS = 16  # samples along a strip to either side
_CUT = 1.5  # deviations of its longest stretch that a strip reaches to either side
_NEAR_PX, _FAR_PX = 5, 3  # to either side of a strip, where an edge is looked for
_FAR_START = 0.2  # half diagonals: the stretch by which the second strip is first straightened
_FIRST_WINDOW_PX, _WINDOW_PX = 6.0, 3.9  # an edge counts up to this distance from the expected one
_JUMP_PX = 0.5  # a sample this far from the previous fit has half the weight
_TURNED = 2.0  # the other polarity is used where it is this many times stronger
_FAINT = 0.1  # of the contrast at the edge's clearest point: fainter samples have less weight
_RIDGE = (1e-3, 1e-2, 1e-2)  # regularises the three coefficients of a fit, for very faint edges
_LEAST_SPREAD_PX2 = 4e-4
_SHARE_OF_INDEPENDENT = 1 / 3  # neighbouring samples along an edge are correlated by blur


class Edges(NamedTuple):
    """The edges of photos, strongest first. Lengths are in half diagonals."""

    position: Tensor
    """`[B, N, 2]`: x and y from the photo's centre."""
    normal: Tensor
    """`[B, N, 2]`: unit vector across the edge, to its brighter side."""
    curvature: Tensor
    """`[B, N, 4]`: along the normal, over each of `STRETCHES`, in 1 / half diagonal."""
    variance: Tensor
    """`[B, N, 4]`: of the curvature, from how well the parabola fits."""
    support: Tensor
    """`[B, N, 4]`: share of the stretch in which the edge was seen, 0 … 1."""
    strength: Tensor
    """`[B, N]`: gradient of the luma in 1 / px, luma in 0 … 1."""
    cell: Tensor
    """`[B, N, 2]` int64: row and column of the edge's cell."""


class _Strip(NamedTuple):
    slope: Tensor
    """`[B, N, T, S]`: of the brightness across the edge, along and across it; above 0 where it
    rises as it does at the edge's clearest point."""
    inside: Tensor
    """`[B, N, T]`: 1 where the strip's middle lies in the photo."""
    along: Tensor
    """`[T]` in half diagonals."""
    across: Tensor
    """`[S]` in px."""


class _Fit(NamedTuple):
    """`level + slope t + bend t²/2` in px at `t` half diagonals, `[B, N]` each."""

    level: Tensor
    slope: Tensor
    bend: Tensor
    variance: Tensor
    """Of `bend`."""
    support: Tensor

    def at(self, along: Tensor) -> Tensor:
        """`[B, N, T]` px."""
        level, slope, bend = self.level[..., None], self.slope[..., None], self.bend[..., None]
        return level + along * (slope + along * (bend / 2))


@torch.no_grad()
@full_precision
def measure_edges(image: Tensor, most: int) -> Edges:
    """The edges of photos `[B, 3, H, W]` in 0..1, of any size: the `most` strongest, one a cell."""
    at_a_time = _PHOTOS_AT_A_TIME if image.device.type == "cpu" else len(image)
    parts = [_measure(part, most) for part in image.chunk(math.ceil(len(image) / at_a_time))]
    return parts[0] if len(parts) == 1 else Edges(*(torch.cat(p) for p in zip(*parts, strict=True)))


def _measure(image: Tensor, most: int) -> Edges:
    height, width = image.shape[-2:]
    unit = half_diagonal(height, width)
    smooth = _smooth_luma(image)
    pixel, normal, strength, cell = _clearest(*central_differences(smooth), most)
    smooth = smooth[:, None, 1:-1, 1:-1]
    near = _read(smooth, pixel, normal, STRETCHES[2], _NEAR_PX, None)
    _, *fits = _follow(near, (STRETCHES[0], *STRETCHES[:3]), None)
    far = _read(smooth, pixel, normal, STRETCHES[3], _FAR_PX, fits[-1])
    *_, rest = _follow(far, (_FAR_START, STRETCHES[3]), torch.zeros_like(far.inside))
    fits.append(rest._replace(bend=fits[-1].bend + rest.bend))
    tangent = torch.stack((-normal[..., 1], normal[..., 0]), -1)
    return Edges(
        position=(pixel - pixel.new_tensor(((width - 1) / 2, (height - 1) / 2))) / unit,
        normal=F.normalize(normal - fits[1].slope[..., None] / unit * tangent, dim=-1),
        curvature=torch.stack([fit.bend for fit in fits], -1) / unit,
        variance=torch.stack([fit.variance for fit in fits], -1) / unit**2,
        support=torch.stack([fit.support for fit in fits], -1),
        strength=strength,
        cell=cell,
    )


def _binomial(field: Tensor, order: int) -> Tensor:
    """`[..., H, W]` smoothed along both axes, with variance `order / 4` px², `order` px smaller.

    The Gaussian's nearest relative with whole weights, and sums of two are all that it takes.
    """
    for _ in range(order):
        field = field[..., 1:] + field[..., :-1]
    for _ in range(order):
        field = field[..., 1:, :] + field[..., :-1, :]
    return field * 0.25**order


def _smooth_luma(image: Tensor) -> Tensor:
    """`[B, H + 2, W + 2]`, smoothed with a deviation of 1 px; the border is repeated outside."""
    return _binomial(F.pad(luma(image), (3, 3, 3, 3), mode="replicate"), 4).squeeze(1)


def _clearest(l_x: Tensor, l_y: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The clearest edge point of the `most` clearest cells: pixel, unit normal, strength and
    cell."""
    height, width = l_x.shape[-2:]
    x2, y2 = l_x * l_x, l_y * l_y
    tensor = torch.stack((x2 - y2, 2 * l_x * l_y, x2 + y2), dim=1)
    # The structure tensor at half the photo's resolution: directions change slowly.
    half = F.avg_pool2d(tensor, 2, ceil_mode=True, count_include_pad=False)
    half = _binomial(F.pad(half, (1, 1, 1, 1), mode="replicate"), 2)
    re, im, energy = half.unbind(1)
    coherence = (torch.hypot(re, im) / (energy + 1e-6))[:, None]
    coherence = F.interpolate(coherence, scale_factor=2, mode="nearest")[..., :height, :width]
    clear = tensor[:, 2:] * coherence
    best, where = F.max_pool2d(clear, CELL_PX, ceil_mode=True, return_indices=True)
    columns = best.shape[-1]
    best, cell = best.flatten(1).topk(min(most, best[0].numel()), dim=1)
    where = where.flatten(1).gather(1, cell)
    row, column = where // width, where % width
    there = row // 2 * re.shape[-1] + column // 2
    angle = torch.atan2(*(part.flatten(1).gather(1, there) for part in (im, re))) / 2
    normal = torch.stack((torch.cos(angle), torch.sin(angle)), -1)
    gradient = torch.stack([part.flatten(1).gather(1, where) for part in (l_x, l_y)], -1)
    towards = torch.where((gradient * normal).sum(-1, keepdim=True) < 0, -1.0, 1.0)
    pixel = torch.stack((column, row), -1).to(l_x.dtype)
    return pixel, normal * towards, best.sqrt(), torch.stack((cell // columns, cell % columns), -1)


def _read(
    brightness: Tensor,
    pixel: Tensor,
    normal: Tensor,
    longest: float,
    reach_px: int,
    course: _Fit | None,
) -> _Strip:
    """The photo `[B, 1, H, W]` read along each edge, as far as stretches of `longest` need it.

    The strip's middle follows `course`; without one it runs straight.
    """
    height, width = brightness.shape[-2:]
    steps = torch.arange(-_STEPS, _STEPS + 1, device=brightness.device) * (_CUT * longest / _STEPS)
    across = torch.arange(-reach_px - 1, reach_px + 2.0, device=brightness.device)
    along = (steps * half_diagonal(height, width))[:, None]
    n_x, n_y = (part[..., None, None] for part in normal.unbind(-1))
    x, y = (part[..., None, None] for part in pixel.unbind(-1))
    offset = across if course is None else course.at(steps)[..., None] + across
    x, y = x - along * n_y + offset * n_x, y + along * n_x + offset * n_y
    grid = torch.stack((x * (2 / max(width - 1, 1)) - 1, y * (2 / max(height - 1, 1)) - 1), -1)
    strip = F.grid_sample(
        brightness, grid.flatten(1, 2), mode="bilinear", padding_mode="border", align_corners=True
    ).view(x.shape)
    x, y = x[..., reach_px + 1], y[..., reach_px + 1]
    inside = (x >= 1) & (x <= width - 2) & (y >= 1) & (y <= height - 2)
    slope = (strip[..., 2:] - strip[..., :-2]) / 2
    return _Strip(slope, inside.to(brightness.dtype), steps, across[1:-1])


def _follow(strip: _Strip, stretches: Sequence[float], expected: Tensor | None) -> Iterator[_Fit]:
    """A fit for each of `stretches`; each is the starting point of the next.

    `expected [B, N, T]` is where the edge runs, in px; None: by the middle, more or less.
    """
    along, across = strip.along, strip.across
    unit = stretches[-1] / 2  # makes the coefficients of one size
    signed = strip.slope * strip.slope.abs()
    for stretch in stretches:
        window = _FIRST_WINDOW_PX if expected is None else _WINDOW_PX
        away = across if expected is None else across - expected[..., None]
        # Tukey's biweight: like a Gaussian of a third of its width, without an exponential.
        near = (1 - (away / window).square()).clamp_min(0).square()
        offset, total = _line(near * signed, across)
        clearest = total[..., _STEPS, None]
        trust = strip.inside * total / (total + _FAINT * clearest + 1e-7)
        if expected is not None:
            trust = trust / (1 + ((offset - expected) / _JUMP_PX).square())
        gauss = torch.exp(-(along / stretch).square() / 2)
        weight = gauss * trust
        (level, slope, bend), variance = _parabola(weight, offset, along / unit)
        fit = _Fit(level, slope / unit, bend / unit**2, variance, weight.sum(-1) / gauss.sum())
        expected = fit.at(along)
        spread = (weight * (offset - expected).square()).sum(-1) / (weight.sum(-1) + 1e-6)
        spread = (spread + _LEAST_SPREAD_PX2) / _SHARE_OF_INDEPENDENT
        yield fit._replace(variance=spread * variance / unit**4)


def _line(slopes: Tensor, across: Tensor) -> tuple[Tensor, Tensor]:
    """Where brightness changes most, and how much, `[B, N, T]` each, of `slopes [B, N, T, S]`.

    Along a row of tiles, or where a frame passes in front of light and dark, the brighter side
    changes: falling slopes count instead of rising ones where they are by far the stronger.
    """
    rising = slopes.clamp_min(0)
    falling = rising - slopes
    up, down = rising.sum(-1), falling.sum(-1)
    turned = down > _TURNED * up
    total = torch.where(turned, down, up) + 1e-12
    return torch.where(turned, falling @ across, rising @ across) / total, total


def _parabola(
    weight: Tensor, value: Tensor, t: Tensor
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """Weighted least squares of `a + b t + c t²/2`, and the variance of `c` for unit noise.

    In closed form: thousands of 3 × 3 systems cost a solver more than their arithmetic.
    """
    t2 = t * t / 2
    m0, m1, m2 = weight.sum(-1) + _RIDGE[0], weight @ t, weight @ t2
    m11, m12, m22 = weight @ (t * t) + _RIDGE[1], weight @ (t * t2), weight @ (t2 * t2) + _RIDGE[2]
    wanted = weight * value
    h0, h1, h2 = wanted.sum(-1), wanted @ t, wanted @ t2
    # Level and slope eliminated: Schur complements.
    b11, b12, g1 = m11 - m1 * m1 / m0, m12 - m1 * m2 / m0, h1 - m1 * h0 / m0
    c22 = m22 - m2 * m2 / m0 - b12 * b12 / b11
    bend = (h2 - m2 * h0 / m0 - b12 * g1 / b11) / c22
    slope = (g1 - b12 * bend) / b11
    level = (h0 - m1 * slope - m2 * bend) / m0
    return (level, slope, bend), 1 / c22
