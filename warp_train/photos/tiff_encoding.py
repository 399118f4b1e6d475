"""Encodes TIFFs of 8 or 16 bits with all metadata: Pillow cannot write 16-bit RGB.

The file starts with the photo's EXIF block, byte for byte: it is a TIFF structure itself. A new
first directory behind it describes the pixels and points to the block's EXIF and GPS directories.
So makers' notes, whose positions count from the start of the block, stay right.
"""

from __future__ import annotations

import zlib

import numpy as np

from warp_train.photos.exif_building import first_directory
from warp_train.photos.ifd import (
    BYTE,
    LONG,
    RATIONAL,
    SHORT,
    UNDEFINED,
    Block,
    Entry,
    directory_bytes,
    entry_of,
    packed,
)
from warp_train.photos.metadata import Metadata
from warp_train.photos.photoshop import iptc_of, is_only_iptc
from warp_train.photos.pixels import Pixels
from warp_train.photos.tiff_tags import ICC, IPTC, PHOTOSHOP, RESOLUTION, XMP

_DEFLATE, _HORIZONTAL, _INCH, _UNASSOCIATED = 8, 2, 2, 2
_STRIP_BYTES = 2**20
_LEVEL = 4  # takes a quarter of the time of level 6, and a tenth more bytes
_MOST_BYTES = 2**32 - 1
_PLAIN_HEADER = b"II*\x00\x00\x00\x00\x00"


def encode_tiff(pixels: Pixels, metadata: Metadata) -> tuple[bytes, list[str]]:
    """A TIFF of [H, W, C] pixels, C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.

    It is compressed without loss (deflate).

    Returns:
        The file, and warnings on tags that were left out.

    Raises:
        ValueError: it would be longer than 4 GB.
    """
    entries: list[Entry] = []
    lost: list[str] = []
    head, order = _PLAIN_HEADER, "<"
    if metadata.exif:
        block, entries, lost = first_directory(metadata.exif)
        head, order = _header(block), block.order
    head += bytes(len(head) % 2)
    strips = _strips(pixels, order)
    starts = np.cumsum([len(head), *(len(strip) + len(strip) % 2 for strip in strips)])
    if starts[-1] > _MOST_BYTES - 2**20:
        raise ValueError("a TIFF holds at most 4 GB")
    entries = [*entries, *_layout(pixels, order, strips, starts[:-1].tolist())]
    entries += _blocks(metadata, order, {entry.tag for entry in entries})
    at = int(starts[-1])
    directory = directory_bytes(order, entries, at)
    first = at.to_bytes(4, "little" if order == "<" else "big")
    padded = (strip + b"\0" * (len(strip) % 2) for strip in strips)
    return b"".join((head[:4], first, head[8:], *padded, directory)), lost


def _header(block: Block) -> bytes:
    if block.big:
        raise ValueError("an EXIF block in a BigTIFF structure")
    return block.data


def _strips(pixels: Pixels, order: str) -> list[bytes]:
    rows = _rows(pixels)
    return [_strip(pixels[top : top + rows], order) for top in range(0, len(pixels), rows)]


def _rows(pixels: Pixels) -> int:
    """Rows of a strip."""
    row: int = pixels.shape[1] * pixels.shape[2] * pixels.dtype.itemsize
    return max(1, _STRIP_BYTES // row)


def _strip(pixels: Pixels, order: str) -> bytes:
    rows = pixels.astype(pixels.dtype.newbyteorder("<" if order == "<" else ">"))
    rows[:, 1:] -= pixels[:, :-1]
    return zlib.compress(rows.tobytes(), _LEVEL)


def _layout(pixels: Pixels, order: str, strips: list[bytes], starts: list[int]) -> list[Entry]:
    """The tags that describe how the pixels are stored."""
    height, width, channels = pixels.shape
    entries = [
        entry_of(order, 256, LONG, width),
        entry_of(order, 257, LONG, height),
        entry_of(order, 258, SHORT, *(8 * pixels.dtype.itemsize,) * channels),
        entry_of(order, 259, SHORT, _DEFLATE),
        entry_of(order, 262, SHORT, 1 if channels < 3 else 2),
        entry_of(order, 273, LONG, *starts),
        entry_of(order, 274, SHORT, 1),
        entry_of(order, 277, SHORT, channels),
        entry_of(order, 278, LONG, _rows(pixels)),
        entry_of(order, 279, LONG, *map(len, strips)),
        entry_of(order, 284, SHORT, 1),
        entry_of(order, 317, SHORT, _HORIZONTAL),
    ]
    return entries + ([entry_of(order, 338, SHORT, _UNASSOCIATED)] if channels % 2 == 0 else [])


def _blocks(metadata: Metadata, order: str, present: set[int]) -> list[Entry]:
    """Resolution, XMP, captions and the colour profile."""
    entries: list[Entry] = []
    if metadata.dpi is not None and not present & set(RESOLUTION[:2]):
        for tag, value in zip(RESOLUTION, metadata.dpi, strict=False):
            ratio = packed(order, LONG, (round(value * 1000), 1000))
            entries.append(Entry(tag, RATIONAL, 1, ratio, 0))
        if RESOLUTION[2] not in present:
            entries.append(entry_of(order, RESOLUTION[2], SHORT, _INCH))
    photoshop = b"" if is_only_iptc(metadata.photoshop) else metadata.photoshop
    for tag, kind, block in (
        (XMP, BYTE, metadata.xmp),
        (IPTC, UNDEFINED, iptc_of(metadata.photoshop)),
        (PHOTOSHOP, BYTE, photoshop),
        (ICC, UNDEFINED, metadata.icc),
    ):
        if block:
            entries.append(Entry(tag, kind, len(block), block, 0))
    return entries
