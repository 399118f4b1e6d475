"""Structural similarity."""

from torch import Tensor

from warp_train.geometry import full_precision
from warp_train.losses.scales import mean, patch_mean

C1 = 0.01**2
C2 = 0.03**2
"""The paper's K1 = 0.01 and K2 = 0.03, for images in 0..1."""


@full_precision
def ssim_loss(prediction: Tensor, target: Tensor, window: int) -> Tensor:
    """`1 - SSIM`, averaged over patches; a scalar in 0..2.

        SSIM = (2 μx μy + C1)(2 σxy + C2) / ((μx² + μy² + C1)(σx² + σy² + C2))

    Wang, Bovik, Sheikh, Simoncelli: "Image quality assessment: from error visibility to
    structural similarity", IEEE TIP 13(4), 2004, eq. 13, with uniform weights over square
    patches that overlap by half in place of a window around every pixel: every pixel is still
    seen by four patches, for a fraction of the time. No border is made up.

    Args:
        prediction: `[B, C, H, W]` in 0..1, of any size; the channels are compared on their own.
        target: the same shape.
        window: side of a patch in pixels, even.
    """
    mean_x, mean_y = patch_mean(prediction, window), patch_mean(target, window)
    mean_xx, mean_yy, mean_xy = mean_x.square(), mean_y.square(), mean_x * mean_y
    # Only their sum is needed, and averaging is linear.
    squares = patch_mean(prediction.square() + target.square(), window)
    variances = squares - (mean_xx + mean_yy)
    covariance = patch_mean(prediction * target, window) - mean_xy
    luminance = (2 * mean_xy + C1) / (mean_xx + mean_yy + C1)
    structure = (2 * covariance + C2) / (variances + C2)
    return 1 - mean(luminance * structure)
