"""The photo's edges, followed as far as they go, and how much each of them bends.

A lens bends a straight edge by fractions of a pixel: over 16 px next to nothing, over 100 px
plainly. So the clearest point of every 8 × 8 cell is taken, the photo is read in a strip along the
edge through it, and the edge's position across the strip is fitted by a parabola, three times, each
time over a longer stretch around what the fit before has found. Whether such an edge is straight in
the world is not decided here.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from warp_train.geometry import full_precision, half_diagonal
from warp_train.models.line_channels import central_differences, gaussian

CELL_PX = 8
"""Side of the cells that hold at most one edge; also the stride of `tiny`."""
STRETCHES = (0.035, 0.07, 0.14)
"""Standard deviations of the stretches that parabolas are fitted over, in half diagonals."""

_MOST_EDGES = 1024
_STEPS = 16  # samples along the strip to either side, 1.5 of the longest stretch's deviation in all
_ACROSS_PX = 6  # half the strip's width; one more than what is used, for the differences
_GRADIENT_SCALE_PX = 1.0
_DIRECTION_SCALE_PX = 1.5
_FIRST_WINDOW_PX, _WINDOW_PX = 2.0, 1.3  # how far from where it is expected an edge is looked for
_JUMP_PX = 0.5  # off the fit before by this much, a sample counts half
_FAINT = 0.1  # of the edge's own contrast at its clearest point: fainter samples count less
_RIDGE = (1e-3, 1e-2, 1e-2)  # of a fit's three coefficients, for edges that are next to nothing
_LEAST_SPREAD_PX2 = 4e-4
_SHARE_OF_INDEPENDENT = 1 / 3  # samples along an edge: the blur ties neighbours together


class Edges(NamedTuple):
    """At most 1024 edges a photo, strongest first. Lengths are in half diagonals."""

    position: Tensor
    """`[B, N, 2]`: x and y from the photo's centre."""
    normal: Tensor
    """`[B, N, 2]`: unit vector across the edge, to its brighter side."""
    curvature: Tensor
    """`[B, N, 3]`: along the normal, over each of `STRETCHES`, in 1 / half diagonal."""
    variance: Tensor
    """`[B, N, 3]`: of the curvature, from how well the parabola fits."""
    support: Tensor
    """`[B, N, 3]`: share of the stretch in which the edge was seen, 0 … 1."""
    strength: Tensor
    """`[B, N]`: gradient of the luma in 1 / px, luma in 0 … 1."""
    cell: Tensor
    """`[B, N, 2]` int64: row and column of the edge's cell."""


@torch.no_grad()
@full_precision
def measure_edges(image: Tensor) -> Edges:
    """The edges of photos `[B, 3, H, W]` in 0..1, of any size."""
    height, width = image.shape[-2:]
    luma = (image * image.new_tensor((0.299, 0.587, 0.114)).view(1, 3, 1, 1)).sum(1)
    smooth = gaussian(luma, (_GRADIENT_SCALE_PX,), margin=1).squeeze(1)
    pixel, normal, strength, cell = _clearest(*central_differences(smooth))
    unit = half_diagonal(height, width)
    # `[B, N, T, S]` brightness around each edge, along and across it.
    along = torch.arange(-_STEPS, _STEPS + 1, device=image.device) * (
        1.5 * STRETCHES[-1] / _STEPS * unit
    )
    across = torch.arange(-_ACROSS_PX, _ACROSS_PX + 1.0, device=image.device)
    strip, inside = _strips(smooth[:, 1:-1, 1:-1], pixel, normal, along, across)
    contrast = ((strip[..., 2:] - strip[..., :-2]) / 2).clamp_min(0).square()  # the same polarity
    fits = _follow(contrast, inside, along, across[1:-1], unit)
    curvature, variance, support, slope = (
        torch.stack(part, -1) for part in zip(*fits, strict=True)
    )
    tangent = torch.stack((-normal[..., 1], normal[..., 0]), -1)
    return Edges(
        position=(pixel - pixel.new_tensor(((width - 1) / 2, (height - 1) / 2))) / unit,
        normal=F.normalize(normal - slope[..., 1:2] * tangent, dim=-1),
        curvature=curvature,
        variance=variance,
        support=support,
        strength=strength,
        cell=cell,
    )


def _clearest(l_x: Tensor, l_y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The clearest edge point of each cell: pixel, unit normal, strength and cell."""
    batch, height, width = l_x.shape
    square = l_x * l_x + l_y * l_y
    tensor = torch.stack((l_x * l_x - l_y * l_y, 2 * l_x * l_y, square), dim=1)
    tensor = gaussian(tensor.flatten(0, 1), (_DIRECTION_SCALE_PX,), margin=0)
    re, im, energy = tensor.view(batch, 3, height, width).unbind(1)
    clear = square * torch.hypot(re, im) / (energy + 1e-6)
    best, where = F.max_pool2d(clear[:, None], CELL_PX, ceil_mode=True, return_indices=True)
    columns = best.shape[-1]
    best, cell = best.flatten(1).topk(min(_MOST_EDGES, best[0].numel()), dim=1)
    where = where.flatten(1).gather(1, cell)
    angle = torch.atan2(*(part.flatten(1).gather(1, where) for part in (im, re))) / 2
    normal = torch.stack((torch.cos(angle), torch.sin(angle)), -1)
    gradient = torch.stack([part.flatten(1).gather(1, where) for part in (l_x, l_y)], -1)
    towards = torch.where((gradient * normal).sum(-1, keepdim=True) < 0, -1.0, 1.0)
    pixel = torch.stack((where % width, where // width), -1).to(l_x.dtype)
    return pixel, normal * towards, best.sqrt(), torch.stack((cell // columns, cell % columns), -1)


def _strips(
    luma: Tensor, pixel: Tensor, normal: Tensor, along: Tensor, across: Tensor
) -> tuple[Tensor, Tensor]:
    """The photo read around each edge, `[B, N, T, S]`, and which steps `[B, N, T]` lie in it."""
    batch, height, width = luma.shape
    n_x, n_y = (part[..., None, None] for part in normal.unbind(-1))
    x, y = (part[..., None, None] for part in pixel.unbind(-1))
    x = x - along[:, None] * n_y + across * n_x
    y = y + along[:, None] * n_x + across * n_y
    grid = torch.stack((x * (2 / max(width - 1, 1)) - 1, y * (2 / max(height - 1, 1)) - 1), -1)
    strip = F.grid_sample(
        luma[:, None],
        grid.flatten(1, 2),
        mode="bilinear",
        padding_mode="border",
        align_corners=True,
    )
    middle = len(across) // 2
    x, y = x[..., middle], y[..., middle]
    inside = (x >= 1) & (x <= width - 2) & (y >= 1) & (y <= height - 2)
    return strip.view(batch, -1, len(along), len(across)), inside.to(luma.dtype)


def _follow(
    contrast: Tensor, inside: Tensor, along: Tensor, across: Tensor, unit: float
) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Curvature, its variance, support and slope `[B, N]` for each of `STRETCHES`.

    `contrast [B, N, T, S]`; each fit says where the next one looks.
    """
    steps = along / unit
    fits, expected = [], torch.zeros_like(inside)
    for number, stretch in enumerate((STRETCHES[0], *STRETCHES)):
        window = _FIRST_WINDOW_PX if number == 0 else _WINDOW_PX
        seen = contrast * torch.exp(-((across - expected[..., None]) / window).square() / 2)
        total = seen.sum(-1) + 1e-12
        offset = (seen * across).sum(-1) / total
        clearest = total[..., total.shape[-1] // 2, None]
        trust = inside * total / (total + _FAINT * clearest + 1e-7)
        if number > 0:
            trust = trust / (1 + ((offset - expected) / _JUMP_PX).square())
        gauss = torch.exp(-(steps / stretch).square() / 2)
        weight = gauss * trust
        (level, slope, bend), variance = _parabola(weight, offset, steps / STRETCHES[1])
        expected = _value(level, slope, bend, steps / STRETCHES[1])
        if number > 0:
            spread = (weight * (offset - expected).square()).sum(-1) / (weight.sum(-1) + 1e-6)
            spread = (spread + _LEAST_SPREAD_PX2) / _SHARE_OF_INDEPENDENT
            to_curvature = 1 / (STRETCHES[1] ** 2 * unit)  # px over (a stretch)² to 1 / half diag.
            support = weight.sum(-1) / gauss.sum()
            slope = slope / (STRETCHES[1] * unit)
            fits.append((bend * to_curvature, spread * variance * to_curvature**2, support, slope))
    return fits


def _value(level: Tensor, slope: Tensor, bend: Tensor, t: Tensor) -> Tensor:
    return level[..., None] + slope[..., None] * t + bend[..., None] * (t * t / 2)


def _parabola(
    weight: Tensor, value: Tensor, t: Tensor
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """Weighted least squares of `a + b t + c t²/2`, and the variance of `c` for unit noise.

    In closed form: thousands of 3 × 3 systems cost a solver more than their arithmetic.
    """
    t2 = t * t / 2
    m0, m1, m2 = (weight.sum(-1) + _RIDGE[0], (weight * t).sum(-1), (weight * t2).sum(-1))
    m11, m12 = (weight * (t * t)).sum(-1) + _RIDGE[1], (weight * (t * t2)).sum(-1)
    m22 = (weight * (t2 * t2)).sum(-1) + _RIDGE[2]
    wanted = weight * value
    h0, h1, h2 = wanted.sum(-1), (wanted * t).sum(-1), (wanted * t2).sum(-1)
    # Level and slope eliminated: Schur complements.
    b11, b12, g1 = m11 - m1 * m1 / m0, m12 - m1 * m2 / m0, h1 - m1 * h0 / m0
    c22 = m22 - m2 * m2 / m0 - b12 * b12 / b11
    bend = (h2 - m2 * h0 / m0 - b12 * g1 / b11) / c22
    slope = (g1 - b12 * bend) / b11
    level = (h0 - m1 * slope - m2 * bend) / m0
    return (level, slope, bend), 1 / c22
