"""Finds the edges of a photo, follows each along its length, and measures its curvature.

A lens bends a straight edge by fractions of a pixel: invisible over 16 px, visible over 100 px. The
clearest point of every 8 × 8 cell is taken, and `edge_strips` follows the edge through it. Whether
the edge is straight in the world is decided elsewhere.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from warp_train.geometry import full_precision, half_diagonal, luma
from warp_train.models.edge_strips import Traces, trace
from warp_train.models.line_channels import central_differences

CELL_PX = 8
"""Side of the cells that hold at most one edge; also the stride of `tiny`."""
_PHOTOS_AT_A_TIME = 4  # on a CPU: a whole batch does not fit into its caches


class Edges(NamedTuple):
    """The edges of photos, strongest first. Lengths are in half diagonals."""

    position: Tensor
    """`[B, N, 2]`: x and y from the photo's centre."""
    normal: Tensor
    """`[B, N, 2]`: unit vector across the edge, to its brighter side."""
    curvature: Tensor
    """`[B, N, 4]`: along the normal, over each of `edge_strips.STRETCHES`, in 1 / half diagonal."""
    variance: Tensor
    """`[B, N, 4]`: of the curvature, from how well the parabola fits."""
    support: Tensor
    """`[B, N, 4]`: share of the stretch in which the edge was seen, 0 … 1."""
    strength: Tensor
    """`[B, N]`: gradient of the luma in 1 / px, luma in 0 … 1."""
    cell: Tensor
    """`[B, N, 2]` int64: row and column of the edge's cell."""


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
    traces = _trace(smooth[:, 1:-1, 1:-1], pixel, normal)
    tangent = torch.stack((-normal[..., 1], normal[..., 0]), -1)
    return Edges(
        position=(pixel - pixel.new_tensor(((width - 1) / 2, (height - 1) / 2))) / unit,
        normal=F.normalize(normal - traces.slope[..., None] / unit * tangent, dim=-1),
        curvature=traces.bend / unit,
        variance=traces.variance / unit**2,
        support=traces.support,
        strength=strength,
        cell=cell,
    )


def _trace(smooth: Tensor, pixel: Tensor, normal: Tensor) -> Traces:
    # The compiled code reads pixels by twos.
    on_cpu = smooth.device.type == "cpu" and min(smooth.shape[-2:]) > 1
    follow = _cpu_trace() if on_cpu else trace
    return follow(smooth, pixel, normal)


@cache
def _cpu_trace() -> Callable[[Tensor, Tensor, Tensor], Traces]:
    """The compiled code, or its reference where the package was installed without a compiler."""
    try:
        from warp_train.models import edge_kernel
    except ImportError:
        return trace
    compiled: Callable[[Tensor, Tensor, Tensor], Traces] = edge_kernel.trace_on_cpu
    return compiled


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
