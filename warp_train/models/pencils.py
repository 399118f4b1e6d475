"""Pencils: lines that are parallel in the world point to one place of the corrected frame.

An edge that is too short to show its curvature still shows its direction, and a lens turns
directions by degrees. Buildings are mostly photographed level: their upright lines stay upright,
and the level lines of walls that face the camera stay level, all but for a small tilt `a` and a
small convergence `b`, which are unknown for each photo. At `(x, y)` of the corrected frame, in half
diagonals, the lines of the upright pencil run along

    d = (a - b x, 1 - b y)

so that they meet in `(a, 1) / b`. The level pencil is the same with x and y exchanged.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from warp_train.geometry import StraightLines

PENCILS = 2
PENCIL_TERMS = 2  # tilt and convergence

_LEAST_COSINE = 0.9  # a line more than 26° off a pencil has no weight in it
_LEAST_LENGTH = 0.05  # of `d`, which vanishes where the lines meet


class OffPencils(NamedTuple):
    """How far lines are from pointing where their pencils meet."""

    sine: Tensor
    """`[B, 2, T, N]`: of the angle from a line to the upright and the level pencil."""
    by_pencil: Tensor
    """`[B, 2, T, N, 2]`: its slopes by tilt and convergence."""
    near: Tensor
    """`[B, 2, T, N]`: 1 where the angle is below 26°, else 0."""


def off_pencils(lines: StraightLines, pencils: Tensor) -> OffPencils:
    """The angles of `lines`, `[B, T, N]`, to `pencils [B, 2, 2]`: tilt and convergence, upright
    first."""
    position, direction = (
        torch.stack((part, part.flip(-1)), 1) for part in (lines.position, lines.direction)
    )
    (x, y), (v_x, v_y) = position.unbind(-1), direction.unbind(-1)
    tilt, convergence = (term[..., None, None] for term in pencils.unbind(-1))
    d_x, d_y = tilt - convergence * x, 1 - convergence * y
    length = torch.hypot(d_x, d_y).clamp_min(_LEAST_LENGTH)
    cosine = (v_x * d_x + v_y * d_y) / length
    # A line has no front: what matters is that it runs along, this way or that.
    forwards = torch.where(cosine < 0, -1.0, 1.0) / length
    return OffPencils(
        (v_x * d_y - v_y * d_x) * forwards,
        torch.stack((-v_y, v_y * x - v_x * y), -1) * forwards[..., None],
        (cosine.abs() > _LEAST_COSINE).to(x.dtype),
    )


class Eliminated(NamedTuple):
    """Normal equations of the lens, each pencil's own unknowns solved for (Schur complement)."""

    information: Tensor
    """`[B, 3, 3]` that the pencils add about the lens."""
    pull: Tensor
    """`[B, 3]`: the right-hand side they add."""
    by_lens: Tensor
    """`[B, 2, 2, 3]`: how the pencils' step depends on the lens's."""
    alone: Tensor
    """`[B, 2, 2]`: the pencils' step if the lens's were zero."""

    def step(self, lens_step: Tensor) -> Tensor:
        """`[B, 2, 2]` for the lens's step `[B, 3]`."""
        return self.alone - (self.by_lens @ lens_step[:, None, :, None]).squeeze(-1)


def eliminate(
    weight: Tensor,
    sine: Tensor,
    by_lens: Tensor,
    by_pencil: Tensor,
    pencils: Tensor,
    precision: Tensor,
) -> Eliminated:
    """Weighted least squares of `sine + by_lens · Δlens + by_pencil · Δpencil`, without `Δpencil`.

    Args:
        weight: `[B, 2, N]` of each line's equation in each pencil.
        sine: `[B, 2, N]` at `pencils`.
        by_lens: `[B, 2, N, 3]`: its slopes by the lens's terms.
        by_pencil: `[B, 2, N, 2]`: and by tilt and convergence.
        pencils: `[B, 2, 2]`: tilt and convergence.
        precision: `[2]` of the prior, in which both are zero.
    """
    lens, pencil = ((weight[..., None] * by).mT for by in (by_lens, by_pencil))
    own = _inverse(pencil @ by_pencil + torch.diag(precision))
    shared = lens @ by_pencil
    through = shared @ own
    pull = -(pencil @ sine[..., None]) - (precision * pencils)[..., None]
    on_lens = -(lens @ sine[..., None]) - through @ pull
    return Eliminated(
        (lens @ by_lens - through @ shared.mT).sum(1),
        on_lens.squeeze(-1).sum(1),
        through.mT,
        (own @ pull).squeeze(-1),
    )


def _inverse(matrix: Tensor) -> Tensor:
    """Of `[..., 2, 2]`, by the adjugate."""
    (a, b), (c, d) = (row.unbind(-1) for row in matrix.unbind(-2))
    adjugate = torch.stack((torch.stack((d, -b), -1), torch.stack((-c, a), -1)), -2)
    return adjugate / (a * d - b * c)[..., None, None]
