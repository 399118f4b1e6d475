"""The chunks of a WebP file (RFC 9649, section 2.7)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

_ZEROS = 512
"""Zero bytes in a row that a lossy picture has only if it has huge areas of one colour."""
_PICTURE = (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF")


def webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, data) of each chunk. Raises ValueError if the file is cut off."""
    at, end = 12, min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    while at + 8 <= end:
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        content = data[at + 8 : at + 8 + size]
        if len(content) < size:
            raise ValueError("truncated")
        yield kind, content
        at += 8 + size + size % 2


def is_lossless(data: bytes) -> bool:
    """Whether the picture is compressed without loss."""
    return any(kind == b"VP8L" for kind, _ in webp_chunks(data))


def webp_metadata(data: bytes) -> tuple[dict[str, bytes], list[tuple[bytes, bytes]], list[str]]:
    """The blocks `exif`, `icc` and `xmp`, other chunks to keep, and warnings on lost ones."""
    fields = {b"ICCP": "icc", b"EXIF": "exif", b"XMP ": "xmp", b"XMP\0": "xmp"}
    blocks: dict[str, bytes] = {}
    others: list[tuple[bytes, bytes]] = []
    lost: list[str] = []
    for kind, content in webp_chunks(data):
        if kind == b"VP8 " and bytes(_ZEROS) in content:
            lost.append("a part of its data are zeros: it may be damaged")
        if kind in fields:
            blocks.setdefault(fields[kind], content.removeprefix(b"Exif\x00\x00"))
        elif kind == b"C2PA":
            lost.append("its content credentials (C2PA) were left out: they sign the old pixels")
        elif kind not in _PICTURE:
            others.append((kind, content))
    end = 8 + int.from_bytes(data[4:8], "little")
    if data[end:].strip(b"\0"):
        lost.append(f"{len(data) - end} bytes behind the picture were left out")
    return blocks, others, lost


def with_chunks(data: bytes, chunks: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """A WebP with further chunks at its end, which every reader passes over (section 2.7.1.6)."""
    for kind, content in chunks:
        data += kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]
