"""Finds the edges of a photo, follows each along its length, and measures its curvature.

A lens bends a straight edge by fractions of a pixel: invisible over 16 px, visible over 100 px. The
clearest point of every 8 × 8 cell is taken, and `edge_strips` follows the edge through it. Whether
the edge is straight in the world is decided elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from warp_train.geometry import full_precision, half_diagonal
from warp_train.models import edge_points, edge_strips
from warp_train.models.edge_points import CELL_PX, Points
from warp_train.models.edge_strips import Traces

_Find = Callable[[Tensor], tuple[Tensor, Points]]
_Trace = Callable[[Tensor, Tensor, Tensor], Traces]

_REFERENCE = (edge_points.find, edge_strips.trace)

_PHOTOS_AT_A_TIME = 4
"""On a CPU, without the compiled code: the strips of a whole batch do not fit into its caches."""


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
    ways = _ways(image)
    one_by_one = ways == _REFERENCE and image.device.type == "cpu"
    at_a_time = _PHOTOS_AT_A_TIME if one_by_one else len(image)
    parts = [_measure(p, most, *ways) for p in image.chunk(math.ceil(len(image) / at_a_time))]
    return parts[0] if len(parts) == 1 else Edges(*(torch.cat(p) for p in zip(*parts, strict=True)))


def _measure(image: Tensor, most: int, find: _Find, trace: _Trace) -> Edges:
    height, width = image.shape[-2:]
    unit = half_diagonal(height, width)
    smooth, points = find(image)
    strength, cell = points.strength.topk(min(most, points.strength.shape[1]), dim=1)
    pixel, normal = (of.gather(1, cell[..., None].expand(-1, -1, 2)) for of in points[:2])
    traces = trace(smooth[:, 1:-1, 1:-1], pixel, normal)
    tangent = torch.stack((-normal[..., 1], normal[..., 0]), -1)
    columns = math.ceil(width / CELL_PX)
    return Edges(
        position=(pixel - pixel.new_tensor(((width - 1) / 2, (height - 1) / 2))) / unit,
        normal=F.normalize(normal - traces.slope[..., None] / unit * tangent, dim=-1),
        curvature=traces.bend / unit,
        variance=traces.variance / unit**2,
        support=traces.support,
        strength=strength,
        cell=torch.stack((cell // columns, cell % columns), -1),
    )


def _ways(image: Tensor) -> tuple[_Find, _Trace]:
    # The compiled code reads pixels by twos.
    on_cpu = image.device.type == "cpu" and image.dtype == torch.float32
    return _on_cpu() if on_cpu and min(image.shape[-2:]) > 1 else _REFERENCE


@cache
def _on_cpu() -> tuple[_Find, _Trace]:
    """The compiled code, or its reference where the package was installed without a compiler."""
    try:
        from warp_train.models import edge_kernel
    except ImportError:
        return _REFERENCE
    return edge_kernel.find_on_cpu, edge_kernel.trace_on_cpu
