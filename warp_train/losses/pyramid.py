"""What the image terms share: luma, the pyramid, and averages over patches."""

import torch
from torch import Tensor
from torch.nn import functional as F

MIN_LEVEL_SIDE = 16
"""Shortest side of a pyramid level in pixels: two patches of the default window."""


def luma(image: Tensor) -> Tensor:
    """Luma `[B, 1, H, W]` of an RGB image `[B, 3, H, W]`, by the weights of ITU-R BT.601."""
    red, green, blue = image.unbind(1)
    red_green = torch.add(0.299 * red, green, alpha=0.587)
    return torch.add(red_green, blue, alpha=0.114).unsqueeze(1)


def pyramid(image: Tensor, levels: int) -> list[Tensor]:
    """`image` `[B, C, H, W]` and its halvings by 2×2 averages, `levels` of them at most.

    It ends before a side would fall below `MIN_LEVEL_SIDE`; the image itself is always in it.
    """
    scales = [image]
    while len(scales) < levels and min(scales[-1].shape[-2:]) >= 2 * MIN_LEVEL_SIDE:
        scales.append(F.avg_pool2d(scales[-1], 2))
    return scales


def patch_mean(image: Tensor, window: int) -> Tensor:
    """Averages over `window`×`window` patches that overlap by half, `[B, C, ~2H/w, ~2W/w]`.

    Averages of half-window cells (cut off at the right and lower border) are averaged over 2×2
    cells: two cheap poolings give what a pooling of stride `window / 2` gives. A frame smaller
    than a patch is one patch.
    """
    cells = F.avg_pool2d(image, window // 2, ceil_mode=True)
    rows, columns = cells.shape[-2:]
    return F.avg_pool2d(cells, (min(2, rows), min(2, columns)), stride=1)


def per_sample_mean(values: Tensor) -> Tensor:
    """Mean over everything but the batch, `[B]`."""
    return values.flatten(1).mean(1)
