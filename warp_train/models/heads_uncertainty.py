"""The uncertainty: the error that the network expects of its own lens."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from warp_train.models.evidence import EVIDENCE, RADIAL_TERMS, Lens, evidence

_FIRST_GUESS = 0.3  # % of the half diagonal: 0.9 px of a photo 480 px long


class UncertaintyHead(nn.Module):
    """From how well the edges agree to the expected mean end-point error.

    No gradient of its own reaches the lens. The two affect each other only where gradients are
    clipped by their common norm.
    """

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(EVIDENCE + RADIAL_TERMS, 16)
        self.out = nn.Linear(16, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.constant_(self.out.bias, math.log(_FIRST_GUESS))

    def forward(self, lens: Lens) -> Tensor:
        """`[B]`, above 0, in % of the half diagonal."""
        bend = 5 * lens.radial.detach().abs().clamp_max(1)
        inputs = torch.cat((evidence(lens), bend), dim=1)
        return torch.exp(self.out(F.silu(self.hidden(inputs))).squeeze(1).clamp(-7, 5))
