"""From features to a bounded lens, by votes."""

import torch
from torch import Tensor, nn

from warp_train.geometry import IDENTITY_PARAMS, PARAM_NAMES
from warp_train.models.config import ParamBounds

# How the terms of real lenses go together, as directions in (k1, k2, k3, s) over their bounds: a
# bend with the zoom that fills the frame again, and a moustache. Left apart, the four would be
# correlated up to 0.97, and gradient descent crawls along such valleys.
_BEND = {"k1": 1.9, "k2": -0.9, "k3": 0.2, "s": 1.6}
_MOUSTACHE = {"k1": 1.5, "k2": -1.5, "s": 0.75}


class ParametricHead(nn.Module):
    """Every location votes for a lens and says how sure it is; the votes' mean is the lens.

    Each location of the feature map gives eight values, each with a log-precision. Their
    precision-weighted means `Σ πᵢ vᵢ / Σ πᵢ`, `πᵢ = exp(log πᵢ)`, are mixed by a learned 8 × 8
    matrix into the raw parameters, and those are bounded by `identity + bound · tanh(raw)`.
    A blank wall has no say about lines; a mean that counts it like a door frame drowns the frame.
    The vote layer starts at zero, so an untrained head gives the identity exactly.
    """

    bounds: Tensor
    identity: Tensor

    def __init__(self, channels: int, bounds: ParamBounds) -> None:
        super().__init__()
        self.votes = nn.Conv2d(channels, 2 * len(PARAM_NAMES), 1)
        nn.init.zeros_(self.votes.weight)
        nn.init.zeros_(self.votes.bias)  # type: ignore[arg-type]
        mixing = torch.eye(len(PARAM_NAMES))
        for row, direction in enumerate((_BEND, _MOUSTACHE)):
            mixing[row] = torch.tensor([direction.get(name, 0.0) for name in PARAM_NAMES])
        self.mixing = nn.Parameter(mixing)
        limits = [getattr(bounds, name) for name in PARAM_NAMES]
        self.register_buffer("bounds", torch.tensor(limits), persistent=False)
        self.register_buffer("identity", torch.tensor(IDENTITY_PARAMS), persistent=False)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """`[B, C, h, w]` → `params`, `params_raw` and `effective_votes`, each `[B, 8]` float32.

        `effective_votes = (Σ πᵢ)² / Σ πᵢ²` (Kish, 1965): how many locations each mean rests on.
        """
        with torch.autocast(features.device.type, enabled=False):
            value, log_precision = self.votes(features.float()).flatten(2).chunk(2, dim=1)
            share = torch.softmax(log_precision, dim=2)
            raw = (share * value).sum(2) @ self.mixing
            return {
                "params": self.identity + self.bounds * torch.tanh(raw),
                "params_raw": raw,
                "effective_votes": 1 / share.detach().square().sum(2),
            }
