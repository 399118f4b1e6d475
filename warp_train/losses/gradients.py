"""Edges and their orientation, from Sobel gradients that all three terms share.

Orientation is compared in double angle (Granlund 1978): the gradient `(gx, gy)` becomes
`(gx² - gy², 2 gx gy) = |g|² (cos 2θ, sin 2θ)`, which is the same for an edge from dark to light
and one from light to dark, and needs no arctangent.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from warp_train.geometry import full_precision
from warp_train.losses.pyramid import patch_mean, per_sample_mean

MAGNITUDE_EPSILON = 1e-3
"""Rounds off the tip of the magnitude, in luma per pixel: a quarter of an 8-bit step."""

NOISE_FLOOR = 1e-2
"""Gradient in luma per pixel below which an orientation is taken for noise."""

WEIGHT_FLOOR = 1e-3
"""Added to a sample's mean weight: an image without edges says nothing about orientation."""


@dataclass(frozen=True)
class GradientField:
    """Sobel gradients of a luma image, `[B, 1, h, w]`, and what the terms derive from them."""

    gx: Tensor
    gy: Tensor

    @cached_property
    def squares(self) -> tuple[Tensor, Tensor]:
        return self.gx.square(), self.gy.square()

    @cached_property
    def energy(self) -> Tensor:
        """`|g|²`, which is the length of the double-angle vector too."""
        return torch.add(*self.squares)

    @cached_property
    def double_angle(self) -> tuple[Tensor, Tensor]:
        """`|g|² cos 2θ` and `|g|² sin 2θ`."""
        return torch.sub(*self.squares), 2 * self.gx * self.gy


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
    pairs = luma[..., :-1] + luma[..., 1:]
    blocks = (pairs[..., :-1, :] + pairs[..., 1:, :]) / 8
    # Sobel is a 2×2 sum followed by a 2×2 difference, and the latter two add up from diagonals.
    falling = blocks[..., 1:, 1:] - blocks[..., :-1, :-1]
    rising = blocks[..., :-1, 1:] - blocks[..., 1:, :-1]
    return GradientField(gx=falling + rising, gy=falling - rising)


def edge_loss(prediction: GradientField, target: GradientField) -> Tensor:
    """Mean `| |∇x| - |∇y| |` with `|∇x| = sqrt(gx² + gy² + ε²)`; a scalar in luma per pixel.

    Gradient difference as in Mathieu, Couprie, LeCun: "Deep multi-scale video prediction beyond
    mean square error", ICLR 2016, on the Sobel magnitude.
    """
    epsilon = MAGNITUDE_EPSILON**2
    magnitudes = ((field.energy + epsilon).sqrt() for field in (prediction, target))
    return torch.sub(*magnitudes).abs().mean()


def gradient_orientation_loss(prediction: GradientField, target: GradientField) -> Tensor:
    """`(1 - cos 2Δθ) / 2 = sin² Δθ` between gradients, weighted by the target's magnitude.

    Both double-angle vectors get a third, constant component `ε²` before their cosine is taken:
    equal fields score 0, a flat prediction where the target has an edge scores 1/2, flat
    on flat 0, and the derivative stays bounded. The mean is weighted per sample; a scalar in 0..1.
    """
    floor = NOISE_FLOOR**2
    (cos_x, sin_x), (cos_y, sin_y) = prediction.double_angle, target.double_angle
    inner = cos_x * cos_y + sin_x * sin_y + floor**2
    squared_norms = (prediction.energy.square() + floor**2) * (target.energy.square() + floor**2)
    cosine = inner * squared_norms.rsqrt()
    return _weighted_mean(1 - cosine, target.energy.detach().sqrt()) / 2


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
    energy = patch_mean(field.energy, window)
    scale = 1 / (energy + NOISE_FLOOR**2)
    real, imaginary = (patch_mean(part, window) * scale for part in field.double_angle)
    return real, imaginary, energy.detach().sqrt()


def _weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean per sample, then over the batch: ranks of equal batches can be averaged."""
    totals = per_sample_mean(values * weights)
    return (totals / (per_sample_mean(weights) + WEIGHT_FLOOR)).mean()
