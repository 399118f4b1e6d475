"""How far to believe what the edges say.

Least squares knows one Gaussian prior for all photos. Real lenses are not drawn from one: most bend
little, a few a lot. A small answer is therefore mostly noise and wants to be drawn in, a large one
is mostly lens and wants to be left alone, and the more so the more edges stand behind it. The mean
of what may be true is the answer plus a function of the answer and its precision, whatever the
prior is (Tweedie's formula: B. Efron, "Tweedie's formula and selection bias", 2011). That function
is learned.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from warp_train.models.evidence import EVIDENCE, RADIAL_TERMS

_HIDDEN = 16
_LARGEST = 3.0  # of a mode: beyond, an answer is as large as any


class Shrinkage(nn.Module):
    """Draws a solution in, or out, by what it is and by what it rests on. Untrained, it does
    nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(EVIDENCE + 2 * RADIAL_TERMS, _HIDDEN)
        self.out = nn.Linear(_HIDDEN, 2 * RADIAL_TERMS)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, modes: Tensor, evidence: Tensor) -> Tensor:
        """`modes [B, 3]` of the lens and `evidence [B, EVIDENCE]` → `[B, 3]`."""
        answer = modes.detach().clamp(-_LARGEST, _LARGEST)
        known = torch.cat((evidence, answer, answer.abs()), dim=1)
        scale, shift = self.out(F.silu(self.hidden(known))).chunk(2, dim=1)
        drawn: Tensor = modes * (1 + scale) + shift
        return drawn
