"""Encodes TIFFs of 8 or 16 bits with all metadata: Pillow cannot write 16-bit RGB."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from warp_train.photos.metadata import Metadata, parse_exif

_DEFLATE, _HORIZONTAL, _INCH, _UNASSOCIATED = 8, 2, 2, 2
_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_STRIP_BYTES = 2**20
_LEVEL = 4  # takes a quarter of the time of level 6, and a tenth more bytes
_UNDEFINED = 7
_MOST_BYTES = 2**32 - 1


def encode_tiff(pixels: NDArray[np.uint8] | NDArray[np.uint16], metadata: Metadata) -> bytes:
    """A TIFF of [H, W, C] pixels, C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.

    It is compressed without loss (deflate). Raises ValueError if it would be longer than 4 GB.
    """
    height, width, channels = pixels.shape
    rows = max(1, _STRIP_BYTES // (width * channels * pixels.dtype.itemsize))
    strips = [_strip(pixels[top : top + rows]) for top in range(0, height, rows)]
    directory = ImageFileDirectory_v2(ifh=b"II*\x00\x08\x00\x00\x00")
    _add_metadata(directory, metadata)
    own: dict[int, Any] = {
        256: width,
        257: height,
        258: (8 * pixels.dtype.itemsize,) * channels,
        259: _DEFLATE,
        262: 1 if channels < 3 else 2,
        273: tuple(int(end) for end in np.cumsum([0, *map(len, strips[:-1])])),
        277: channels,
        278: rows,
        279: tuple(map(len, strips)),
        317: _HORIZONTAL,
    }
    if channels % 2 == 0:
        own[338] = _UNASSOCIATED
    for tag, value in own.items():
        directory[tag] = value
    directory.tagtype[273] = directory.tagtype[279] = 4  # 32 bits: 16, the default, are too few
    head = b"II*\x00\x08\x00\x00\x00" + directory.tobytes(8)  # also adds its length to tag 273
    if len(head) + sum(map(len, strips)) > _MOST_BYTES:
        raise ValueError("a TIFF holds at most 4 GB")
    return b"".join((head, *strips))


def _strip(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    rows = pixels.astype(pixels.dtype.newbyteorder("<"))
    rows[:, 1:] -= pixels[:, :-1]
    return zlib.compress(rows.tobytes(), _LEVEL)


def _add_metadata(directory: ImageFileDirectory_v2, metadata: Metadata) -> None:
    exif = parse_exif(metadata.exif)
    for tag, value in exif.items():
        if tag not in (_EXIF_IFD, _GPS_IFD):
            directory[tag] = value
    for tag in (_EXIF_IFD, _GPS_IFD):
        if folder := exif.get_ifd(tag):
            directory[tag] = dict(folder)
    if metadata.dpi is not None:
        directory[282], directory[283] = metadata.dpi
        directory[296] = _INCH
    for tag, block in ((700, metadata.xmp), (34377, metadata.photoshop), (34675, metadata.icc)):
        if block:
            directory.tagtype[tag] = _UNDEFINED
            directory[tag] = block
