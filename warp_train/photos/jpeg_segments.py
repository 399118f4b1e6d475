"""The parts of a JPEG file: its segments, and the data behind the picture (ITU-T T.81, annex B)."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

SOI, EOI, SOS, COM = 0xD8, 0xD9, 0xDA, 0xFE
APP0, APP1, APP2, APP11, APP13, APP14 = 0xE0, 0xE1, 0xE2, 0xEB, 0xED, 0xEE
FRAMES = frozenset((*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)))
"""Markers of the frame header, one for each way of coding."""
LONGEST = 65533
"""Largest content of a segment, in bytes."""
_BARE = frozenset((0x01, *range(0xD0, 0xD8)))  # TEM and RST: markers without a length
_AFTER_SCAN = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7\x01]")


@dataclass(frozen=True)
class Segment:
    """A marker segment, without its marker and length."""

    marker: int
    content: bytes


@dataclass(frozen=True)
class JpegParts:
    """One JPEG picture."""

    segments: tuple[Segment, ...]
    """All segments up to the end marker, those between scans included."""
    scan: int
    """Position of the marker of the first scan; of the end marker if there is none."""
    end: int
    """Position behind the end marker."""

    def starting(self, marker: int, header: bytes) -> list[bytes]:
        """The contents, behind the header, of the segments of a marker that start with it."""
        return [
            segment.content[len(header) :]
            for segment in self.segments
            if segment.marker == marker and segment.content.startswith(header)
        ]


def jpeg_parts(data: bytes, at: int = 0) -> JpegParts:
    """The segments of the JPEG picture that starts at `at`.

    Any number of fill bytes (0xFF) may precede a marker. Raises ValueError if the picture has no
    end marker or is not a JPEG.
    """
    if data[at : at + 2] != b"\xff\xd8":
        raise ValueError("not a JPEG")
    at += 2
    segments: list[Segment] = []
    scan = 0
    while True:
        if data[at : at + 1] != b"\xff":
            found = _AFTER_SCAN.search(data, at)  # decoders pass over bytes between segments
            if found is None:
                raise ValueError("truncated")
            at = found.start()
        while data[at : at + 1] == b"\xff":
            at += 1
        if at >= len(data):
            raise ValueError("truncated")
        marker = data[at]
        at += 1
        if marker in (SOS, EOI):
            scan = scan or at - 2
        if marker == EOI:
            return JpegParts(tuple(segments), scan, at)
        if marker in _BARE or marker == 0:
            continue
        if at + 2 > len(data):
            raise ValueError("truncated")
        (length,) = struct.unpack_from(">H", data, at)
        if length < 2:
            raise ValueError("damaged (a segment has no length)")
        segments.append(Segment(marker, data[at + 2 : at + length]))
        at += length
        if marker == SOS:
            found = _AFTER_SCAN.search(data, at)
            if found is None:
                raise ValueError("truncated")
            at = found.start()


def segment_bytes(marker: int, content: bytes) -> bytes:
    """A segment with its marker and length. Raises ValueError if the content is too long."""
    if len(content) > LONGEST:
        raise ValueError(f"a JPEG segment holds at most {LONGEST} bytes")
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def frame_header(parts: JpegParts) -> tuple[int, tuple[tuple[int, int, int], ...]]:
    """(bits a sample, components) of the frame, a component as (id, sampling, table's number).

    Raises ValueError if the frame header is missing or damaged.
    """
    for segment in parts.segments:
        content = segment.content
        if segment.marker in FRAMES and len(content) >= 6 and len(content) >= 6 + 3 * content[5]:
            triples = (content[6 + 3 * n : 9 + 3 * n] for n in range(content[5]))
            return content[0], tuple((a, b, c) for a, b, c in triples)
    raise ValueError("damaged (it has no frame header)")


def frame_size(parts: JpegParts) -> tuple[int, int]:
    """(width, height) of the picture. Raises ValueError if the frame header is missing."""
    for segment in parts.segments:
        if segment.marker in FRAMES and len(segment.content) >= 5:
            height, width = struct.unpack_from(">HH", segment.content, 1)
            return width, height
    raise ValueError("damaged (it has no frame header)")


def quantisation_tables(parts: JpegParts) -> dict[int, list[int]]:
    """The quantisation tables by number, 64 values each in zigzag order. The last one counts."""
    tables: dict[int, list[int]] = {}
    for segment in parts.segments:
        content = segment.content if segment.marker == 0xDB else b""
        while content:
            wide, number = content[0] >> 4, content[0] & 15
            size = 128 if wide else 64
            if len(content) <= size:
                break
            tables[number] = list(struct.unpack_from(">64H" if wide else ">64B", content, 1))
            content = content[1 + size :]
    return tables
