"""The pixels of a PNG as they are stored, of 1 to 16 bits a channel."""

from __future__ import annotations

import imagecodecs
import numpy as np

from warp_train.photos.damage import clear_errors
from warp_train.photos.pixels import Pixels, check_size
from warp_train.photos.png_chunks import SIGNATURE, png_chunk, png_chunks

_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")


def decode_png(data: bytes) -> Pixels:
    """The picture: [H, W] or [H, W, C] uint8 or uint16, C as in `Pixels`. A palette becomes RGB.

    It is decoded by libpng, which is exact at 16 bits, where Pillow is not. libpng sees nothing but
    the pixels: it would apply, or refuse, what other chunks contain.

    Raises ValueError if the file is damaged, too small or too large, or animated.
    """
    pieces = [SIGNATURE]
    for kind, content in png_chunks(data):
        if len(pieces) == 1:
            if kind != b"IHDR" or len(content) != 13:
                raise ValueError("damaged (its header is missing)")
            width, height = (int.from_bytes(content[at : at + 4], "big") for at in (0, 4))
            check_size(width, height, len(data))
        if kind == b"acTL" and int.from_bytes(content[:4], "big") > 1:
            pictures = int.from_bytes(content[:4], "big")
            raise ValueError(f"an animated file ({pictures} pictures) cannot be corrected")
        if kind in _PIXELS:
            pieces.append(png_chunk(kind, content))
    pieces.append(png_chunk(b"IEND", b""))
    with clear_errors():
        return np.asarray(imagecodecs.png_decode(b"".join(pieces)))
