"""The pixels of photos as arrays: upright, at 8 bits, without alpha."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[Any]
"""[H, W, C] uint8 or uint16; C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha."""

Image = NDArray[np.uint8]
"""[H, W, C] of 8 bits a channel."""

LEAST_SIDE = 16
"""Shortest side of a photo, in pixels."""
MOST_PIXELS = 2**29
"""Most pixels of a photo: a larger file is a mistake or a decompression bomb."""

_MOST_FOR_SHORT = 2**24
_MOST_PER_BYTE = 4096
"""Pixels that a byte of a file can hold, for files of more pixels than the number above: the bound
is that of blank pictures, and of headers that ask for all the memory there is."""

_TURNS: dict[int, tuple[int | None, int | None]] = {
    2: (None, 1),
    3: (cv2.ROTATE_180, None),
    4: (None, 0),
    5: (cv2.ROTATE_90_CLOCKWISE, 1),
    6: (cv2.ROTATE_90_CLOCKWISE, None),
    7: (cv2.ROTATE_90_CLOCKWISE, 0),
    8: (cv2.ROTATE_90_COUNTERCLOCKWISE, None),
}
"""EXIF orientation → a rotation, and the mirroring after it (1: left-right, 0: top-bottom)."""


def check_size(width: int, height: int, length: int | None = None) -> None:
    """Raises ValueError if a photo is too small or too large, or so in a file of `length` bytes."""
    size = f"{width}x{height} px"
    if min(width, height) < LEAST_SIDE:
        raise ValueError(f"{size}; at least {LEAST_SIDE} px a side are needed")
    if width * height > MOST_PIXELS:
        raise ValueError(f"{size}; at most {MOST_PIXELS // 10**6} megapixels are allowed")
    if length and width * height > max(_MOST_FOR_SHORT, length * _MOST_PER_BYTE):
        raise ValueError(f"damaged ({size} in {length} bytes)")


def turned(pixels: Pixels, orientation: int) -> Pixels:
    """Stored pixels [h, w, C] rotated and mirrored upright, by the EXIF orientation."""
    turn, mirror = _TURNS.get(orientation, (None, None))
    upright = pixels if turn is None else cv2.rotate(pixels, turn)
    upright = upright if mirror is None else cv2.flip(upright, mirror)
    return upright.reshape(*upright.shape[:2], pixels.shape[2])


def predictor_view(pixels: Pixels) -> Image:
    """The photo as the input of a model: RGB uint8 [H, W, 3], alpha blended with white."""
    opaque = over_white(to_eight_bits(pixels))
    return as_image(cv2.cvtColor(opaque, cv2.COLOR_GRAY2RGB)) if opaque.shape[2] == 1 else opaque


def to_eight_bits(pixels: Pixels) -> Image:
    """Pixels of 16 bits rounded to 8; pixels of 8 bits unchanged."""
    if pixels.dtype == np.uint8:
        return pixels
    return as_image(cv2.convertScaleAbs(pixels, alpha=1 / 257)).reshape(pixels.shape)


def over_white(pixels: Image) -> Image:
    """8-bit pixels with their alpha channel, if any, removed: blended with white."""
    colours = pixels.shape[2] - 1
    if colours % 2 == 0:
        return pixels
    flat = np.empty((*pixels.shape[:2], colours), np.uint8)
    for top in range(0, len(pixels), 256):  # in bands: the sums need more memory than bytes
        band = pixels[top : top + 256].astype(np.uint16)
        alpha = band[..., colours:]
        flat[top : top + 256] = (band[..., :colours] * alpha + 255 * (255 - alpha) + 127) // 255
    return flat


def as_image(array: Any) -> Image:
    """The same array: OpenCV's stubs do not type a uint8 image as one."""
    image: Image = array
    return image
