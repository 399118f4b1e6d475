"""From edges to a lens: the plumb-line method, with the network saying which edges are straight.

Every edge is one equation for the lens (`warp_train.geometry.line_curvature`), of little worth by
itself: the edge of a table is straight, that of a cup is not, and a photo shows both alike. The
network weighs each edge by what surrounds it, and the lens is the weighted least-squares solution
with a prior (Gauss-Newton; Cauchy's weights `1 / (1 + e²)`, so that what contradicts the rest loses
its say). The information matrix of the last step says how sure the answer is.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from warp_train.geometry import line_curvature
from warp_train.models.edges import CELL_PX, STRETCHES, Edges

EDGE_FEATURES = 5 * len(STRETCHES) + 6
RADIAL_TERMS = 3

# How the radial terms of real lenses go together: k1, k2, k3 along the principal directions of what
# lensfun's wide lenses do to a frame, each as long as it is in the root mean square.
_MODES = ((-0.136, 0.032, 0.022), (0.039, 0.0, 0.031), (-0.091, 0.120, -0.042))

_WIDENING = (30.0, 10.0, 4.0, 2.0)  # of the tolerance, step by step before the last
_NUDGE = 0.02  # of a mode: for slopes by differences, far above rounding
_LARGEST_STEP = 1.0  # of a mode, but for the last
# Of a curvature, as a feature and as a weight. Were the clearest edges trusted as far as they fit,
# the first solutions would rest on a handful, and rounding would decide between them.
_LEAST_VARIANCE = 0.05**2, 0.4**2
SWIFT = 30.0  # how many times faster than a weight a scalar may move: a few have far to go


class Lens(NamedTuple):
    """What the edges say."""

    radial: Tensor
    """`[B, 3]`: k1, k2, k3, not bounded yet; zeros while the head is untrained."""
    information: Tensor
    """`[B, 3, 3]`: inverse covariance, in units of the modes."""
    weights: Tensor
    """`[B, N]`: the say that each edge had."""
    misfit: Tensor
    """`[B]`: weighted mean square of how far edges are off their curvature, over the second
    stretch, in (1 / half diagonal)²."""


class PlumbLineHead(nn.Module):
    """Weighs the edges by the features around them and solves for the radial terms of the lens.

    What it returns is scaled by gates that start at zero, so an untrained head gives the identity.
    """

    modes: Tensor

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.hidden = nn.Linear(channels + EDGE_FEATURES, 32)
        self.say = nn.Linear(32, len(STRETCHES))
        nn.init.zeros_(self.say.weight)
        nn.init.zeros_(self.say.bias)
        self.register_buffer("modes", torch.tensor(_MODES), persistent=False)
        self.mixing = nn.Parameter(torch.tensor(_MODES))
        self.gates = nn.Parameter(torch.zeros(RADIAL_TERMS))
        self.prior_mean = nn.Parameter(torch.zeros(RADIAL_TERMS))
        self.prior_log_precision = nn.Parameter(torch.zeros(RADIAL_TERMS))
        self.log_gain = nn.Parameter(torch.tensor(-2.8))  # neighbours on a line are no new witness
        self.log_tolerance = nn.Parameter(torch.tensor(0.5))

    def forward(self, features: Tensor, edges: Edges) -> Lens:
        """The lens that makes the edges of `features [B, C, h, w]`'s photo straight."""
        known = torch.cat((features_at(features, self.stride, edges), edge_features(edges)), dim=-1)
        say = self.say(F.silu(self.hidden(known))).clamp(-10, 10)
        trust = edges.support.clamp_min(0.02) / (edges.variance + _LEAST_VARIANCE[1])
        theta, information, weights, off = self._solve(edges, torch.exp(say) * trust)
        misfit = (weights * off.square()).sum(1) / weights.sum(1).clamp_min(1e-12)
        return Lens((theta * SWIFT * self.gates) @ self.mixing, information, weights, misfit)

    def _solve(self, edges: Edges, precision: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Modes `[B, 3]`, information `[B, 3, 3]`, weights and what is off `[B, N]`.

        Robust Gauss-Newton. Gradients flow through the last step alone: that is the implicit
        gradient at the solution. The first steps tolerate everything, so that a strong lens is not
        taken for a photo full of outliers about no lens at all (graduated non-convexity: Blake and
        Zisserman, 1987).
        """
        theta = precision.new_zeros(len(precision), RADIAL_TERMS)
        with torch.no_grad():
            for wide in _WIDENING:
                step, *_ = self._step(edges, precision, theta, wide)
                theta = theta + step.clamp(-_LARGEST_STEP, _LARGEST_STEP)
        step, information, weights, off = self._step(edges, precision, theta, 1.0)
        return theta + step, information, weights, off

    def _step(
        self, edges: Edges, precision: Tensor, theta: Tensor, wide: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A step from `theta`, then what `_solve` returns of it; the tolerance is `wide` times."""
        prior, gain = torch.exp(self.prior_log_precision), torch.exp(self.log_gain)
        tolerance = torch.exp(-2 * self.log_tolerance) / wide**2
        expected, slopes = self._linearised(edges, theta)
        off = edges.curvature - expected[..., None]
        weight = precision / (1 + precision * off.square() * tolerance)
        weights = gain * weight.sum(-1)
        leaning = slopes * weights[..., None]
        information = leaning.transpose(1, 2) @ slopes + torch.diag(prior)
        pull = gain * torch.einsum("bn,bni->bi", (weight * off).sum(-1), slopes)
        step = _solved(information, pull - prior * (theta - self.prior_mean))
        return step, information, weights, off[..., 1]

    @torch.no_grad()
    def _linearised(self, edges: Edges, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Curvatures `[B, N]` of straight lines and their slopes `[B, N, 3]` by the modes."""
        radial = theta @ self.modes
        trials = [radial, *(radial + _NUDGE * mode for mode in self.modes)]
        first, *others = (line_curvature(edges.position, edges.normal, k) for k in trials)
        return first, torch.stack([(other - first) / _NUDGE for other in others], dim=-1)


def _solved(matrix: Tensor, right: Tensor) -> Tensor:
    """`x [B, 3]` of `matrix [B, 3, 3] x = right [B, 3]`, by cross products of the rows.

    A solver of the library's waits for the device to say that all went well.
    """
    a, b, c = matrix.unbind(1)
    bc, ca, ab = torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)
    determinant = (a * bc).sum(1, keepdim=True)
    inverse = torch.stack((bc, ca, ab), dim=2) / determinant[..., None]
    solution: Tensor = (inverse @ right[..., None]).squeeze(-1)
    return solution


def edge_features(edges: Edges) -> Tensor:
    """What a network is told about each edge, `[B, N, EDGE_FEATURES]`: how it bends and lies."""
    x, y = edges.position.unbind(-1)
    n_x, n_y = edges.normal.unbind(-1)
    distance, place = n_x * x + n_y * y, n_x * y - n_y * x
    # The bend counts towards the centre, whichever side is brighter.
    bend = edges.curvature * torch.where(distance < 0, -1.0, 1.0)[..., None]
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
