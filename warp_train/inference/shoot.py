"""One lens for many photos: the joint solution of the equations of all their edges.

Each photo's edges give normal equations for the lens, with the photo's own tilt and convergence
eliminated. The equations of photos through one lens add up, and the prior counts once. A photo's
equations are wrong together, though, where curved things look like bent lines. So each photo has a
deviation of its own from the common lens, drawn from `N(0, T)`, which is eliminated as well: its
information `I` becomes `(I⁻¹ + T)⁻¹`, and no photo counts for more than `T⁻¹` (random effects:
R. DerSimonian and N. Laird, "Meta-analysis in clinical trials", 1986). A photo whose solution is
far from the others' has little weight (Student's t instead of a Gaussian: K. Lange et al., "Robust
statistical modeling using the t distribution", 1989), and none in the end if it contradicts them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from warp_train.geometry import apply_lens, half_diagonal, identity_grid
from warp_train.inference.by_value import Arrays
from warp_train.models.edge_weights import EquationWeights, WeighedEdges
from warp_train.models.edges import Edges
from warp_train.models.evidence import RADIAL_TERMS
from warp_train.models.heads_parametric import Observation, ParametricHead
from warp_train.models.heads_plumbline import (
    WIDENING,
    WIDENING_AGAIN,
    Guess,
    PlumbLineHead,
    no_lens,
    stepped,
)

MOST_PHOTOS = 64
"""Photos that decide on a common lens: those with the most information about it."""
_OWN_VARIANCE = 0.3
"""`T`: variance of a photo's own deviation from the common lens, per mode."""
_FREEDOM = 4.0
"""Degrees of freedom of Student's t."""
FARTHEST = 11.3
"""Squared Mahalanobis distance beyond which a photo was not taken through the lens of its shoot:
one photo in a hundred that was is farther (χ² with three degrees of freedom)."""
_LARGEST_STEP = 1.0  # of a mode
_USUAL_SPREAD, _USUAL_FOR = 0.25, 2.0
"""How far photos of a shoot usually are apart, over what `T` lets expect, and the weight of this:
one or two photos show too little of it (a scaled inverse χ² prior: G. Smyth, "Linear models and
empirical Bayes methods", 2004)."""
_OWN_BEND = 0.15
"""% of the half diagonal: the distortion that straight photos of the world have, which no number of
photos averages out."""
_LAST_STEPS = 3  # without the photos that contradict the others
_LEAST_INFORMATION = 1e-3  # keeps the solution of a photo without edges finite
_NODES = 17
"""Nodes a side at which the expected error is measured."""


class CommonLens(NamedTuple):
    """The lens that photos agree on."""

    modes: Tensor
    """`[3]`: the solution, in the modes of the plumb-line head."""
    votes: Tensor
    """`[1, 8]`: raw parameters beside those of the edges: the mean of the photos'."""
    covariance: Tensor
    """`[3, 3]` of `modes`."""

    @torch.no_grad()
    def params(self, head: ParametricHead, size: tuple[int, int]) -> Tensor:
        """`[8]` for a frame of `size` (height, width)."""
        radial = head.plumb_line.radial(self.modes[None])
        return head.bounded(head.raw(self.votes, radial, size))[0]

    @torch.no_grad()
    def expected_error(self, head: ParametricHead, size: tuple[int, int]) -> float:
        """The mean end-point error to expect, in % of the half diagonal: what follows from
        `covariance`, and what photos share."""
        values, vectors = torch.linalg.eigh(self.covariance)
        nudges = (values.clamp_min(0).sqrt() * vectors).mT
        nodes = identity_grid(_NODES, _NODES)
        half = nodes.new_tensor(((size[1] - 1) / 2, (size[0] - 1) / 2)) / half_diagonal(*size)
        ends = torch.stack(
            [self._replace(modes=self.modes + nudge).params(head, size) for nudge in nudges]
        )
        params = torch.cat((self.params(head, size)[None], ends))
        seen = apply_lens(nodes.expand(len(params), -1, -1, -1), params, *size) * half
        squared = (seen[1:] - seen[:1]).square().sum((0, -1))
        return math.hypot(100 * float(squared.sqrt().mean()), _OWN_BEND)

    def packed(self) -> Arrays:
        """By value, for another process; see `by_value`."""
        return tuple(part.numpy() for part in self)

    @classmethod
    def unpacked(cls, arrays: Arrays) -> CommonLens:
        """The inverse of `packed`."""
        return cls(*map(torch.from_numpy, arrays))


class OwnSolution(NamedTuple):
    """What the edges of one photo alone find: small enough to keep for every photo of a shoot."""

    modes: Tensor
    """`[3]`: the lens, as `CommonLens.modes`."""
    information: Tensor
    """`[3, 3]` about a common lens, beside the photo's own deviation from it."""

    def distance(self, common: CommonLens) -> float:
        """The squared Mahalanobis distance from a common lens, as `_State.distance`, for a photo
        that need not be one of those that decided."""
        apart = self.modes - common.modes
        return float((apart * _times(self.information, apart)).sum())

    def contradicts(self, common: CommonLens) -> bool:
        """Whether the photo was not taken through this lens."""
        return self.distance(common) > FARTHEST


class _State(NamedTuple):
    modes: Tensor
    """`[3]` of the common lens."""
    guess: Guess
    """Of each photo, its own deviation included."""
    weights: Tensor
    """`[P]` of the photos."""
    information: Tensor
    """`[3, 3]`, the prior included."""
    distance: Tensor
    """`[P]`: squared Mahalanobis distance of each photo's own solution from the common one, of
    about 3 in the mean for photos through this lens."""


@torch.no_grad()
def common_lens(head: ParametricHead, photos: Sequence[Observation]) -> CommonLens:
    """The lens that photos agree on, of observations of one photo each.

    The result depends neither on the order of the photos nor on how they were batched, except for
    rounding.
    """
    plumb_line = head.plumb_line
    weighed = _stacked([photo.weighed for photo in photos])
    state = _first(weighed.hidden)
    state = _converge(plumb_line, weighed, state, WIDENING)
    left = plumb_line.left_over(weighed.edges, state.guess)
    weighed = plumb_line.edge_weights.again(weighed, left)
    state = _converge(plumb_line, weighed, state, WIDENING_AGAIN)
    for _ in range(_LAST_STEPS):
        agree = state.distance <= FARTHEST
        if agree.any():
            state = state._replace(weights=state.weights * agree)
        state = _step(plumb_line, weighed, state, 1.0)
    votes = torch.cat([photo.votes for photo in photos]).mean(0, keepdim=True)
    # How far the photos are apart, against what `T` lets expect (Birge's ratio: R. Birge, "The
    # calculation of errors by the method of least squares", 1932).
    apart = (state.weights * state.distance).sum() / RADIAL_TERMS
    spread = (apart + _USUAL_FOR * _USUAL_SPREAD) / (state.weights.sum() + _USUAL_FOR)
    covariance = torch.linalg.inv(state.information) * spread
    return CommonLens(state.modes, votes, covariance)


@torch.no_grad()
def solve_alone(head: ParametricHead, photo: Observation) -> OwnSolution:
    """The solution of one photo by itself, without the prior."""
    weighed, guess = head.plumb_line.converged(photo.weighed)
    equations = head.plumb_line.equations(weighed, guess, 1.0)
    own, eye = equations.information, torch.eye(RADIAL_TERMS)
    modes = guess.modes + torch.linalg.solve(own + _LEAST_INFORMATION * eye, equations.pull)
    return OwnSolution(modes[0], (torch.linalg.inv(eye + _OWN_VARIANCE * own) @ own)[0])


class Shoot:
    """Collects the photos of one lens, and keeps those with the most information about it.

    The lens depends on the photos alone: neither on the order in which they are added, nor on
    their names.
    """

    def __init__(self, head: ParametricHead) -> None:
        self.photos = 0
        """Number of photos that were added."""
        self._head = head
        self._kept: list[tuple[tuple[float, ...], Observation]] = []

    def add(self, photo: Observation) -> None:
        """Adds a photo."""
        self.photos += 1
        # The votes order photos with the same information, such as those without any edge.
        rank = (_information(self._head.plumb_line, photo), *photo.votes[0].tolist())
        self._kept.append((rank, photo))
        self._kept.sort(key=lambda kept: kept[0], reverse=True)
        del self._kept[MOST_PHOTOS:]

    @property
    def kept(self) -> list[Observation]:
        """The photos that decide."""
        return [photo for _, photo in self._kept]

    def absorb(self, photos: int, kept: Iterable[Observation]) -> None:
        """Adds what another one has collected: its number of photos, and those that it kept."""
        before = self.photos
        for photo in kept:
            self.add(photo)
        self.photos = before + photos

    def solve(self, least: int = 2) -> CommonLens | None:
        """The common lens; None for less than `least` photos."""
        if len(self._kept) < least:
            return None
        return common_lens(self._head, self.kept)


@torch.no_grad()
def _information(head: PlumbLineHead, photo: Observation) -> float:
    """How much a photo says about its lens: the log-determinant of its information at no lens."""
    found = head.equations(photo.weighed, no_lens(photo.weighed.hidden), WIDENING[0])
    floor = _LEAST_INFORMATION * torch.eye(RADIAL_TERMS)
    return float(torch.logdet(found.information[0] + floor))


def _first(like: Tensor) -> _State:
    guess, ones = no_lens(like), like.new_ones(len(like))
    zeros = like.new_zeros(RADIAL_TERMS)
    return _State(zeros, guess, ones, like.new_zeros(RADIAL_TERMS, RADIAL_TERMS), 0 * ones)


def _converge(
    head: PlumbLineHead, weighed: WeighedEdges, state: _State, widening: Sequence[float]
) -> _State:
    for wide in widening:
        state = _step(head, weighed, state, wide)
    return state


def _step(head: PlumbLineHead, weighed: WeighedEdges, at: _State, wide: float) -> _State:
    """A Gauss-Newton step of the common lens, and of each photo's deviation from it."""
    equations = head.equations(weighed, at.guess, wide)
    own = equations.information
    eye = torch.eye(RADIAL_TERMS, device=own.device)
    shared = torch.linalg.inv(eye + _OWN_VARIANCE * own)  # what is left beside the deviation
    information = shared @ own
    pull = equations.pull + _times(own, at.guess.modes - at.modes)
    total, right = head.with_prior(
        (at.weights[:, None, None] * information).sum(0)[None],
        (at.weights[:, None] * _times(shared, pull)).sum(0)[None],
        at.modes[None],
    )
    step = torch.linalg.solve(total, right)[0].clamp(-_LARGEST_STEP, _LARGEST_STEP)
    rest = pull - _times(own, step)
    deviation = _OWN_VARIANCE * _times(shared, rest)
    alone = torch.linalg.solve(own + _LEAST_INFORMATION * eye, rest)
    distance = (alone * _times(information, alone)).sum(1)
    move = at.modes + step + deviation - at.guess.modes
    return _State(
        at.modes + step,
        stepped(at.guess, equations.pencils, move),
        (_FREEDOM + RADIAL_TERMS) / (_FREEDOM + distance),
        total[0],
        distance,
    )


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    product: Tensor = (matrix @ vector[..., None]).squeeze(-1)
    return product


def _stacked(photos: Sequence[WeighedEdges]) -> WeighedEdges:
    """One batch. A photo with fewer edges gets some of weight 0."""
    most = max(photo.hidden.shape[1] for photo in photos)

    def padded(value: Tensor, axis: int) -> Tensor:
        short = most - value.shape[axis]
        if not short:
            return value
        last = value.narrow(axis, value.shape[axis] - 1, 1)
        return torch.cat((value, last.repeat_interleave(short, axis)), axis)

    def none(value: Tensor, axis: int) -> Tensor:
        after = [0, most - value.shape[axis]]
        return F.pad(value, after if axis == value.ndim - 1 else [0, 0, *after])

    columns = zip(*(photo.edges for photo in photos), strict=True)
    edges = Edges(*(torch.cat([padded(part, 1) for part in column]) for column in columns))
    weights = EquationWeights(
        torch.cat([none(photo.weights.bend, 1) for photo in photos]),
        torch.cat([none(photo.weights.direction, 2) for photo in photos]),
    )
    return WeighedEdges(edges, weights, torch.cat([padded(p.hidden, 1) for p in photos]))
