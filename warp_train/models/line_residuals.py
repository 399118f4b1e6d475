"""What a lens leaves of the edges' bends and directions: where there is more to a warp than a lens.

Through the right lens the straight lines of the world are straight. Where something else has moved
them by `ρ(q)`, an edge with normal `n` and tangent `τ` still bends by `n · ∂²ρ/∂τ²`, and an upright
or level one is still turned by the slope of `n · ρ` along `τ`: derivatives of the flow, measured
edge by edge.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from warp_train.geometry import StraightLines, straight_lines
from warp_train.models.edges import CELL_PX, STRETCHES, Edges
from warp_train.models.pencils import PENCILS, off_pencils

LEFT_OVER_CHANNELS = 2 * len(STRETCHES) + 2 * PENCILS + 1

_BEND = 0.3  # 1 / half diagonal: what flows and things that are not straight do about alike
_TURN = 0.05  # the sine of an angle, likewise


@torch.no_grad()
def left_over(edges: Edges, radial: Tensor, pencils: Tensor) -> Tensor:
    """`[B, N, LEFT_OVER_CHANNELS]` of the size of 1.

    Args:
        edges: of a photo.
        radial: `[B, 3]`: k1, k2, k3 of the lens that it is seen through.
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


def left_over_map(values: Tensor, edges: Edges, stride: int, shape: tuple[int, int]) -> Tensor:
    """The values `[B, N, C]` of the edges laid where these are, `[B, C, h, w]`, one cell every
    `stride` px, a multiple of 8; the mean over 8 × 8 px, of which those without an edge count 0."""
    rows, columns = (side * (stride // CELL_PX) for side in shape)
    there = edges.cell[..., 0] * columns + edges.cell[..., 1]
    place = there[:, None].expand(-1, values.shape[-1], -1)
    laid = values.new_zeros(len(values), values.shape[-1], rows * columns)
    laid = laid.scatter(2, place, values.mT).view(*laid.shape[:2], rows, columns)
    return F.avg_pool2d(laid, stride // CELL_PX)
