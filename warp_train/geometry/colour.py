"""Luma: the brightness that edges are looked for in."""

from torch import Tensor

from warp_train.geometry.bt601 import LUMA_WEIGHTS


def luma(image: Tensor) -> Tensor:
    """Luma `[B, 1, H, W]` of an RGB image `[B, 3, H, W]`, by the weights of ITU-R BT.601."""
    red, green, blue = (w * c for w, c in zip(LUMA_WEIGHTS, image.unbind(1), strict=True))
    return (red + green + blue).unsqueeze(1)
