"""Line residuals: the part of the edges' bends and directions that the lens does not explain.

Straight lines of the world are straight once the right lens is corrected. Where a warp moves points
by a further `ρ(q)`, an edge with normal `n` and tangent `τ` still bends by `n · ∂²ρ/∂τ²`, and an
upright or level edge is still turned by the slope of `n · ρ` along `τ`. These are derivatives of
the residual flow, measured edge by edge.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from warp_train.geometry import StraightLines, straight_lines
from warp_train.models.edge_points import CELL_PX
from warp_train.models.edge_strips import STRETCHES
from warp_train.models.edges import Edges
from warp_train.models.pencils import PENCILS, off_pencils

LINE_RESIDUAL_CHANNELS = 2 * len(STRETCHES) + 2 * PENCILS + 1

_BEND = (
    0.3  # 1 / half diagonal: a usual size of bends by flows and of objects that are not straight
)
_TURN = 0.05  # the sine of an angle: a usual size of turns, likewise


@torch.no_grad()
def line_residuals(edges: Edges, radial: Tensor, pencils: Tensor) -> Tensor:
    """`[B, N, LINE_RESIDUAL_CHANNELS]`, scaled to a size of about 1.

    Args:
        edges: of a photo.
        radial: `[B, 3]`: k1, k2, k3 of the lens that took it.
        pencils: `[B, 2, 2]`: tilt and convergence of its upright and level lines.

    Bends are vectors along the normal, and directions are counted from a pencil to an edge: neither
    depends on which side of an edge is brighter.
    """
    lines = straight_lines(edges.position, edges.normal, radial)
    bend = torch.tanh((edges.curvature - lines.curvature[..., None]) / _BEND) * edges.support
    off = off_pencils(StraightLines(*(part.unsqueeze(1) for part in lines)), pencils)
    sine, near = (part[..., 0, :].mT for part in (off.sine, off.near))
    return torch.cat(
        (
            (bend[..., None] * edges.normal[..., None, :]).flatten(2),
            torch.tanh(sine / _TURN) * near,
            near,
            torch.ones_like(near[..., :1]),
        ),
        dim=-1,
    )


def line_residual_map(values: Tensor, edges: Edges, stride: int, shape: tuple[int, int]) -> Tensor:
    """The edges' values `[B, N, C]` as a map `[B, C, h, w]` with a cell every `stride` px, a
    multiple of 8.

    A cell holds the mean over its 8 × 8 px blocks. Each block has the value of its edge, or 0 where
    it has none.
    """
    rows, columns = (side * (stride // CELL_PX) for side in shape)
    there = edges.cell[..., 0] * columns + edges.cell[..., 1]
    place = there[:, None].expand(-1, values.shape[-1], -1)
    laid = values.new_zeros(len(values), values.shape[-1], rows * columns)
    laid = laid.scatter(2, place, values.mT).view(*laid.shape[:2], rows, columns)
    return F.avg_pool2d(laid, stride // CELL_PX)
