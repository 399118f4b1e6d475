"""The SSIM score: structural similarity."""

import cv2
import numpy as np

from warp_train.metrics.images import Array

_SIGMA = 1.5
_WINDOW = (11, 11)
_C1, _C2 = 0.01**2, 0.03**2


def ssim_score(pred: Array, gt: Array) -> float:
    """Mean SSIM over Gaussian windows of 11 × 11 pixels with σ = 1.5; a negative mean counts as 0.

    Source: Z. Wang et al., "Image quality assessment: from error visibility to structural
    similarity", 2004, with L = 1. The picture is mirrored at its border.

    Args:
        pred, gt: luma [H, W] in 0..1.

    Returns:
        0..1; swapping the pictures changes nothing.
    """
    mean_one, mean_other = _blur(pred), _blur(gt)
    square_one, square_other, product = mean_one**2, mean_other**2, mean_one * mean_other
    # Grouped in this way, both fractions are exactly 1 for identical pictures.
    both = (_blur(pred * pred) - square_one) + (_blur(gt * gt) - square_other)
    shared = _blur(pred * gt) - product
    ratio = (2 * product + _C1) * (2 * shared + _C2)
    ratio /= (square_one + square_other + _C1) * (both + _C2)
    return float(np.clip(ratio.mean(dtype=np.float64), 0, 1))


def _blur(image: Array) -> Array:
    return np.asarray(cv2.GaussianBlur(image, _WINDOW, _SIGMA, borderType=cv2.BORDER_REFLECT))
