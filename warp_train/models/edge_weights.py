"""Weights each edge's equations by what surrounds it, and again by how it agrees with the others.

A single equation is unreliable: the edge of a table is straight, that of a cup is not, and they
look alike. The first weights follow from the features around an edge. The second ones follow also
from what a first solution leaves over at that edge: iteratively reweighted least squares with a
learned weight function instead of a fixed one.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from warp_train.models.edge_points import CELL_PX
from warp_train.models.edge_strips import STRETCHES
from warp_train.models.edges import Edges
from warp_train.models.pencils import PENCILS

EDGE_FEATURES = 5 * len(STRETCHES) + 6

_HIDDEN = 32
_HIDDEN_AGAIN = 24
_LEFT_OVER = 3 * len(STRETCHES) + 3 * PENCILS + 2
_WIDEST_RANGE = 10.0, 5.0  # of the logarithms of the first weights, and of their change
# Added to the variance of a curvature, as a feature and as a weight. Without it the first solutions
# would depend on a handful of very clear edges, and rounding would decide between these.
_LEAST_VARIANCE = 0.05**2, 0.4**2
_LEAST_TURN = 0.01**2  # variance of a direction, in rad²


class EquationWeights(NamedTuple):
    """The weight of each equation, before outliers are weighted down."""

    bend: Tensor
    """`[B, N, 4]`"""
    direction: Tensor
    """`[B, 2, N]`"""


class WeighedEdges(NamedTuple):
    """The edges of photos with their first weights."""

    edges: Edges
    weights: EquationWeights
    hidden: Tensor
    """`[B, N, 32]`: what the second weights follow from, beside what is left over."""


class LeftOver(NamedTuple):
    """What a solution leaves over at each edge."""

    modes: Tensor
    """`[B, 3]` of the solution."""
    expected: Tensor
    """`[B, N]`: the curvature that it gives to a straight line there."""
    off: Tensor
    """`[B, N, 4]`: the edge's curvature beyond that."""
    sine: Tensor
    """`[B, 2, N]`: by which the edge is off the upright and the level pencil."""
    near: Tensor
    """`[B, 2, N]`: 1 for an edge that may belong to the pencil, else 0."""


class EdgeWeights(nn.Module):
    """The weights of the edges' equations. Untrained, they follow from the measurement alone."""

    def __init__(self, channels: int, stride: int, *, level_camera: bool) -> None:
        super().__init__()
        self.stride = stride
        self.level_camera = level_camera
        equations = len(STRETCHES) + PENCILS
        self.hidden = nn.Linear(channels + EDGE_FEATURES, _HIDDEN)
        self.log_weights = nn.Linear(_HIDDEN, equations)
        self.hidden_again = nn.Linear(_HIDDEN + _LEFT_OVER, _HIDDEN_AGAIN)
        self.log_change = nn.Linear(_HIDDEN_AGAIN, equations)
        for layer in (self.log_weights, self.log_change):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor, edges: Edges) -> WeighedEdges:
        """The first weights, from the features `[B, C, h, w]` of the edges' photos."""
        around = features_at(features, self.stride, edges)
        hidden = F.silu(self.hidden(torch.cat((around, edge_features(edges)), dim=-1)))
        learned = _exp(self.log_weights(hidden), _WIDEST_RANGE[0])
        bends = edges.support.clamp_min(0.02) / (edges.variance + _LEAST_VARIANCE[1])
        # The variance of a direction follows from that of the bend over the second stretch.
        turn = edges.variance[..., 1] * (STRETCHES[1] ** 2 / 2) + _LEAST_TURN
        turns = self.level_camera * edges.support[..., 1].clamp_min(0.02) / turn
        measured = EquationWeights(bends, turns[:, None].expand(-1, PENCILS, -1))
        return WeighedEdges(edges, _scaled(measured, learned), hidden)

    def again(self, weighed: WeighedEdges, left: LeftOver) -> WeighedEdges:
        """With the second weights. No gradient flows through the solution that left this over."""
        seen = torch.cat((weighed.hidden, _left_over_features(weighed.edges, left)), dim=-1)
        change = self.log_change(F.silu(self.hidden_again(seen)))
        return weighed._replace(weights=_scaled(weighed.weights, _exp(change, _WIDEST_RANGE[1])))


def _exp(logarithms: Tensor, limit: float) -> Tensor:
    return torch.exp(logarithms.clamp(-limit, limit))


def _scaled(weights: EquationWeights, by: Tensor) -> EquationWeights:
    """The weights times `by [B, N, 4 + 2]`."""
    bend, direction = by[..., : len(STRETCHES)], by[..., len(STRETCHES) :]
    return EquationWeights(weights.bend * bend, weights.direction * direction.mT)


@torch.no_grad()
def _left_over_features(edges: Edges, left: LeftOver) -> Tensor:
    """`[B, N, _LEFT_OVER]`, scaled to a size of about 1."""
    # Positive if the edge bends more than the lens explains, whichever side is brighter.
    more = left.off * torch.where(left.expected < 0, -1.0, 1.0)[..., None]
    size = left.off.abs()
    deviation = (edges.variance + _LEAST_VARIANCE[0]).sqrt()
    turn = left.sine.abs()
    strength = left.modes.norm(dim=1)[:, None].expand_as(left.expected)
    return torch.cat(
        (
            torch.tanh(more / 0.1),
            torch.tanh(size / 0.3),
            torch.tanh(size / deviation / 2),
            (torch.tanh(turn / 0.02) * left.near).mT,
            (torch.tanh(turn / 0.1) * left.near).mT,
            left.near.mT,
            torch.tanh(left.expected.abs() / 0.3)[..., None],
            torch.tanh(strength)[..., None],
        ),
        dim=-1,
    )


def edge_features(edges: Edges) -> Tensor:
    """Features of each edge, `[B, N, EDGE_FEATURES]`: how it bends, and where and how it lies."""
    x, y = edges.position.unbind(-1)
    n_x, n_y = edges.normal.unbind(-1)
    distance, place = n_x * x + n_y * y, n_x * y - n_y * x
    # Without a sign: barrel and pincushion distortion bend to opposite sides, and a network that
    # saw more of one in training would take the other for curved things.
    bend = edges.curvature.abs()
    deviation = (edges.variance + _LEAST_VARIANCE[0]).sqrt()
    lies = (
        2 * distance.abs(),
        2 * place.abs(),
        n_x * n_x - n_y * n_y,
        2 * n_x * n_y,
        torch.log(edges.strength + 0.01) + 3,
        torch.ones_like(distance),
    )
    return torch.cat(
        (
            torch.tanh(bend / 0.1),
            torch.tanh(bend / 0.5),
            torch.log(deviation) + 1.5,
            2 * edges.support - 1,
            torch.tanh(bend / deviation),
            torch.stack(lies, dim=-1),
        ),
        dim=-1,
    )


def edge_map(edges: Edges, height: int, width: int) -> Tensor:
    """`edge_features` at each edge's cell of a photo, `[B, EDGE_FEATURES, ⌈H/8⌉, ⌈W/8⌉]`."""
    rows, columns = -(-height // CELL_PX), -(-width // CELL_PX)
    features = edge_features(edges).transpose(1, 2)
    place = (edges.cell[..., 0] * columns + edges.cell[..., 1])[:, None].expand_as(features)
    empty = features.new_zeros(*features.shape[:2], rows * columns)
    return empty.scatter(2, place, features).view(*features.shape[:2], rows, columns)


def features_at(features: Tensor, stride: int, edges: Edges) -> Tensor:
    """The features `[B, C, h, w]`, one every `stride` px, at each edge: `[B, N, C]` float32."""
    rows, columns = features.shape[-2:]
    cell = edges.cell * CELL_PX // stride
    place = cell[..., 0].clamp_max(rows - 1) * columns + cell[..., 1].clamp_max(columns - 1)
    flat = features.float().flatten(2)
    return flat.gather(2, place[:, None].expand(-1, flat.shape[1], -1)).transpose(1, 2)
