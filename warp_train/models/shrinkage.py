"""Shrinks the least-squares solution by a learned function of its size and precision.

Least squares assumes one Gaussian prior for all photos. Real lenses do not follow it: most bend
little, a few a lot. A small solution is therefore mostly noise and should be shrunk, a large one is
mostly lens and should be kept, the more so the more edges support it. Whatever the prior is, the
posterior mean is the solution plus a function of the solution and its precision (Tweedie's formula:
B. Efron, "Tweedie's formula and selection bias", 2011). That function is learned.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from warp_train.models.evidence import EVIDENCE, RADIAL_TERMS

_HIDDEN = 16
_LARGEST = 3.0  # of a mode: larger solutions are treated alike


class Shrinkage(nn.Module):
    """Scales and shifts a solution by its size and its evidence. Untrained, it changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(EVIDENCE + 2 * RADIAL_TERMS, _HIDDEN)
        self.out = nn.Linear(_HIDDEN, 2 * RADIAL_TERMS)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, modes: Tensor, evidence: Tensor) -> Tensor:
        """`modes [B, 3]` of the lens and `evidence [B, EVIDENCE]` → `[B, 3]`."""
        solution = modes.detach().clamp(-_LARGEST, _LARGEST)
        inputs = torch.cat((evidence, solution, solution.abs()), dim=1)
        scale, shift = self.out(F.silu(self.hidden(inputs))).chunk(2, dim=1)
        shrunk: Tensor = modes * (1 + scale) + shift
        return shrunk
