"""Shrinks the least-squares solution by its size.

Least squares assumes one Gaussian prior for all photos. Real lenses do not follow it: most bend
little, a few a lot. A small solution is therefore mostly noise and should be shrunk, a large one is
mostly lens and should be kept: the posterior mean under a prior that mixes ordinary and strong
lenses (B. Efron, "Tweedie's formula and selection bias", 2011). It has nine numbers to learn. A
network in their place learned drawn scenes better and photos worse.
"""

import torch
from torch import Tensor, nn

from warp_train.models.evidence import RADIAL_TERMS

_LR_SCALE = 10.0  # a learning-rate scale: these have to move further than weights


class Shrinkage(nn.Module):
    """`modes · (1 - a / (1 + |modes|² / b²)) + c`. Untrained, it changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.most = nn.Parameter(torch.zeros(RADIAL_TERMS))
        self.log_size = nn.Parameter(torch.zeros(RADIAL_TERMS))
        self.shift = nn.Parameter(torch.zeros(RADIAL_TERMS))

    def forward(self, modes: Tensor) -> Tensor:
        """`modes [B, 3]` of the lens → `[B, 3]`."""
        size = modes.detach().square().sum(1, keepdim=True)
        most = torch.tanh(_LR_SCALE * self.most)
        scale = 1 - most / (1 + size * torch.exp(-2 * _LR_SCALE * self.log_size))
        shrunk: Tensor = modes * scale + _LR_SCALE * self.shift
        return shrunk
