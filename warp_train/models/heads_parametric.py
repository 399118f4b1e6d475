"""From features and edges to a bounded lens."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from warp_train.geometry import IDENTITY_PARAMS, PARAM_NAMES, covering_zoom
from warp_train.models.config import ParamBounds
from warp_train.models.edge_weights import EquationWeights, WeighedEdges
from warp_train.models.edges import Edges
from warp_train.models.evidence import RADIAL_TERMS
from warp_train.models.heads_plumbline import GATE_LR_SCALE, PlumbLineHead
from warp_train.models.heads_uncertainty import UncertaintyHead

# How the terms of real lenses vary together, as directions in (k1, k2, k3, s) over their bounds: a
# bend with the zoom that fills the frame again, and a moustache. As single parameters the four are
# correlated up to 0.97, and gradient descent is slow along such valleys.
_BEND = {"k1": 1.9, "k2": -0.9, "k3": 0.2, "s": 1.6}
_MOUSTACHE = {"k1": 1.5, "k2": -1.5, "s": 0.75}

_MOST_FILLED = 0.95  # of a bound: beyond, the inverse of tanh is too steep


class Observation(NamedTuple):
    """What photos show of their lens."""

    weighed: WeighedEdges
    votes: Tensor
    """`[B, 8]`: raw parameters, from the locations' votes."""
    effective_votes: Tensor
    """`[B, 8]`: `(Σ πᵢ)² / Σ πᵢ²` (Kish, 1965): how many locations a mean rests on."""

    def cpu(self) -> "Observation":
        """The same on the CPU."""
        edges, weights, hidden = self.weighed
        weighed = WeighedEdges(
            Edges(*(part.cpu() for part in edges)),
            EquationWeights(*(part.cpu() for part in weights)),
            hidden.cpu(),
        )
        return Observation(weighed, self.votes.cpu(), self.effective_votes.cpu())


class ParametricHead(nn.Module):
    """Edges vote for the radial terms, locations for all eight parameters, all by their precision.

    The edges' votes are equations that `PlumbLineHead` solves. Each location of the feature map
    adds eight values, each with a log-precision. Their precision-weighted means `Σ πᵢ vᵢ / Σ πᵢ`,
    `πᵢ = exp(log πᵢ)`, are mixed by a learned 8 × 8 matrix. The sum is the raw parameters, and
    those are bounded by `identity + bound · tanh(raw)`. How far the corrected frame is zoomed is a
    convention of the data and not a property of a photo: `filling` is the learned share of the zoom
    that just fills the frame.
    The precisions matter because a blank wall carries no information about lines: a plain mean
    would count it like a door frame.
    Votes, gates and `filling` start at zero, so an untrained head gives the identity exactly.
    """

    bounds: Tensor
    identity: Tensor

    def __init__(
        self, channels: int, stride: int, bounds: ParamBounds, *, level_camera: bool = True
    ) -> None:
        super().__init__()
        self.votes = nn.Conv2d(channels, 2 * len(PARAM_NAMES), 1)
        nn.init.zeros_(self.votes.weight)
        nn.init.zeros_(self.votes.bias)  # type: ignore[arg-type]
        mixing = torch.eye(len(PARAM_NAMES))
        for row, direction in enumerate((_BEND, _MOUSTACHE)):
            mixing[row] = torch.tensor([direction.get(name, 0.0) for name in PARAM_NAMES])
        self.mixing = nn.Parameter(mixing)
        self.plumb_line = PlumbLineHead(channels, stride, level_camera=level_camera)
        self.uncertainty = UncertaintyHead()
        self.filling = nn.Parameter(torch.zeros(()))
        limits = [getattr(bounds, name) for name in PARAM_NAMES]
        self.register_buffer("bounds", torch.tensor(limits), persistent=False)
        self.register_buffer("identity", torch.tensor(IDENTITY_PARAMS), persistent=False)

    def forward(self, features: Tensor, edges: Edges, size: tuple[int, int]) -> dict[str, Tensor]:
        """`[B, C, h, w]` of a photo of `size` (height, width) → `params` and `params_raw`, `[B, 8]`
        float32, `uncertainty [B]`, `pencils [B, 2, 2]` and `effective_votes [B, 8]`.
        """
        return self.predict(self.observe(features, edges), size)

    def observe(self, features: Tensor, edges: Edges) -> Observation:
        """What is seen of the lens: all that `predict` needs."""
        with torch.autocast(features.device.type, enabled=False):
            value, log_precision = self.votes(features.float()).flatten(2).chunk(2, dim=1)
            share = torch.softmax(log_precision, dim=2)
            return Observation(
                self.plumb_line.edge_weights(features, edges),
                (share * value).sum(2) @ self.mixing,
                1 / share.detach().square().sum(2),
            )

    def predict(self, seen: Observation, size: tuple[int, int]) -> dict[str, Tensor]:
        """The lens of each photo by itself, as `forward` returns it."""
        with torch.autocast(seen.votes.device.type, enabled=False):
            lens = self.plumb_line.solve(seen.weighed)
            raw = self.raw(seen.votes, lens.radial, size)
            return {
                "params": self.bounded(raw),
                "params_raw": raw,
                "uncertainty": self.uncertainty(lens),
                "pencils": lens.pencils,
                "effective_votes": seen.effective_votes,
            }

    def bounded(self, raw: Tensor) -> Tensor:
        """`params [B, 8]` of raw ones."""
        params: Tensor = self.identity + self.bounds * torch.tanh(raw)
        return params

    def raw(self, votes: Tensor, radial: Tensor, size: tuple[int, int]) -> Tensor:
        """Raw parameters `[B, 8]` of the locations' votes and the edges' radial terms."""
        limit = self.bounds[:RADIAL_TERMS]
        # The inverse of the bound: the solver's lens passes it unchanged.
        inside = (radial / limit).clamp(-_MOST_FILLED, _MOST_FILLED)
        bent = votes[:, :RADIAL_TERMS] + torch.atanh(inside)
        zoom = covering_zoom(limit * torch.tanh(bent), *size) - self.identity[-1]
        fills = torch.atanh((zoom / self.bounds[-1]).clamp(-_MOST_FILLED, _MOST_FILLED))
        zoomed = votes[:, -1] + GATE_LR_SCALE * self.filling * fills
        return torch.cat((bent, votes[:, RADIAL_TERMS:-1], zoomed[:, None]), dim=1)
