"""What the image terms share: the pyramid, and averages over patches."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

MIN_LEVEL_SIDE = 16
"""Shortest side of a pyramid level in pixels: two patches of the default window."""


def pyramid(image: Tensor, levels: int) -> list[Tensor]:
    """`image` `[B, C, H, W]` and its halvings by 2×2 averages, `levels` of them at most.

    It ends before a side would fall below `MIN_LEVEL_SIDE`; the image itself is always in it.
    """
    scales = [image]
    while len(scales) < levels and min(scales[-1].shape[-2:]) >= 2 * MIN_LEVEL_SIDE:
        scales.append(halve(scales[-1]))
    return scales


def halve(image: Tensor) -> Tensor:
    """2×2 averages of `[B, C, H, W]`; an odd last row or column is left out."""
    half: Tensor = _Halve.apply(image)
    return half


class _Halve(torch.autograd.Function):
    """From sums of slices: several times faster on a CPU than a pooling."""

    @staticmethod
    def forward(ctx: Any, image: Tensor) -> Tensor:
        ctx.shape = image.shape
        rows, columns = (side // 2 * 2 for side in image.shape[-2:])
        image = image[..., :rows, :columns]
        pairs = image[..., ::2, :] + image[..., 1::2, :]
        return (pairs[..., ::2] + pairs[..., 1::2]).mul_(0.25)

    @staticmethod
    def backward(ctx: Any, by_half: Tensor) -> Tensor:
        by_image = F.interpolate(0.25 * by_half, scale_factor=2)
        if by_image.shape == ctx.shape:
            return by_image
        height, width = ctx.shape[-2:]
        return F.pad(by_image, (0, width % 2, 0, height % 2))


def patch_mean(image: Tensor, window: int) -> Tensor:
    """Averages over `window`×`window` patches that overlap by half, `[B, C, ~2H/w, ~2W/w]`.

    Averages of half-window cells (cut off at the right and lower border) are averaged over 2×2
    cells, which gives what a pooling of stride `window / 2` gives. A frame smaller than a patch is
    one patch.
    """
    cells = F.avg_pool2d(image, window // 2, ceil_mode=True)
    for dim in (-2, -1):
        if cells.shape[dim] > 1:
            cells = _PairMeans.apply(cells, dim)
    return cells


class _PairMeans(torch.autograd.Function):
    """Averages of neighbours along one axis, one fewer than there are values."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, dim: int) -> Tensor:
        ctx.dim = dim
        count = values.shape[dim] - 1
        return (values.narrow(dim, 0, count) + values.narrow(dim, 1, count)).mul_(0.5)

    @staticmethod
    def backward(ctx: Any, by_means: Tensor) -> tuple[Tensor, None]:
        shape = list(by_means.shape)
        count = shape[ctx.dim]
        shape[ctx.dim] += 1
        by_values = by_means.new_zeros(shape)
        by_values.narrow(ctx.dim, 0, count).add_(by_means, alpha=0.5)
        by_values.narrow(ctx.dim, 1, count).add_(by_means, alpha=0.5)
        return by_values, None


def per_sample_mean(values: Tensor) -> Tensor:
    """Mean over everything but the batch, `[B]`."""
    return values.flatten(1).sum(1) / values[0].numel()


def mean(values: Tensor) -> Tensor:
    """The mean, a scalar. A sum is taken back without writing to every pixel, `mean` is not."""
    return values.sum() / values.numel()
