"""Photoshop's image resources (8BIM), which hold captions and rights (IPTC) among other things."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

HEADER = b"Photoshop 3.0\x00"
"""Precedes the resources in a JPEG segment."""
_IPTC, _THUMBNAIL, _OLD_THUMBNAIL = 0x0404, 0x040C, 0x0409
_PATHS = range(2000, 2998)
_COPIES = frozenset((1058, 1059, 1060))
"""Copies of the EXIF and the XMP, which the file has in full."""
_OF_THE_PICTURE = frozenset((_THUMBNAIL, _OLD_THUMBNAIL, *_PATHS)) | _COPIES
_JPEG_FORMAT = 1


def resources(block: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """(number, name, data) of each image resource. Raises ValueError if the block is damaged."""
    at = 0
    while at < len(block):
        if block[at : at + 1] == b"\0":  # padding
            at += 1
            continue
        if block[at : at + 4] not in (b"8BIM", b"MeSa", b"AgHg", b"PHUT", b"DCSR"):
            raise ValueError("damaged Photoshop resources")
        try:
            (number,) = struct.unpack_from(">H", block, at + 4)
            start = at + 6
            named = (block[start] + 2) // 2 * 2
            name = block[start : start + named]
            (length,) = struct.unpack_from(">I", block, start + named)
        except (struct.error, IndexError):
            raise ValueError("damaged Photoshop resources") from None
        data_at = start + named + 4
        data = block[data_at : data_at + length]
        if len(data) != length:
            raise ValueError("damaged Photoshop resources")
        yield number, block[at : at + 4] + name, data
        at = data_at + length + length % 2


def wrapped_iptc(iptc: bytes) -> bytes:
    """IPTC records as the image resource that holds them; resources are returned as they are."""
    return _resource(_IPTC, b"8BIM\0\0", iptc) if iptc.startswith(b"\x1c") else iptc


def with_iptc(block: bytes, iptc: bytes) -> tuple[bytes, list[str]]:
    """The resources with the IPTC records that are stored beside them, and a warning on lost ones.

    A TIFF may have both. Its own records are the current ones for most programs.
    """
    if not iptc:
        return block, []
    try:
        listed = list(resources(block))
    except ValueError:
        return wrapped_iptc(iptc), ["its Photoshop resources are damaged and were left out"]
    old = {data.rstrip(b"\0") for number, _, data in listed if number == _IPTC}
    others = b"".join(_resource(*one) for one in listed if one[0] != _IPTC)
    differs = bool(old - {iptc.rstrip(b"\0")})
    lost = ["a second block of IPTC captions was left out: a file has one"] if differs else []
    return wrapped_iptc(iptc) + others, lost


def is_only_iptc(block: bytes) -> bool:
    """Whether the resources hold captions and nothing else."""
    try:
        return {number for number, _, _ in resources(block)} == {_IPTC}
    except ValueError:
        return False


def iptc_of(block: bytes) -> bytes:
    """The IPTC records in the resources; empty if there are none or the block is damaged."""
    try:
        return next((data for number, _, data in resources(block) if number == _IPTC), b"")
    except ValueError:
        return b""


def updated_resources(
    block: bytes, thumbnail: Callable[[int], tuple[bytes, int, int]]
) -> tuple[bytes, list[str]]:
    """The resources for a new picture, and warnings on what was left out.

    Args:
        block: the resources; a block that cannot be read is returned as it is.
        thumbnail: returns a JPEG whose long side is at most that many pixels, its width and height.
    """
    try:
        listed = list(resources(block))
    except ValueError:
        return block, ["its Photoshop resources are damaged: they were kept as they are"]
    numbers = {number for number, _, _ in listed}
    if not numbers & _OF_THE_PICTURE:
        return block, []
    new = b"".join(_resource(*one) for one in listed if one[0] not in _OF_THE_PICTURE)
    if numbers & {_THUMBNAIL, _OLD_THUMBNAIL}:
        jpeg, width, height = thumbnail(160)
        row = (3 * width + 3) // 4 * 4
        sizes = (_JPEG_FORMAT, width, height, row, row * height, len(jpeg))
        new += _resource(_THUMBNAIL, b"8BIM\0\0", struct.pack(">6IHH", *sizes, 24, 1) + jpeg)
    paths = bool(numbers & set(_PATHS))
    return new, ["its Photoshop paths were left out: they fit the old pixels"] if paths else []


def _resource(number: int, name: bytes, data: bytes) -> bytes:
    mark, pascal = name[:4], name[4:]
    head = mark + struct.pack(">H", number) + pascal + struct.pack(">I", len(data))
    return head + data + b"\0" * (len(data) % 2)
