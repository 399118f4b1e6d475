"""The one resampling of a photo."""

import torch
import torch.nn.functional as F
from torch import Tensor

from warp_train.geometry.coordinates import full_precision, identity_grid


@full_precision
def warp_image(
    image: Tensor, grid: Tensor, mode: str = "bilinear", padding_mode: str = "border"
) -> Tensor:
    """Backward warp: each output pixel is read from `image` where `grid` points.

    A pixel whose source is itself to float precision is copied, not interpolated, so that the
    identity returns the image bit for bit; its gradient is that of the interpolation.

    Args:
        image: `[B, C, H, W]`.
        grid: `[B, H', W', 2]`. Where it is not finite, neither is the result.
        mode: `bilinear`, `bicubic` or `nearest`.
        padding_mode: `border`, `zeros` or `reflection`: what is read outside the photo.

    Returns:
        `[B, C, H', W']`, float32 (float64 for float64 input).
    """
    # PyTorch's backward pass on the CPU writes out of bounds where a coordinate is NaN.
    finite = grid.isfinite().all(-1, keepdim=True)
    source = torch.where(finite, grid, 0.0).to(image.dtype)
    warped = F.grid_sample(image, source, mode=mode, padding_mode=padding_mode, align_corners=True)
    warped = warped.masked_fill(~finite.permute(0, 3, 1, 2), torch.nan)
    if image.shape[-2:] != warped.shape[-2:]:
        return warped
    with torch.no_grad():
        identity = identity_grid(*image.shape[-2:], grid.device, grid.dtype)
        unmoved = (grid - identity).abs().amax(-1) <= 2 * torch.finfo(grid.dtype).eps
        # Written over the values alone, which the backward pass of the interpolation does not need:
        # adding `image - warped` would round dark pixels beside bright ones.
        warped.copy_(torch.where(unmoved.unsqueeze(1), image, warped))
    return warped
