"""From edges to a lens: the plumb-line method, with edges weighted by the network.

Every edge gives one equation for the lens by its bend. An edge that is upright or level in the
world gives a second one by its direction (`warp_train.models.pencils`). The network weights each
equation (`warp_train.models.edge_weights`), and the lens is the weighted least-squares solution
with a prior (Gauss-Newton, with Cauchy's weights `1 / (1 + e²)` against outliers). The information
matrix of the last step is the precision of the solution. The solution is then shrunk towards zero
by its size (`warp_train.models.shrinkage`).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from warp_train.geometry import StraightLines, straight_lines
from warp_train.models.edge_weights import EdgeWeights, LeftOver, WeighedEdges
from warp_train.models.edges import Edges
from warp_train.models.evidence import RADIAL_TERMS, Lens
from warp_train.models.pencils import PENCIL_TERMS, PENCILS, Eliminated, eliminate, off_pencils
from warp_train.models.shrinkage import Shrinkage

# How the radial terms of real lenses vary together: k1, k2, k3 along the principal directions of
# the distortions of lensfun's wide lenses, each scaled to its root mean square.
_MODES = ((-0.136, 0.032, 0.022), (0.039, 0.0, 0.031), (-0.091, 0.120, -0.042))

WIDENING = (30.0, 10.0, 4.0, 2.0, 1.4, 1.0, 1.0, 1.0, 1.0)
"""Factors of the tolerances in the steps from no lens to the first solution."""
WIDENING_AGAIN = (2.0, 1.0, 1.0)
"""And in those to the second one, before its last step."""
_WIDEST_ANGLE = 8.0  # largest factor of a pencil's: beyond, every edge would belong to one
_NUDGE = 0.02  # of a mode, for slopes by finite differences: far above rounding
_LARGEST_STEP = 1.0  # of a mode, in all steps but the last
_LARGEST_TURN = 0.3  # of a pencil's terms
_STEEPEST = 10.0  # slope of a direction by a mode: beyond, the lens folds
GATE_LR_SCALE = 30.0  # a learning-rate scale: gates have to move much further than weights


class Guess(NamedTuple):
    """Where the equations are linearised."""

    modes: Tensor
    """`[B, 3]`"""
    pencils: Tensor
    """`[B, 2, 2]`"""


class Equations(NamedTuple):
    """The normal equations of photos for the lens, without the prior, and the evidence in them."""

    information: Tensor
    """`[B, 3, 3]`"""
    pull: Tensor
    """`[B, 3]`: the right-hand side."""
    pencils: Eliminated
    weights: Tensor
    """`[B, N]`, as `Lens.weights`; also `misfit`, `pencil_weights` and `misaligned`."""
    misfit: Tensor
    pencil_weights: Tensor
    misaligned: Tensor


class PlumbLineHead(nn.Module):
    """Weights the edges by the features around them and solves for the radial terms of the lens.

    The terms are scaled by gates that start at zero, so an untrained head gives the identity.
    """

    modes: Tensor

    def __init__(self, channels: int, stride: int, *, level_camera: bool = True) -> None:
        super().__init__()
        self.edge_weights = EdgeWeights(channels, stride, level_camera=level_camera)
        self.register_buffer("modes", torch.tensor(_MODES), persistent=False)
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
        return self.solve(self.edge_weights(features, edges))

    def solve(self, weighed: WeighedEdges) -> Lens:
        """The lens that straightens weighed edges.

        Gradients flow through the last step alone: that is the implicit gradient at the solution.
        """
        weighed, guess = self.converged(weighed)
        equations = self.equations(weighed, guess, 1.0)
        information, pull = self.with_prior(equations.information, equations.pull, guess.modes)
        step = solved(information, pull)
        return Lens(
            self.radial(guess.modes + step),
            information,
            equations.weights,
            equations.misfit,
            equations.pencil_weights,
            equations.misaligned,
            guess.pencils + _turn(equations.pencils, step),
        )

    def converged(self, weighed: WeighedEdges) -> tuple[WeighedEdges, Guess]:
        """The edges with their second weights, and the solution but for the last step."""
        guess = self.converge(weighed, no_lens(weighed.hidden), WIDENING)
        weighed = self.edge_weights.again(weighed, self.left_over(weighed.edges, guess))
        return weighed, self.converge(weighed, guess, WIDENING_AGAIN)

    def radial(self, modes: Tensor) -> Tensor:
        """`k1, k2, k3`, `[B, 3]`, of a solution."""
        shrunk: Tensor = (self.shrinkage(modes) * GATE_LR_SCALE * self.gates) @ self.modes
        return shrunk

    @torch.no_grad()
    def converge(self, weighed: WeighedEdges, guess: Guess, widening: tuple[float, ...]) -> Guess:
        """Gauss-Newton steps with these factors of the tolerances.

        The first factors are wide, so that the edges of a strong lens are not discarded as outliers
        of no lens at all (graduated non-convexity: Blake and Zisserman, 1987).
        """
        for wide in widening:
            equations = self.equations(weighed, guess, wide)
            step = solved(*self.with_prior(equations.information, equations.pull, guess.modes))
            guess = stepped(guess, equations.pencils, step)
        return guess

    def with_prior(self, information: Tensor, pull: Tensor, modes: Tensor) -> tuple[Tensor, Tensor]:
        """Normal equations at `modes` with those of the prior added, `[B, 3, 3]` and `[B, 3]`."""
        prior = torch.exp(self.log_prior)
        return information + torch.diag(prior), pull - prior * (modes - self.prior_mean)

    def equations(self, weighed: WeighedEdges, at: Guess, wide: float) -> Equations:
        """The equations at `at` with `wide` times the tolerance."""
        edges = weighed.edges
        lines = self._trials(edges, at.modes)
        tolerance = torch.exp(-2 * self.log_tolerance) / wide**2
        expected, slopes = _differences(lines.curvature)
        off = edges.curvature - expected[..., None]
        bend = weighed.weights.bend
        weight = torch.exp(self.log_gain) * bend / (1 + bend * off.square() * tolerance)
        weights = weight.sum(-1)
        information = (slopes * weights[..., None]).mT @ slopes
        pull = torch.einsum("bn,bni->bi", (weight * off).sum(-1), slopes)
        pencils, pencil_weights, misaligned = self._pencils(weighed, at, wide, lines)
        misfit = (weights * off[..., 1].square()).sum(1) / weights.sum(1).clamp_min(1e-12)
        return Equations(
            information + pencils.information,
            pull + pencils.pull,
            pencils,
            weights,
            misfit,
            pencil_weights,
            misaligned,
        )

    def _pencils(
        self, weighed: WeighedEdges, at: Guess, wide: float, lines: StraightLines
    ) -> tuple[Eliminated, Tensor, Tensor]:
        """The equations of the directions; then `pencil_weights` and `misaligned` of a `Lens`."""
        gain, tolerance = (
            torch.exp(log)[:, None] for log in (self.log_pencil_gain, self.log_pencil_tolerance)
        )
        off = off_pencils(lines, at.pencils)
        sine, slopes = _differences(off.sine)
        relative = sine / (tolerance * min(wide, _WIDEST_ANGLE))
        near = off.near[..., 0, :]
        weights = gain * weighed.weights.direction * near / (1 + relative.square())
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

    def left_over(self, edges: Edges, at: Guess) -> LeftOver:
        """What the lens and the pencils at `at` leave over at each edge."""
        lines = self._trials(edges, at.modes)
        expected = lines.curvature[..., 0, :]
        off = off_pencils(lines, at.pencils)
        bend = edges.curvature - expected[..., None]
        return LeftOver(at.modes, expected, bend, off.sine[..., 0, :], off.near[..., 0, :])

    @torch.no_grad()
    def _trials(self, edges: Edges, modes: Tensor) -> StraightLines:
        """Straight lines `[B, 1 + 3, N]` at the edges' positions, as the lens `modes [B, 3]` shows
        them, and as it does with each mode nudged."""
        nudges = F.pad(_NUDGE * self.modes, (0, 0, 1, 0))
        radial = (modes @ self.modes)[:, None] + nudges
        return straight_lines(edges.position[:, None], edges.normal[:, None], radial)


def no_lens(like: Tensor) -> Guess:
    """The guess to start from: no lens, and a level camera, for the batch of `like [B, …]`."""
    zeros = like.new_zeros(len(like), RADIAL_TERMS)
    return Guess(zeros, zeros.new_zeros(len(like), PENCILS, PENCIL_TERMS))


def stepped(guess: Guess, pencils: Eliminated, step: Tensor) -> Guess:
    """The guess after a step `[B, 3]` of the modes, neither larger than allowed."""
    return Guess(
        guess.modes + step.clamp(-_LARGEST_STEP, _LARGEST_STEP),
        guess.pencils + _turn(pencils, step),
    )


def _turn(pencils: Eliminated, step: Tensor) -> Tensor:
    return pencils.step(step).clamp(-_LARGEST_TURN, _LARGEST_TURN)


def _differences(trials: Tensor) -> tuple[Tensor, Tensor]:
    """The first of `[..., 1 + 3, N]`, `[..., N]`, and slopes by the modes, `[..., N, 3]`."""
    first = trials[..., :1, :]
    return first[..., 0, :], ((trials[..., 1:, :] - first) / _NUDGE).mT


def _logarithms(*values: float) -> nn.Parameter:
    """Logarithms of positive scalars, as parameters. These are not scaled to learn faster: training
    would then narrow the tolerances, and the solution would fail on photos with few lines."""
    return nn.Parameter(torch.tensor(values if len(values) > 1 else values[0]).log())


def solved(matrix: Tensor, right: Tensor) -> Tensor:
    """`x [B, 3]` of `matrix [B, 3, 3] x = right [B, 3]`, by cross products of the rows.

    The library's solvers wait for the device, to check for errors.
    """
    a, b, c = matrix.unbind(1)
    bc, ca, ab = torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)
    determinant = (a * bc).sum(1, keepdim=True)
    inverse = torch.stack((bc, ca, ab), dim=2) / determinant[..., None]
    solution: Tensor = (inverse @ right[..., None]).squeeze(-1)
    return solution
