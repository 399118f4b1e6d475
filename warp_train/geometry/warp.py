"""Resampling of a photo by a backward grid."""

from typing import Any

import torch
from torch import Tensor

from warp_train.geometry.coordinates import full_precision, identity_grid

_MODES = ("bilinear", "nearest", "bicubic")
_PADDINGS = ("zeros", "border", "reflection")
"""In the order of `grid_sampler`'s numbers for them."""


@full_precision
def warp_image(
    image: Tensor, grid: Tensor, mode: str = "bilinear", padding_mode: str = "border"
) -> Tensor:
    """Backward warp: each output pixel is read from `image` at the position in `grid`.

    A pixel that is read at its own position, to float precision, is copied instead of
    interpolated, so that the identity returns the image bit for bit. Its gradient is that of the
    interpolation.

    Args:
        image: `[B, C, H, W]`.
        grid: `[B, H', W', 2]`. Where it is not finite, the result is NaN.
        mode: `bilinear`, `bicubic` or `nearest`.
        padding_mode: `border`, `zeros` or `reflection`: what is read outside the photo.

    Returns:
        `[B, C, H', W']`, float32 (float64 for float64 input).
    """
    warped: Tensor = _Warp.apply(image, grid, mode, padding_mode)
    return warped


class _Warp(torch.autograd.Function):
    """`grid_sample` that accepts a grid with NaN or infinities, and copies pixels that stay put."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, grid: Tensor, mode: str, padding_mode: str) -> Tensor:
        # PyTorch's backward pass on the CPU writes out of bounds where a coordinate is NaN.
        source = torch.nan_to_num(grid, nan=0.0, posinf=0.0, neginf=0.0).to(image.dtype)
        ctx.how = _MODES.index(mode), _PADDINGS.index(padding_mode), True
        ctx.save_for_backward(image, source)
        ctx.dtype = grid.dtype
        warped = torch.grid_sampler(image, source, *ctx.how)
        x, y = grid.unbind(-1)
        warped += ((x - x) + (y - y)).to(image.dtype).unsqueeze(1)  # 0, or NaN
        if image.shape[-2:] == warped.shape[-2:]:
            still_x, still_y = identity_grid(*x.shape[1:], grid.device, grid.dtype).unbind(-1)
            off = torch.maximum((x - still_x).abs_(), (y - still_y).abs_())
            unmoved = off <= 2 * torch.finfo(grid.dtype).eps
            # Adding `image - warped` would round dark pixels beside bright ones.
            torch.where(unmoved.unsqueeze(1), image, warped, out=warped)
        return warped

    @staticmethod
    def backward(ctx: Any, by_warped: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        image, source = ctx.saved_tensors
        wanted = list(ctx.needs_input_grad[:2])
        by_image, by_source = torch.ops.aten.grid_sampler_2d_backward(
            by_warped, image, source, *ctx.how, wanted
        )
        return by_image, by_source.to(ctx.dtype) if wanted[1] else None, None, None
