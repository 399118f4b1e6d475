"""From edges to a lens: the plumb-line method, with the network saying which edges are straight.

Every edge is one equation for the lens by how it bends, and one by where it points if it is upright
or level in the world (`warp_train.models.pencils`). Each is of little worth by itself: the edge of
a table is straight, that of a cup is not, and a photo shows both alike. The network weighs each
equation by what surrounds the edge, and the lens is the weighted least-squares solution with a
prior (Gauss-Newton; Cauchy's weights `1 / (1 + e²)`, so that what contradicts the rest loses its
say). The information matrix of the last step says how sure the answer is, and the solution is then
drawn in as such answers want to be (`warp_train.models.shrinkage`).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from warp_train.geometry import StraightLines, straight_lines
from warp_train.models.edges import CELL_PX, STRETCHES, Edges
from warp_train.models.evidence import RADIAL_TERMS, Lens, evidence
from warp_train.models.pencils import PENCIL_TERMS, PENCILS, Eliminated, eliminate, off_pencils
from warp_train.models.shrinkage import Shrinkage

EDGE_FEATURES = 5 * len(STRETCHES) + 6

# How the radial terms of real lenses go together: k1, k2, k3 along the principal directions of what
# lensfun's wide lenses do to a frame, each as long as it is in the root mean square.
_MODES = ((-0.136, 0.032, 0.022), (0.039, 0.0, 0.031), (-0.091, 0.120, -0.042))

_WIDENING = (30.0, 10.0, 4.0, 2.0, 1.4)  # of the tolerances, step by step before the last
_WIDEST_ANGLE = 8.0  # of the tolerance: beyond, all edges would belong to a pencil
_NUDGE = 0.02  # of a mode: for slopes by differences, far above rounding
_LARGEST_STEP = 1.0  # of a mode, but for the last
_LARGEST_TURN = 0.3  # of a pencil's terms
_STEEPEST = 10.0  # of a direction by a mode: beyond, the lens folds
# Of a curvature, as a feature and as a weight. Were the clearest edges trusted as far as they fit,
# the first solutions would rest on a handful, and rounding would decide between them.
_LEAST_VARIANCE = 0.05**2, 0.4**2
_LEAST_TURN = 0.01**2  # variance of a direction, in rad²
SWIFT = 30.0  # how many times faster than a weight a gate may move: a few have far to go


class _Say(NamedTuple):
    """The precision of each equation, before what contradicts the rest loses its say."""

    bend: Tensor
    """`[B, N, 4]`"""
    direction: Tensor
    """`[B, 2, N]`"""


class _Guess(NamedTuple):
    modes: Tensor
    """`[B, 3]`"""
    pencils: Tensor
    """`[B, 2, 2]`"""


class PlumbLineHead(nn.Module):
    """Weighs the edges by the features around them and solves for the radial terms of the lens.

    What it returns is scaled by gates that start at zero, so an untrained head gives the identity.
    """

    modes: Tensor

    def __init__(self, channels: int, stride: int, *, level_camera: bool = True) -> None:
        super().__init__()
        self.level_camera = level_camera
        self.stride = stride
        self.hidden = nn.Linear(channels + EDGE_FEATURES, 32)
        self.say = nn.Linear(32, len(STRETCHES) + PENCILS)
        nn.init.zeros_(self.say.weight)
        nn.init.zeros_(self.say.bias)
        self.register_buffer("modes", torch.tensor(_MODES), persistent=False)
        self.mixing = nn.Parameter(torch.tensor(_MODES))
        self.gates = nn.Parameter(torch.zeros(RADIAL_TERMS))
        self.prior_mean = nn.Parameter(torch.zeros(RADIAL_TERMS))
        self.log_prior = _logarithms(1.0, 1.0, 1.0)
        self.log_gain = _logarithms(0.06)  # neighbours on a line are no new witness
        self.log_tolerance = _logarithms(1.6)
        self.log_pencil_prior = _logarithms(0.05**-2, 0.05**-2)
        self.log_pencil_gain = _logarithms(0.13, 0.13)
        self.log_pencil_tolerance = _logarithms(0.01, 0.01)  # rad
        self.shrinkage = Shrinkage()

    def forward(self, features: Tensor, edges: Edges) -> Lens:
        """The lens that makes the edges of `features [B, C, h, w]`'s photo straight."""
        known = torch.cat((features_at(features, self.stride, edges), edge_features(edges)), dim=-1)
        heard = torch.exp(self.say(F.silu(self.hidden(known))).clamp(-10, 10))
        bend, direction = heard[..., : len(STRETCHES)], heard[..., len(STRETCHES) :]
        bends = edges.support.clamp_min(0.02) / (edges.variance + _LEAST_VARIANCE[1])
        # Of a parabola's slope, as its bend's variance implies; over the second stretch.
        turn = edges.variance[..., 1] * (STRETCHES[1] ** 2 / 2) + _LEAST_TURN
        turns = self.level_camera * edges.support[..., 1].clamp_min(0.02) / turn
        return self._solve(edges, _Say(bend * bends, (direction * turns[..., None]).mT))

    def _solve(self, edges: Edges, say: _Say) -> Lens:
        """Robust Gauss-Newton. Gradients flow through the last step alone: that is the implicit
        gradient at the solution. The first steps tolerate everything, so that a strong lens is not
        taken for a photo full of outliers about no lens at all (graduated non-convexity: Blake and
        Zisserman, 1987).
        """
        photos = len(edges.position)
        guess = _Guess(
            say.bend.new_zeros(photos, RADIAL_TERMS),
            say.bend.new_zeros(photos, PENCILS, PENCIL_TERMS),
        )
        with torch.no_grad():
            for wide in _WIDENING:
                step, turn, _ = self._step(edges, say, guess, wide)
                guess = _Guess(
                    guess.modes + step.clamp(-_LARGEST_STEP, _LARGEST_STEP),
                    guess.pencils + turn.clamp(-_LARGEST_TURN, _LARGEST_TURN),
                )
        step, turn, lens = self._step(edges, say, guess, 1.0)
        modes = self.shrinkage(guess.modes + step, evidence(lens))
        return lens._replace(
            radial=(modes * SWIFT * self.gates) @ self.mixing,
            pencils=guess.pencils + turn.clamp(-_LARGEST_TURN, _LARGEST_TURN),
        )

    def _step(
        self, edges: Edges, say: _Say, at: _Guess, wide: float
    ) -> tuple[Tensor, Tensor, Lens]:
        """Steps `[B, 3]` and `[B, 2, 2]` from `at` with `wide` times the tolerance, and what was
        found there."""
        lines = self._trials(edges, at.modes)
        gain, prior = torch.exp(self.log_gain), torch.exp(self.log_prior)
        tolerance = torch.exp(-2 * self.log_tolerance) / wide**2
        expected, slopes = _differences(lines.curvature)
        off = edges.curvature - expected[..., None]
        weight = gain * say.bend / (1 + say.bend * off.square() * tolerance)
        weights = weight.sum(-1)
        information = (slopes * weights[..., None]).mT @ slopes + torch.diag(prior)
        pull = torch.einsum("bn,bni->bi", (weight * off).sum(-1), slopes)
        pull = pull - prior * (at.modes - self.prior_mean)
        pencils, pencil_weights, misaligned = self._pencils(say, at, wide, lines)
        information = information + pencils.information
        step = _solved(information, pull + pencils.pull)
        misfit = (weights * off[..., 1].square()).sum(1) / weights.sum(1).clamp_min(1e-12)
        lens = Lens(step, information, weights, misfit, pencil_weights, misaligned, at.pencils)
        return step, pencils.step(step), lens

    def _pencils(
        self, say: _Say, at: _Guess, wide: float, lines: StraightLines
    ) -> tuple[Eliminated, Tensor, Tensor]:
        """What the directions say; then `pencil_weights` and `misaligned` of a `Lens`."""
        gain, tolerance = (
            torch.exp(log)[:, None] for log in (self.log_pencil_gain, self.log_pencil_tolerance)
        )
        off = off_pencils(lines, at.pencils)
        sine, slopes = _differences(off.sine)
        surprise = sine / (tolerance * min(wide, _WIDEST_ANGLE))
        weights = gain * say.direction * off.near[..., 0, :] / (1 + surprise.square())
        heard = weights.sum((1, 2)).clamp_min(1e-12)
        pencils = eliminate(
            weights,
            sine,
            slopes.clamp(-_STEEPEST, _STEEPEST),
            off.by_pencil[..., 0, :, :],
            at.pencils,
            torch.exp(self.log_pencil_prior),
        )
        return pencils, weights, (weights * sine.square()).sum((1, 2)) / heard

    @torch.no_grad()
    def _trials(self, edges: Edges, modes: Tensor) -> StraightLines:
        """Straight lines `[B, 1 + 3, N]` where the edges are seen: through the lens `modes [B, 3]`,
        and through it with each mode nudged."""
        nudges = F.pad(_NUDGE * self.modes, (0, 0, 1, 0))
        radial = (modes @ self.modes)[:, None] + nudges
        return straight_lines(edges.position[:, None], edges.normal[:, None], radial)


def _differences(trials: Tensor) -> tuple[Tensor, Tensor]:
    """Of `[..., 1 + 3, N]`: the first, `[..., N]`, and slopes by the modes, `[..., N, 3]`."""
    first = trials[..., :1, :]
    return first[..., 0, :], ((trials[..., 1:, :] - first) / _NUDGE).mT


def _logarithms(*values: float) -> nn.Parameter:
    """Of positive scalars that are learned slowly: were they swift, training would narrow the
    tolerances, and photos with few lines lose their way."""
    return nn.Parameter(torch.tensor(values if len(values) > 1 else values[0]).log())


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
