"""How well a network's doubt fits its errors."""

import torch
from torch import Tensor

from warp_train.geometry import full_precision


@full_precision
def doubt_loss(doubt: Tensor, error: Tensor) -> Tensor:
    """`error / doubt + log doubt`, meaned: least where `doubt` is the mean of such errors.

    The negative log-likelihood of the exponential distribution, which is a proper score of its
    mean. `error [B]` gets no gradient; samples where it is not finite add 0.
    """
    known = error.isfinite()
    error = torch.where(known, error, 1.0).detach()
    return torch.where(known, error / doubt + torch.log(doubt), 0 * doubt).mean()
