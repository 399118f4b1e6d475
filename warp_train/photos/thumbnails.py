"""Thumbnails of corrected photos, for the metadata blocks that hold one."""

from __future__ import annotations

import cv2

from warp_train.photos.pixels import Pixels, over_white, to_eight_bits

_QUALITY = 80


def thumbnail_jpeg(pixels: Pixels, longest: int) -> tuple[bytes, int, int]:
    """A JPEG of the photo with a long side of at most `longest` pixels, its width and height."""
    height, width = pixels.shape[:2]
    scale = min(1.0, longest / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    flat = over_white(to_eight_bits(small.reshape(size[1], size[0], -1)))
    shown = cv2.cvtColor(flat, cv2.COLOR_RGB2BGR) if flat.shape[2] == 3 else flat
    done, data = cv2.imencode(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not done:
        raise ValueError("no thumbnail can be encoded")
    return data.tobytes(), *size
