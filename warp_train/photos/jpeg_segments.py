"""The parts of a JPEG file: its segments, and the data behind the picture (ITU-T T.81, annex B)."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

DHT, SOI, EOI, SOS, DQT, DNL, DRI, DAC = 0xC4, 0xD8, 0xD9, 0xDA, 0xDB, 0xDC, 0xDD, 0xCC
COM = 0xFE
APP0, APP1, APP2, APP11, APP13, APP14 = 0xE0, 0xE1, 0xE2, 0xEB, 0xED, 0xEE
FRAMES = frozenset((*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)))
"""Markers of the frame header, one for each way of coding."""
LONGEST = 65533
"""Largest content of a segment, in bytes."""
_JPEG_LS = 0xF7
_BARE = frozenset((0x01, *range(0xD0, 0xD8)))  # TEM and RST: markers without a length
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7\x01]")  # with \xff+, 30 times slower


@dataclass(frozen=True)
class Segment:
    """A marker segment, without its marker and length."""

    marker: int
    content: bytes


@dataclass(frozen=True)
class Scan:
    """The coded data of a scan, without its header."""

    number: int
    """Of its header among the segments."""
    start: int
    """Position of the first byte; `end` is that behind the last one."""
    end: int


@dataclass(frozen=True)
class JpegParts:
    """One JPEG picture."""

    segments: tuple[Segment, ...]
    """All segments up to the end marker, those between scans included."""
    end: int
    """Position behind the end marker."""
    scans: tuple[Scan, ...]


def jpeg_parts(data: bytes, at: int = 0) -> JpegParts:
    """The segments of the JPEG picture that starts at `at`.

    Any number of fill bytes (0xFF) may precede a marker. Raises ValueError if the picture has no
    end marker or is not a JPEG.
    """
    if data[at : at + 2] != b"\xff\xd8":
        raise ValueError("not a JPEG")
    at += 2
    segments: list[Segment] = []
    scans: list[Scan] = []
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
        if marker == EOI:
            return JpegParts(tuple(segments), at, tuple(scans))
        if marker in _BARE or marker == 0:
            continue
        if at + 2 > len(data):
            raise ValueError("truncated")
        (length,) = struct.unpack_from(">H", data, at)
        if length < 2:
            raise ValueError("damaged (a segment has no length)")
        if marker == _JPEG_LS:
            raise ValueError("a JPEG-LS file: convert it to JPEG, PNG or TIFF first")
        segments.append(Segment(marker, data[at + 2 : at + length]))
        at += length
        if marker == SOS:
            found = _AFTER_SCAN.search(data, at)
            if found is None:
                raise ValueError("truncated")
            scans.append(Scan(len(segments) - 1, at, found.start()))
            at = found.start()


def segment_bytes(marker: int, content: bytes) -> bytes:
    """A segment with its marker and length. Raises ValueError if the content is too long."""
    if len(content) > LONGEST:
        raise ValueError(f"a JPEG segment holds at most {LONGEST} bytes")
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


@dataclass(frozen=True)
class Frame:
    """The frame header of a JPEG."""

    marker: int
    """Names the way of coding."""
    bits: int
    """Of a sample."""
    height: int
    width: int
    components: tuple[tuple[int, int, int], ...]
    """Each as (id, sampling, number of its quantisation table)."""

    @property
    def is_progressive(self) -> bool:
        return self.marker in (0xC2, 0xCA)

    @property
    def is_lossless(self) -> bool:
        return self.marker in (0xC3, 0xCB)

    @property
    def is_arithmetic(self) -> bool:
        return self.marker in (0xC9, 0xCA, 0xCB)


def frame_header(parts: JpegParts) -> Frame:
    """The frame of the picture. Raises ValueError if its header is missing or damaged."""
    for segment in parts.segments:
        content = segment.content
        if segment.marker in FRAMES and len(content) >= 6 and len(content) >= 6 + 3 * content[5]:
            bits, height, width, count = struct.unpack_from(">BHHB", content)
            triples = (content[6 + 3 * n : 9 + 3 * n] for n in range(count))
            components = tuple((a, b, c) for a, b, c in triples)
            height = height or _height_behind(parts)
            return Frame(segment.marker, bits, height, width, components)
    raise ValueError("damaged (it has no frame header)")


def _height_behind(parts: JpegParts) -> int:
    """The height that some cameras write behind the first scan only."""
    found = next((one.content for one in parts.segments if one.marker == DNL), b"")
    return int.from_bytes(found[:2], "big")


def quantisation_tables(parts: JpegParts) -> dict[int, list[int]]:
    """The quantisation tables by number, 64 values each in zigzag order. The last one counts."""
    tables: dict[int, list[int]] = {}
    for segment in parts.segments:
        content = segment.content if segment.marker == DQT else b""
        while content:
            wide, number = content[0] >> 4, content[0] & 15
            size = 128 if wide else 64
            if len(content) <= size:
                break
            tables[number] = list(struct.unpack_from(">64H" if wide else ">64B", content, 1))
            content = content[1 + size :]
    return tables
