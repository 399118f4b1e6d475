"""From edges to a lens: the plumb-line method, with edges weighted by the network.

Every edge gives one equation for the lens by its bend. An edge that is upright or level in the
world gives a second one by its direction (`warp_train.models.pencils`). A single equation is
unreliable: the edge of a table is straight, that of a cup is not, and they look alike. So the
network weights each equation by what surrounds the edge, and the lens is the weighted least-squares
solution with a prior (Gauss-Newton, with Cauchy's weights `1 / (1 + e²)` against outliers). The
information matrix of the last step is the precision of the solution. The solution is then shrunk
towards zero by a learned function of that precision (`warp_train.models.shrinkage`).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from warp_train.geometry import StraightLines, straight_lines
from warp_train.models.edge_points import CELL_PX
from warp_train.models.edge_strips import STRETCHES
from warp_train.models.edges import Edges
from warp_train.models.evidence import RADIAL_TERMS, Lens, evidence
from warp_train.models.pencils import PENCIL_TERMS, PENCILS, Eliminated, eliminate, off_pencils
from warp_train.models.shrinkage import Shrinkage

EDGE_FEATURES = 5 * len(STRETCHES) + 6

# How the radial terms of real lenses vary together: k1, k2, k3 along the principal directions of
# the distortions of lensfun's wide lenses, each scaled to its root mean square.
_MODES = ((-0.136, 0.032, 0.022), (0.039, 0.0, 0.031), (-0.091, 0.120, -0.042))

_WIDENING = (30.0, 10.0, 4.0, 2.0, 1.4)  # factors of the tolerances in the steps before the last
_WIDEST_ANGLE = 8.0  # largest factor of a pencil's: beyond, every edge would belong to one
_NUDGE = 0.02  # of a mode, for slopes by finite differences: far above rounding
_LARGEST_STEP = 1.0  # of a mode, in all steps but the last
_LARGEST_TURN = 0.3  # of a pencil's terms
_STEEPEST = 10.0  # slope of a direction by a mode: beyond, the lens folds
# Added to the variance of a curvature, as a feature and as a weight. Without it the first solutions
# would depend on a handful of very clear edges, and rounding would decide between these.
_LEAST_VARIANCE = 0.05**2, 0.4**2
_LEAST_TURN = 0.01**2  # variance of a direction, in rad²
GATE_LR_SCALE = 30.0  # a learning-rate scale: gates have to move much further than weights


class _EquationWeights(NamedTuple):
    """The weight of each equation, before outliers are weighted down."""

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
    """Weights the edges by the features around them and solves for the radial terms of the lens.

    The terms are scaled by gates that start at zero, so an untrained head gives the identity.
    """

    modes: Tensor

    def __init__(self, channels: int, stride: int, *, level_camera: bool = True) -> None:
        super().__init__()
        self.level_camera = level_camera
        self.stride = stride
        self.hidden = nn.Linear(channels + EDGE_FEATURES, 32)
        self.log_weights = nn.Linear(32, len(STRETCHES) + PENCILS)
        nn.init.zeros_(self.log_weights.weight)
        nn.init.zeros_(self.log_weights.bias)
        self.register_buffer("modes", torch.tensor(_MODES), persistent=False)
        self.mixing = nn.Parameter(torch.tensor(_MODES))
        self.gates = nn.Parameter(torch.zeros(RADIAL_TERMS))
        self.prior_mean = nn.Parameter(torch.zeros(RADIAL_TERMS))
        self.log_prior = _logarithms(1.0, 1.0, 1.0)
        self.log_gain = _logarithms(0.06)  # neighbouring edges on a line are not independent
        self.log_tolerance = _logarithms(1.6)
        self.log_pencil_prior = _logarithms(0.05**-2, 0.05**-2)
        self.log_pencil_gain = _logarithms(0.13, 0.13)
        self.log_pencil_tolerance = _logarithms(0.01, 0.01)  # rad
        self.shrinkage = Shrinkage()

    def forward(self, features: Tensor, edges: Edges) -> Lens:
        """The lens that straightens `edges`, from their photo's `features [B, C, h, w]`."""
        around = features_at(features, self.stride, edges)
        hidden = F.silu(self.hidden(torch.cat((around, edge_features(edges)), dim=-1)))
        learned = torch.exp(self.log_weights(hidden).clamp(-10, 10))
        bend, direction = learned[..., : len(STRETCHES)], learned[..., len(STRETCHES) :]
        bends = edges.support.clamp_min(0.02) / (edges.variance + _LEAST_VARIANCE[1])
        # The variance of a direction follows from that of the bend over the second stretch.
        turn = edges.variance[..., 1] * (STRETCHES[1] ** 2 / 2) + _LEAST_TURN
        turns = self.level_camera * edges.support[..., 1].clamp_min(0.02) / turn
        weights = _EquationWeights(bend * bends, (direction * turns[..., None]).mT)
        return self._solve(edges, weights)

    def _solve(self, edges: Edges, weights: _EquationWeights) -> Lens:
        """Robust Gauss-Newton. Gradients flow through the last step alone: that is the implicit
        gradient at the solution. The first steps have wide tolerances, so that the edges of a
        strong lens are not discarded as outliers of no lens at all (graduated non-convexity: Blake
        and Zisserman, 1987).
        """
        photos = len(edges.position)
        guess = _Guess(
            weights.bend.new_zeros(photos, RADIAL_TERMS),
            weights.bend.new_zeros(photos, PENCILS, PENCIL_TERMS),
        )
        with torch.no_grad():
            for wide in _WIDENING:
                step, turn, _ = self._step(edges, weights, guess, wide)
                guess = _Guess(
                    guess.modes + step.clamp(-_LARGEST_STEP, _LARGEST_STEP),
                    guess.pencils + turn.clamp(-_LARGEST_TURN, _LARGEST_TURN),
                )
        step, turn, lens = self._step(edges, weights, guess, 1.0)
        modes = self.shrinkage(guess.modes + step, evidence(lens))
        return lens._replace(
            radial=(modes * GATE_LR_SCALE * self.gates) @ self.mixing,
            pencils=guess.pencils + turn.clamp(-_LARGEST_TURN, _LARGEST_TURN),
        )

    def _step(
        self, edges: Edges, prior_weights: _EquationWeights, at: _Guess, wide: float
    ) -> tuple[Tensor, Tensor, Lens]:
        """Steps `[B, 3]` and `[B, 2, 2]` from `at` with `wide` times the tolerance, and the lens
        with its evidence at `at`."""
        lines = self._trials(edges, at.modes)
        gain, prior = torch.exp(self.log_gain), torch.exp(self.log_prior)
        tolerance = torch.exp(-2 * self.log_tolerance) / wide**2
        expected, slopes = _differences(lines.curvature)
        off = edges.curvature - expected[..., None]
        bend = prior_weights.bend
        weight = gain * bend / (1 + bend * off.square() * tolerance)
        weights = weight.sum(-1)
        information = (slopes * weights[..., None]).mT @ slopes + torch.diag(prior)
        pull = torch.einsum("bn,bni->bi", (weight * off).sum(-1), slopes)
        pull = pull - prior * (at.modes - self.prior_mean)
        pencils, pencil_weights, misaligned = self._pencils(prior_weights, at, wide, lines)
        information = information + pencils.information
        step = _solved(information, pull + pencils.pull)
        misfit = (weights * off[..., 1].square()).sum(1) / weights.sum(1).clamp_min(1e-12)
        lens = Lens(step, information, weights, misfit, pencil_weights, misaligned, at.pencils)
        return step, pencils.step(step), lens

    def _pencils(
        self, prior_weights: _EquationWeights, at: _Guess, wide: float, lines: StraightLines
    ) -> tuple[Eliminated, Tensor, Tensor]:
        """The equations of the directions; then `pencil_weights` and `misaligned` of a `Lens`."""
        gain, tolerance = (
            torch.exp(log)[:, None] for log in (self.log_pencil_gain, self.log_pencil_tolerance)
        )
        off = off_pencils(lines, at.pencils)
        sine, slopes = _differences(off.sine)
        relative = sine / (tolerance * min(wide, _WIDEST_ANGLE))
        weights = gain * prior_weights.direction * off.near[..., 0, :] / (1 + relative.square())
        total = weights.sum((1, 2)).clamp_min(1e-12)
        pencils = eliminate(
            weights,
            sine,
            slopes.clamp(-_STEEPEST, _STEEPEST),
            off.by_pencil[..., 0, :, :],
            at.pencils,
            torch.exp(self.log_pencil_prior),
        )
        return pencils, weights, (weights * sine.square()).sum((1, 2)) / total

    @torch.no_grad()
    def _trials(self, edges: Edges, modes: Tensor) -> StraightLines:
        """Straight lines `[B, 1 + 3, N]` at the edges' positions, as the lens `modes [B, 3]` shows
        them, and as it does with each mode nudged."""
        nudges = F.pad(_NUDGE * self.modes, (0, 0, 1, 0))
        radial = (modes @ self.modes)[:, None] + nudges
        return straight_lines(edges.position[:, None], edges.normal[:, None], radial)


def _differences(trials: Tensor) -> tuple[Tensor, Tensor]:
    """The first of `[..., 1 + 3, N]`, `[..., N]`, and slopes by the modes, `[..., N, 3]`."""
    first = trials[..., :1, :]
    return first[..., 0, :], ((trials[..., 1:, :] - first) / _NUDGE).mT


def _logarithms(*values: float) -> nn.Parameter:
    """Logarithms of positive scalars, as parameters. These are not scaled to learn faster: training
    would then narrow the tolerances, and the solution would fail on photos with few lines."""
    return nn.Parameter(torch.tensor(values if len(values) > 1 else values[0]).log())


def _solved(matrix: Tensor, right: Tensor) -> Tensor:
    """`x [B, 3]` of `matrix [B, 3, 3] x = right [B, 3]`, by cross products of the rows.

    The library's solvers wait for the device, to check for errors.
    """
    a, b, c = matrix.unbind(1)
    bc, ca, ab = torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)
    determinant = (a * bc).sum(1, keepdim=True)
    inverse = torch.stack((bc, ca, ab), dim=2) / determinant[..., None]
    solution: Tensor = (inverse @ right[..., None]).squeeze(-1)
    return solution


def edge_features(edges: Edges) -> Tensor:
    """Features of each edge, `[B, N, EDGE_FEATURES]`: how it bends, and where and how it lies."""
    x, y = edges.position.unbind(-1)
    n_x, n_y = edges.normal.unbind(-1)
    distance, place = n_x * x + n_y * y, n_x * y - n_y * x
    # A bend is positive towards the centre, whichever side is brighter.
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
