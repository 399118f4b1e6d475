"""Edges and their orientation, from Sobel gradients that all three terms share.

Orientation is compared in double angle (Granlund 1978): the gradient `(gx, gy)` becomes
`(gx² - gy², 2 gx gy) = |g|² (cos 2θ, sin 2θ)`, which is the same for an edge from dark to light
and one from light to dark, and needs no arctangent.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from warp_train.geometry import full_precision
from warp_train.losses.scales import mean, patch_mean, per_sample_mean

MAGNITUDE_EPSILON = 1e-3
"""Rounds off the tip of the magnitude, in luma per pixel: a quarter of an 8-bit step."""

NOISE_FLOOR = 1e-2
"""Gradient in luma per pixel below which an orientation is taken for noise."""

WEIGHT_FLOOR = 1e-3
"""Added to a sample's mean weight: an image without edges gives no information on orientation."""


@dataclass(frozen=True)
class GradientField:
    """Sobel gradients of a luma image, `[B, 1, h, w]`, and what the terms derive from them."""

    gx: Tensor
    gy: Tensor

    @cached_property
    def double_angle(self) -> tuple[Tensor, Tensor, Tensor]:
        """`|g|² cos 2θ`, `|g|² sin 2θ` and `|g|²`, the length of the vector of the former two."""
        parts: tuple[Tensor, Tensor, Tensor] = _DoubleAngle.apply(self.gx, self.gy)
        return parts

    @property
    def energy(self) -> Tensor:
        """`|g|²`."""
        return self.double_angle[2]


class _DoubleAngle(torch.autograd.Function):
    """`gx² - gy²`, `2 gx gy` and `gx² + gy²`."""

    @staticmethod
    def forward(ctx: Any, gx: Tensor, gy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(gx, gy)
        xx, yy, xy = gx * gx, gy * gy, gx * gy
        return xx - yy, xy.mul_(2), xx.add_(yy)

    @staticmethod
    def backward(
        ctx: Any, by_cos: Tensor, by_sin: Tensor, by_energy: Tensor
    ) -> tuple[Tensor, Tensor]:
        gx, gy = ctx.saved_tensors
        by_gx = (by_energy + by_cos).mul_(gx).addcmul_(by_sin, gy)
        by_gy = (by_energy - by_cos).mul_(gy).addcmul_(by_sin, gx)
        return by_gx.mul_(2), by_gy.mul_(2)


@full_precision
def gradient_field(luma: Tensor) -> GradientField:
    """Sobel gradients in luma per pixel (kernel sum 1/8) of `luma` `[B, 1, H, W]`.

    Only where the 3×3 kernel lies inside the image: `[B, 1, H-2, W-2]`, so that no border is made
    up. A frame with a side under 3 pixels is first continued by its border pixels.

    Slices and sums instead of a convolution: faster on a CPU, and exact on a GPU, where
    convolutions round to TF32 by default.
    """
    if min(luma.shape[-2:]) < 3:
        luma = F.pad(luma, (1, 1, 1, 1), mode="replicate")
    return GradientField(*_Sobel.apply(luma))


class _Sobel(torch.autograd.Function):
    """A 2×2 sum followed by a 2×2 difference; the latter two add up from diagonals."""

    @staticmethod
    def forward(ctx: Any, luma: Tensor) -> tuple[Tensor, Tensor]:
        pairs = luma[..., :-1] + luma[..., 1:]
        blocks = (pairs[..., :-1, :] + pairs[..., 1:, :]).div_(8)
        falling = blocks[..., 1:, 1:] - blocks[..., :-1, :-1]
        rising = blocks[..., :-1, 1:] - blocks[..., 1:, :-1]
        return falling + rising, falling.sub_(rising)

    @staticmethod
    def backward(ctx: Any, by_gx: Tensor, by_gy: Tensor) -> Tensor:
        by_falling, by_rising = (by_gx + by_gy).div_(8), (by_gx - by_gy).div_(8)
        *batch, height, width = by_gx.shape
        by_blocks = by_gx.new_zeros(*batch, height + 1, width + 1)
        by_blocks[..., 1:, 1:] += by_falling
        by_blocks[..., :-1, :-1] -= by_falling
        by_blocks[..., :-1, 1:] += by_rising
        by_blocks[..., 1:, :-1] -= by_rising
        by_pairs = F.pad(by_blocks, (0, 0, 0, 1))
        by_pairs[..., 1:, :] += by_blocks
        by_luma = F.pad(by_pairs, (0, 1))
        by_luma[..., 1:] += by_pairs
        return by_luma


def edge_loss(prediction: GradientField, target: GradientField) -> Tensor:
    """Mean `| |∇x| - |∇y| |` with `|∇x| = sqrt(gx² + gy² + ε²)`; a scalar in luma per pixel.

    Gradient difference as in Mathieu, Couprie, LeCun: "Deep multi-scale video prediction beyond
    mean square error", ICLR 2016, on the Sobel magnitude.
    """
    epsilon = MAGNITUDE_EPSILON**2
    magnitudes = ((field.energy + epsilon).sqrt() for field in (prediction, target))
    return mean(torch.sub(*magnitudes).abs())


def gradient_orientation_loss(prediction: GradientField, target: GradientField) -> Tensor:
    """`(1 - cos 2Δθ) / 2 = sin² Δθ` between gradients, weighted by the target's magnitude.

    Both double-angle vectors get a third, constant component `ε²` before their cosine is taken:
    equal fields score 0, a flat prediction where the target has an edge scores 1/2, flat
    on flat 0, and the derivative stays bounded. The mean is weighted per sample; a scalar in 0..1.
    The target gets no gradient.
    """
    cosine = _Cosine.apply(*prediction.double_angle, *(p.detach() for p in target.double_angle))
    return _weighted_mean(1 - cosine, target.energy.detach().sqrt()) / 2


class _Cosine(torch.autograd.Function):
    """Cosine between `(c, s, ε²)` of the prediction and of the target, `e² = c² + s²`."""

    @staticmethod
    def forward(ctx: Any, *parts: Tensor) -> Tensor:
        cos_x, sin_x, energy_x, cos_y, sin_y, energy_y = parts
        floor = NOISE_FLOOR**4
        scale = (energy_y * energy_y).add_(floor)
        scale.mul_((energy_x * energy_x).add_(floor)).rsqrt_()
        cosine = (cos_x * cos_y).addcmul_(sin_x, sin_y).add_(floor).mul_(scale)
        ctx.save_for_backward(energy_x, cos_y, sin_y, scale, cosine)
        return cosine

    @staticmethod
    def backward(ctx: Any, by_cosine: Tensor) -> tuple[Tensor | None, ...]:
        energy_x, cos_y, sin_y, scale, cosine = ctx.saved_tensors
        norm_x = (energy_x * energy_x).add_(NOISE_FLOOR**4)
        by_energy = (by_cosine * cosine).mul_(energy_x).div_(norm_x).neg_()
        scale = by_cosine * scale
        by_cos = scale * cos_y
        return by_cos, scale.mul_(sin_y), by_energy, None, None, None


def line_orientation_loss(prediction: GradientField, target: GradientField, window: int) -> Tensor:
    """Difference of line orientation between patches, weighted by how much line there is.

    The structure tensor of a patch gives the complex `I20 = Σ (gx + i gy)²`, whose argument is
    twice the dominant orientation, and `I11 = Σ |g|²`; `z = I20 / I11` has as length the coherence:
    1 where all edges of the patch are parallel, 0 at corners and noise. The loss is `|zx - zy|²/4`,
    weighted per sample by the target's coherence and root energy; a scalar in 0..1.

    Bigün, Granlund: "Optimal orientation detection of linear symmetry", ICCV 1987.

    Args:
        window: side of a patch in pixels, even; patches overlap by half.
    """
    cos_x, sin_x, _ = _linear_symmetry(prediction, window)
    cos_y, sin_y, amplitude = _linear_symmetry(target, window)
    difference = (cos_x - cos_y).square() + (sin_x - sin_y).square()
    coherence = (cos_y.square() + sin_y.square()).detach().sqrt()
    return _weighted_mean(difference, coherence * amplitude) / 4


def _linear_symmetry(field: GradientField, window: int) -> tuple[Tensor, Tensor, Tensor]:
    """Real and imaginary part of `z`, and the patch's root mean energy (without gradient)."""
    real, imaginary, energy = (patch_mean(part, window) for part in field.double_angle)
    scale = 1 / (energy + NOISE_FLOOR**2)
    return real * scale, imaginary * scale, energy.detach().sqrt()


def _weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean per sample, then over the batch: ranks of equal batches can be averaged."""
    totals = per_sample_mean(values * weights)
    return (totals / (per_sample_mean(weights) + WEIGHT_FLOOR)).mean()
