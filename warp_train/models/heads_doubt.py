"""How wrong the lens is likely to be, in the network's own estimate."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from warp_train.models.heads_plumbline import RADIAL_TERMS, Lens

_FEATURES = 2 * RADIAL_TERMS + 6
_FIRST_GUESS = 0.3  # % of the half diagonal: 0.9 px of a photo 480 px long


class DoubtHead(nn.Module):
    """From how the edges agree to the expected mean end-point error, in % of the half diagonal.

    It looks on: no gradient of its own reaches the lens. Only where gradients are clipped by their
    common norm do the two know of each other.
    """

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(_FEATURES, 16)
        self.out = nn.Linear(16, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.constant_(self.out.bias, math.log(_FIRST_GUESS))

    def forward(self, lens: Lens) -> Tensor:
        """`[B]`, above 0."""
        with torch.no_grad():
            heard = torch.cat((lens.weights[:, None], lens.pencil_weights), dim=1)
            total = heard.sum(2)
            bends = total[:, 0].square() / heard[:, 0].square().sum(1).clamp_min(1e-12)
            misfits = torch.stack((bends, 100 * lens.misfit, 1e4 * lens.misaligned), dim=1)
            known = torch.cat(
                (
                    torch.log(lens.information.diagonal(dim1=1, dim2=2)) / 3,
                    5 * lens.radial.abs().clamp_max(1),
                    torch.log1p(torch.cat((total, misfits), dim=1)) / 3,
                ),
                dim=1,
            )
        return torch.exp(self.out(F.silu(self.hidden(known))).squeeze(1).clamp(-7, 5))
