"""Follows each edge of a photo along its length, in strips, and fits parabolas to it.

The photo is read in a strip along the edge through each point, and a parabola is fitted to the
edge's position across the strip: three times, each over a longer stretch around the previous fit.
Along the last parabola a second, longer strip is read, which shows how far the edge continues.

This is the reference, and what runs on a GPU. `edge_kernel` does the same on a CPU, faster.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from warp_train.geometry import half_diagonal

STRETCHES = (0.035, 0.07, 0.14, 0.28)
"""Standard deviations of the stretches that parabolas are fitted over, in half diagonals."""
NEAR_STRETCHES = (STRETCHES[0], *STRETCHES[:3])
"""Of the fits in the first strip; the first fit is a rough one, by which the others start."""
FAR_STRETCHES = (0.2, STRETCHES[3])
"""Of the fits in the second strip; the first fit is a rough one."""
STEPS = 16
"""Samples along a strip to either side."""
CUT = 1.5
"""Deviations of its longest stretch that a strip reaches to either side."""
NEAR_PX, FAR_PX = 5, 3
"""To either side of a strip, where an edge is looked for."""
FIRST_WINDOW_PX, WINDOW_PX = 6.0, 3.9
"""An edge counts up to this distance from the expected one."""
JUMP_PX = 0.5
"""A sample this far from the previous fit has half the weight."""
TURNED = 2.0
"""The other polarity is used where it is this many times stronger."""
FAINT = 0.1
"""Of the contrast at the edge's clearest point: fainter samples have less weight."""
RIDGE = (1e-3, 1e-2, 1e-2)
"""Regularises the three coefficients of a fit, for very faint edges."""
LEAST_SPREAD_PX2 = 4e-4
SHARE_OF_INDEPENDENT = 1 / 3
"""Neighbouring samples along an edge are correlated by blur."""


class Traces(NamedTuple):
    """The parabolas of edges, for each of `STRETCHES`. Along an edge `t` is in half diagonals."""

    bend: Tensor
    """`[B, N, 4]` in px: the second derivative across the edge."""
    variance: Tensor
    """`[B, N, 4]`: of the bend, from how well the parabola fits."""
    support: Tensor
    """`[B, N, 4]`: share of the stretch in which the edge was seen, 0 … 1."""
    slope: Tensor
    """`[B, N]` in px, at the edge's point, over the second stretch."""


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


def trace(smooth: Tensor, pixel: Tensor, normal: Tensor) -> Traces:
    """The traces of edges.

    Args:
        smooth: `[B, H, W]` luma.
        pixel: `[B, N, 2]` x and y of the edges' clearest points, in px.
        normal: `[B, N, 2]` unit vectors across the edges.
    """
    brightness = smooth[:, None]
    near = _read(brightness, pixel, normal, STRETCHES[2], NEAR_PX, None)
    _, *fits = _follow(near, NEAR_STRETCHES, None)
    far = _read(brightness, pixel, normal, STRETCHES[3], FAR_PX, fits[-1])
    *_, rest = _follow(far, FAR_STRETCHES, torch.zeros_like(far.inside))
    fits.append(rest._replace(bend=fits[-1].bend + rest.bend))
    return Traces(
        bend=torch.stack([fit.bend for fit in fits], -1),
        variance=torch.stack([fit.variance for fit in fits], -1),
        support=torch.stack([fit.support for fit in fits], -1),
        slope=fits[1].slope,
    )


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
    steps = torch.arange(-STEPS, STEPS + 1).to(brightness) * (CUT * longest / STEPS)
    across = torch.arange(-reach_px - 1, reach_px + 2).to(brightness)
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
        window = FIRST_WINDOW_PX if expected is None else WINDOW_PX
        away = across if expected is None else across - expected[..., None]
        # Tukey's biweight: like a Gaussian of a third of its width, without an exponential.
        near = (1 - (away / window).square()).clamp_min(0).square()
        offset, total = _line(near * signed, across)
        clearest = total[..., STEPS, None]
        trust = strip.inside * total / (total + FAINT * clearest + 1e-7)
        if expected is not None:
            trust = trust / (1 + ((offset - expected) / JUMP_PX).square())
        gauss = torch.exp(-(along / stretch).square() / 2)
        weight = gauss * trust
        (level, slope, bend), variance = _parabola(weight, offset, along / unit)
        fit = _Fit(level, slope / unit, bend / unit**2, variance, weight.sum(-1) / gauss.sum())
        expected = fit.at(along)
        spread = (weight * (offset - expected).square()).sum(-1) / (weight.sum(-1) + 1e-6)
        spread = (spread + LEAST_SPREAD_PX2) / SHARE_OF_INDEPENDENT
        yield fit._replace(variance=spread * variance / unit**4)


def _line(slopes: Tensor, across: Tensor) -> tuple[Tensor, Tensor]:
    """Where brightness changes most, and how much, `[B, N, T]` each, of `slopes [B, N, T, S]`.

    Along a row of tiles, or where a frame passes in front of light and dark, the brighter side
    changes: falling slopes count instead of rising ones where they are by far the stronger.
    """
    rising = slopes.clamp_min(0)
    falling = rising - slopes
    up, down = rising.sum(-1), falling.sum(-1)
    turned = down > TURNED * up
    total = torch.where(turned, down, up) + 1e-12
    return torch.where(turned, falling @ across, rising @ across) / total, total


def _parabola(
    weight: Tensor, value: Tensor, t: Tensor
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """Weighted least squares of `a + b t + c t²/2`, and the variance of `c` for unit noise.

    In closed form: thousands of 3 × 3 systems cost a solver more than their arithmetic.
    """
    t2 = t * t / 2
    m0, m1, m2 = weight.sum(-1) + RIDGE[0], weight @ t, weight @ t2
    m11, m12, m22 = weight @ (t * t) + RIDGE[1], weight @ (t * t2), weight @ (t2 * t2) + RIDGE[2]
    wanted = weight * value
    h0, h1, h2 = wanted.sum(-1), wanted @ t, wanted @ t2
    # Level and slope eliminated: Schur complements.
    b11, b12, g1 = m11 - m1 * m1 / m0, m12 - m1 * m2 / m0, h1 - m1 * h0 / m0
    c22 = m22 - m2 * m2 / m0 - b12 * b12 / b11
    bend = (h2 - m2 * h0 / m0 - b12 * g1 / b11) / c22
    slope = (g1 - b12 * bend) / b11
    level = (h0 - m1 * slope - m2 * bend) / m0
    return (level, slope, bend), 1 / c22
