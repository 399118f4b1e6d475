"""Encodes JPEGs with their metadata, and with what follows the picture: gain maps and videos."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from PIL import Image as Pillow

from warp_train.photos.claims import remove_claims
from warp_train.photos.exif import EXIF_HEADER
from warp_train.photos.extended_xmp import split_xmp
from warp_train.photos.jpeg_metadata import (
    EXTENDED_HEADER,
    ICC_HEADER,
    MPF_HEADER,
    XMP_HEADER,
)
from warp_train.photos.jpeg_pixels import JpegCoding
from warp_train.photos.jpeg_segments import (
    APP1,
    APP2,
    APP13,
    COM,
    LONGEST,
    Segment,
    segment_bytes,
)
from warp_train.photos.metadata import Metadata
from warp_train.photos.photoshop import HEADER as PHOTOSHOP_HEADER
from warp_train.photos.pixels import Pixels
from warp_train.photos.xmp import Packet, places_in

_MPF_VERSION, _MPF_COUNT, _MPF_ENTRIES = 0xB000, 0xB001, 0xB002
_PRIMARY = 0x030000  # "baseline MP primary image" (CIPA DC-007, table 4)


def encode_jpeg(
    pixels: Pixels, metadata: Metadata, coding: JpegCoding | None, quality: int | None
) -> tuple[bytes, list[str]]:
    """A JPEG of 8-bit grey or RGB pixels, and warnings on what was left out.

    Args:
        pixels: [H, W, 1 or 3] uint8.
        metadata: written as they are, the appended parts included.
        coding: how the photo was compressed; its tables are used again if `quality` is None.
        quality: 1..100; None: that of the photo, or 95.
    """
    lost: list[str] = []
    plain = _compressed(pixels, metadata, coding, quality)
    (first,) = struct.unpack_from(">H", plain, 4)  # length of the JFIF segment
    head, picture = plain[: 4 + first], plain[4 + first :]
    segments = b"".join(
        segment_bytes(segment.marker, segment.content) for segment in _segments(metadata, lost)
    )
    following = [one.data for one in metadata.appended]
    pictures = [one.data for one in metadata.appended if one.kind != "data"]
    if metadata.has_index and pictures:
        segments += _index(len(head) + len(segments), len(picture), pictures)
    return b"".join((head, segments, picture, *following)), lost


def _compressed(
    pixels: Pixels, metadata: Metadata, coding: JpegCoding | None, quality: int | None
) -> bytes:
    options: dict[str, Any] = {"quality": quality or 95, "subsampling": 0}
    if coding is not None and coding.sampling in (0, 1, 2):
        options["subsampling"] = coding.sampling
    if coding is not None:
        options["progressive"] = coding.progressive
    if coding is not None and quality is None and coding.tables:
        del options["quality"]
        options["qtables"] = coding.tables[: pixels.shape[2]]
    if metadata.dpi is not None:
        options["dpi"] = tuple(min(round(value), 65535) for value in metadata.dpi)
    file = io.BytesIO()
    _as_pillow(pixels).save(file, "JPEG", **options)
    return file.getvalue()


def _as_pillow(pixels: Pixels) -> Pillow.Image:
    """A Pillow image of the pixels.

    Pillow stores RGB in four bytes a pixel and saves a JPEG directly from them. OpenCV adds the
    fourth byte in a fraction of Pillow's time.
    """
    if pixels.shape[2] == 1:
        return Pillow.fromarray(np.ascontiguousarray(pixels[..., 0]))
    spread = cv2.cvtColor(pixels, cv2.COLOR_RGB2RGBA)
    size = (pixels.shape[1], pixels.shape[0])
    return Pillow.frombuffer("RGBX", size, spread, "raw", "RGBX", 0, 1)


def _segments(metadata: Metadata, lost: list[str]) -> Iterator[Segment]:
    """The metadata as segments; blocks that are too long are reported in `lost`."""
    room = LONGEST - len(EXIF_HEADER)
    for at in range(0, len(metadata.exif), room):  # a long block goes on in further segments
        yield Segment(APP1, EXIF_HEADER + metadata.exif[at : at + room])
    if len(metadata.exif) > room:
        lost.append("its EXIF takes several segments of a JPEG: few programs read all of it")
    yield from _xmp_segments(metadata.xmp, lost)
    if len(metadata.comment) > LONGEST:
        lost.append("its comment was left out: it is too long for a JPEG file")
    elif metadata.comment:
        yield Segment(COM, metadata.comment)
    for header, marker, block in (
        (PHOTOSHOP_HEADER, APP13, metadata.photoshop),
        (ICC_HEADER, APP2, metadata.icc),
    ):
        room = LONGEST - len(header) - 2
        pieces = [block[at : at + room] for at in range(0, len(block), room)]
        if marker == APP2 and len(pieces) > 255:
            lost.append("its colour profile was left out: it is too long for a JPEG file")
            continue
        for number, piece in enumerate(pieces, 1):
            place = bytes((number, len(pieces))) if marker == APP2 else b""
            yield Segment(marker, header + place + piece)
    yield from metadata.gain_map_marks
    yield from metadata.jpeg_segments


def _xmp_segments(xmp: bytes, lost: list[str]) -> Iterator[Segment]:
    try:
        main, parts = split_xmp(xmp, LONGEST - len(XMP_HEADER))
    except ValueError:
        lost.append("its XMP was left out: it is too long for a JPEG file, and damaged")
        return
    if main:
        yield Segment(APP1, XMP_HEADER + main)
    for part in parts:
        yield Segment(APP1, EXTENDED_HEADER + part)


def _index(before: int, after: int, pictures: Sequence[bytes]) -> bytes:
    """The segment that lists the pictures of the file (CIPA DC-007, section 5.2).

    Args:
        before: bytes of the file in front of the segment.
        after: bytes of the first picture behind the segment.
        pictures: those behind the first one, without gaps between them.
    """
    count = len(pictures) + 1
    entries_at = 8 + 2 + 3 * 12 + 4
    directory = struct.pack(">2sHIH", b"MM", 42, 8, 3)
    directory += struct.pack(">HHI4s", _MPF_VERSION, 7, 4, b"0100")
    directory += struct.pack(">HHII", _MPF_COUNT, 4, 1, count)
    directory += struct.pack(">HHII", _MPF_ENTRIES, 7, 16 * count, entries_at) + bytes(4)
    total = 4 + len(MPF_HEADER) + entries_at + 16 * count
    first = before + total + after
    entries = struct.pack(">IIIHH", _PRIMARY, first, 0, 0, 0)
    at = first - (before + 4 + len(MPF_HEADER))  # positions count from the byte order mark
    for picture in pictures:
        entries += struct.pack(">IIIHH", 0, len(picture), at, 0, 0)
        at += len(picture)
    return segment_bytes(APP2, MPF_HEADER + directory + entries)


def with_lengths(metadata: Metadata) -> Metadata:
    """The XMP's list of the parts of the file, with the lengths that they have now.

    Items of parts that are not in the file are removed, and so are other claims of them.
    """
    try:
        packet = Packet(metadata.xmp) if metadata.xmp else None
    except ValueError:
        return metadata
    if packet is None:
        return metadata
    maps = [one for one in metadata.appended if one.kind == "gain_map"]
    follows = metadata.appended[0].kind if metadata.appended else "data"
    for item in packet.elements("Container:Item"):
        meaning = _item_value(item, "Item:Semantic")
        if meaning == "GainMap" and maps:
            _set_item_value(item, "Item:Length", str(len(maps[0].data)))
        elif meaning == "Primary" and follows != "data":  # the pictures are written without gaps
            _set_item_value(item, "Item:Padding", "0")
        elif meaning not in ("Primary", "MotionPhoto") and "image" in _item_value(
            item, "Item:Mime"
        ):
            listed = item.getparent()
            directory = None if listed is None else listed.getparent()
            if directory is not None:
                directory.remove(listed)
    if not maps:
        packet.remove_namespace("hdrgm")
    if not metadata.appended:
        remove_claims(packet)
    return replace(metadata, xmp=b"" if packet.is_empty else bytes(packet))


def _item_value(item: Any, short: str) -> str:
    """The text of an item's property; empty if it is missing."""
    return next((place.text for place in places_in(item, short)), "")


def _set_item_value(item: Any, short: str, value: str) -> None:
    """Sets an item's property where it is."""
    for place in places_in(item, short):
        place.text = value
