"""The lens that the edges of a photo imply, and the evidence for it."""

from typing import NamedTuple

import torch
from torch import Tensor

RADIAL_TERMS = 3
EVIDENCE = 4 * RADIAL_TERMS


class Lens(NamedTuple):
    """The lens that follows from the edges, and how well they agree on it."""

    radial: Tensor
    """`[B, 3]`: k1, k2, k3, not bounded yet; zeros while the head is untrained."""
    information: Tensor
    """`[B, 3, 3]`: inverse covariance, in units of the modes."""
    weights: Tensor
    """`[B, N]`: the weight of each edge's bend."""
    misfit: Tensor
    """`[B]`: weighted mean square of how far edges are off their curvature, over the second
    stretch, in (1 / half diagonal)²."""
    pencil_weights: Tensor
    """`[B, 2, N]`: the weight of each edge's direction, as an upright and as a level edge."""
    misaligned: Tensor
    """`[B]`: weighted mean square of the sines by which edges are off their pencils."""
    pencils: Tensor
    """`[B, 2, 2]`: tilt and convergence of the upright and the level lines."""


@torch.no_grad()
def evidence(lens: Lens) -> Tensor:
    """`[B, EVIDENCE]`, scaled to a size of about 1: the total weight of the equations of each kind,
    how well they agree, and the information on each mode and on each two together. No gradient
    reaches the lens through it."""
    weights = torch.cat((lens.weights[:, None], lens.pencil_weights), dim=1)
    total = weights.sum(2)
    bends = total[:, 0].square() / weights[:, 0].square().sum(1).clamp_min(1e-12)
    agreement = torch.stack((bends, 100 * lens.misfit, 1e4 * lens.misaligned), dim=1)
    own = lens.information.diagonal(dim1=1, dim2=2)
    scaled = lens.information * (own.rsqrt()[:, :, None] * own.rsqrt()[:, None])
    together = torch.stack((scaled[:, 0, 1], scaled[:, 0, 2], scaled[:, 1, 2]), dim=1)
    precision = torch.log(own) / 3
    return torch.cat(
        (precision, together, torch.log1p(torch.cat((total, agreement), 1)) / 3), dim=1
    )
