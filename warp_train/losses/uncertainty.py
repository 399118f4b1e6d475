"""How well the predicted uncertainty fits the errors."""

import torch
from torch import Tensor

from warp_train.geometry import full_precision


@full_precision
def uncertainty_loss(uncertainty: Tensor, error: Tensor) -> Tensor:
    """Mean of `error / uncertainty + log uncertainty` over the batch.

    Both are `[B]`, in % of the half diagonal. The loss is smallest where `uncertainty` is the mean
    of the errors: it is the negative log-likelihood of an exponential distribution with that mean.
    `error` gets no gradient. A sample whose error is not finite, because its warp is unknown,
    counts with a loss of 0.
    """
    known = error.isfinite()
    error = torch.where(known, error, 1.0).detach()
    nothing = 0 * uncertainty
    return torch.where(known, error / uncertainty + torch.log(uncertainty), nothing).mean()
