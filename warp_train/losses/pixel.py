"""Colour difference, pixel by pixel."""

from typing import Any, Literal

import torch
from torch import Tensor

from warp_train.geometry import full_precision

CHARBONNIER_EPSILON = 1e-3
"""In image units (0..1): a quarter of an 8-bit step."""


@full_precision
def l1(difference: Tensor) -> Tensor:
    """Mean absolute value of `prediction - target`, any shape; a scalar in image units."""
    mean: Tensor = _MeanAbs.apply(difference)
    return mean


class _MeanAbs(torch.autograd.Function):
    """Pixels in colour are the largest field of all: no pass over them is made that need not be."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.save_for_backward(values)
        return values.abs().mean()

    @staticmethod
    def backward(ctx: Any, by_mean: Tensor) -> Tensor:
        (values,) = ctx.saved_tensors
        by_values: Tensor = values.sign().mul_(by_mean / values.numel())
        return by_values


@full_precision
def charbonnier(difference: Tensor, epsilon: float = CHARBONNIER_EPSILON) -> Tensor:
    """Mean of `sqrt(d² + ε²) - ε`: L1 with a smooth bottom, 0 where nothing differs.

    Charbonnier, Blanc-Féraud, Aubert, Barlaud: "Two deterministic half-quadratic regularization
    algorithms for computed imaging", ICIP 1994.
    """
    return (difference.square() + epsilon**2).sqrt().mean() - epsilon


def pixel_loss(difference: Tensor, kind: Literal["l1", "charbonnier"]) -> Tensor:
    """The pixel term of one pyramid level.

    It takes the difference because averaging is linear: the pyramid of the difference is the
    difference of the pyramids, at half the work.
    """
    return l1(difference) if kind == "l1" else charbonnier(difference)
