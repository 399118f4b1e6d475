"""Previews of the photo that camera makers store as JPEGs in their notes."""

from __future__ import annotations

import struct
from collections.abc import Callable

from warp_train.photos.jpeg_segments import FRAMES, jpeg_parts

_START = b"\xff\xd8\xff"
_SMALLEST = 16


def replace_previews(
    data: bytearray, start: int, end: int, thumbnail: Callable[[int], tuple[bytes, int, int]]
) -> None:
    """Replaces the JPEGs between two positions by ones of the new pixels, without moving anything.

    One that is not shorter than its room, even at a small size, is replaced by zeros.

    Args:
        data: changed in place.
        start: position of the first byte.
        end: position behind the last byte.
        thumbnail: returns a JPEG whose long side is at most that many pixels, and its size.
    """
    at = data.find(_START, start, end)
    while at >= 0:
        room, side = _jpeg_at(bytes(data[at:end]))
        new = b""
        while side >= _SMALLEST and not 0 < len(new) <= room:
            new, side = thumbnail(side)[0], side // 2
        if room:
            data[at : at + room] = (new if len(new) <= room else b"").ljust(room, b"\0")
        at = data.find(_START, at + max(room, 2), end)


def _jpeg_at(data: bytes) -> tuple[int, int]:
    """The length of the JPEG at the start of the data, and its long side; zeros for none."""
    try:
        parts = jpeg_parts(data)
    except ValueError:
        return 0, 0
    for segment in parts.segments:
        if segment.marker in FRAMES and len(segment.content) >= 6:
            return parts.end, max(struct.unpack_from(">HH", segment.content, 1))
    return 0, 0
