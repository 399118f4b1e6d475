"""The size of the picture in a photo file, from its headers: nothing is decoded."""

from __future__ import annotations

import struct
from collections.abc import Callable

from warp_train.photos.decoding import kind_of
from warp_train.photos.formats import Kind
from warp_train.photos.heif import heif_size
from warp_train.photos.ifd import open_block
from warp_train.photos.jpeg_segments import frame_header, jpeg_parts
from warp_train.photos.webp_chunks import webp_chunks

_WIDTH, _HEIGHT = 256, 257  # tags of TIFF
_OLD_BMP = 12
"""Bytes of the first header of BMP, which holds sizes in 16 bits."""


def picture_size(data: bytes) -> tuple[int, int]:
    """(width, height) of the pixels that `decode` finds in a file of any format that it reads.

    Raises:
        ValueError: the format is unknown, or the headers are damaged.
    """
    kind = kind_of(data)
    if kind is None:
        raise ValueError("not a photo of a known format")
    try:
        return _READERS[kind](data)
    except (struct.error, IndexError) as error:
        raise ValueError("truncated") from error


def _jpeg_size(data: bytes) -> tuple[int, int]:
    frame = frame_header(jpeg_parts(data))
    return frame.width, frame.height


def _png_size(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _tiff_size(data: bytes) -> tuple[int, int]:
    block = open_block(data)
    first = block.directory(block.first)
    width, height = (block.number(first, tag) for tag in (_WIDTH, _HEIGHT))
    if not width or not height:
        raise ValueError("damaged (its size is missing)")
    return width, height


def _webp_size(data: bytes) -> tuple[int, int]:
    """RFC 9649, section 2.7.1; RFC 6386, section 9.1; and section 3.4 of the former."""
    kind, content = next(webp_chunks(data), (b"", b""))
    if kind == b"VP8X":
        width, height = (int.from_bytes(content[at : at + 3], "little") + 1 for at in (4, 7))
        return width, height
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", content, 1)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", content, 6)
    return width & 0x3FFF, height & 0x3FFF


def _bmp_size(data: bytes) -> tuple[int, int]:
    (header,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header == _OLD_BMP else "<ii", data, 18)
    return width, abs(height)  # below 0: stored from the top


_READERS: dict[Kind, Callable[[bytes], tuple[int, int]]] = {
    "jpeg": _jpeg_size,
    "png": _png_size,
    "tiff": _tiff_size,
    "webp": _webp_size,
    "bmp": _bmp_size,
    "heic": heif_size,
    "avif": heif_size,
}
