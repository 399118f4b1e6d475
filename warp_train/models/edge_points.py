"""The clearest edge point of every cell of a photo, and the edge's direction there.

This is the reference, and what runs on a GPU. `edge_kernel` does the same on a CPU, faster.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from warp_train.geometry import luma
from warp_train.models.line_channels import central_differences

CELL_PX = 8
"""Side of the cells that hold at most one edge; also the stride of `tiny`."""


class Points(NamedTuple):
    """The clearest point of every cell, row by row."""

    pixel: Tensor
    """`[B, C, 2]`: x and y, in px."""
    normal: Tensor
    """`[B, C, 2]`: unit vector across the edge, to its brighter side."""
    strength: Tensor
    """`[B, C]`: gradient of the luma in 1 / px."""


def find(image: Tensor) -> tuple[Tensor, Points]:
    """The luma of photos `[B, 3, H, W]`, smoothed, `[B, H + 2, W + 2]`; and their points."""
    smooth = _smooth_luma(image)
    return smooth, _clearest(*central_differences(smooth))


def _binomial(field: Tensor, order: int) -> Tensor:
    """`[..., H, W]` smoothed along both axes, with variance `order / 4` px², `order` px smaller.

    The Gaussian's nearest relative with whole weights, and sums of two are all that it takes.
    """
    for _ in range(order):
        field = field[..., 1:] + field[..., :-1]
    for _ in range(order):
        field = field[..., 1:, :] + field[..., :-1, :]
    return field * 0.25**order


def _smooth_luma(image: Tensor) -> Tensor:
    """`[B, H + 2, W + 2]`, smoothed with a deviation of 1 px; the border is repeated outside."""
    return _binomial(F.pad(luma(image), (3, 3, 3, 3), mode="replicate"), 4).squeeze(1)


def _clearest(l_x: Tensor, l_y: Tensor) -> Points:
    height, width = l_x.shape[-2:]
    x2, y2 = l_x * l_x, l_y * l_y
    tensor = torch.stack((x2 - y2, 2 * l_x * l_y, x2 + y2), dim=1)
    # The structure tensor at half the photo's resolution: directions change slowly.
    half = F.avg_pool2d(tensor, 2, ceil_mode=True, count_include_pad=False)
    half = _binomial(F.pad(half, (1, 1, 1, 1), mode="replicate"), 2)
    re, im, energy = half.unbind(1)
    coherence = (torch.hypot(re, im) / (energy + 1e-6))[:, None]
    coherence = F.interpolate(coherence, scale_factor=2, mode="nearest")[..., :height, :width]
    clear = tensor[:, 2:] * coherence
    best, where = F.max_pool2d(clear, CELL_PX, ceil_mode=True, return_indices=True)
    best, where = best.flatten(1), where.flatten(1)
    row, column = where // width, where % width
    there = row // 2 * re.shape[-1] + column // 2
    angle = torch.atan2(*(part.flatten(1).gather(1, there) for part in (im, re))) / 2
    normal = torch.stack((torch.cos(angle), torch.sin(angle)), -1)
    gradient = torch.stack([part.flatten(1).gather(1, where) for part in (l_x, l_y)], -1)
    towards = torch.where((gradient * normal).sum(-1, keepdim=True) < 0, -1.0, 1.0)
    pixel = torch.stack((column, row), -1).to(l_x.dtype)
    return Points(pixel, normal * towards, best.sqrt())
