"""The metadata of a photo file, and its update for pixels that were rotated upright."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from PIL import ExifTags
from PIL import Image as Pillow

_EXIF_HEADER = b"Exif\x00\x00"
_ORIENTATION, _EXIF_IFD, _NEXT_IFD = 0x0112, 0x8769, 0x0000
_XMP, _PHOTOSHOP, _ICC = 700, 34377, 34675
_SHORT, _LONG = 3, 4

_TIFF_STRUCTURE = frozenset(
    (
        *(*range(254, 267), 273, *range(277, 282), *range(288, 293), 317, 320, *range(322, 326)),
        *(330, 332, 334, *range(336, 348), *range(512, 522), *range(529, 533)),
        *(_ORIENTATION, _XMP, _PHOTOSHOP, _ICC),
    )
)
"""TIFF tags that describe the file's own pixels, or that `Metadata` has other fields for."""

_COLOUR_CHUNKS = (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI")
_TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt", b"tIME")
XMP_KEYWORD = b"XML:com.adobe.xmp"
"""The keyword of the PNG text chunk that contains XMP."""
XMP_HEADER = b"http://ns.adobe.com/xap/1.0/\x00"
PHOTOSHOP_HEADER = b"Photoshop 3.0\x00"
"""Both headers start the JPEG segments that contain these blocks."""


@dataclass(frozen=True)
class Metadata:
    """Metadata blocks of a file, byte for byte where its format allows; empty if missing."""

    exif: bytes = b""
    """A TIFF structure, without the `Exif` header that precedes it in some formats."""
    icc: bytes = b""
    xmp: bytes = b""
    photoshop: bytes = b""
    """Photoshop's image resources, which contain captions and rights (IPTC)."""
    comment: bytes = b""
    """The comment of a JPEG."""
    dpi: tuple[float, float] | None = None
    """Horizontal and vertical resolution, in pixels per inch."""
    png_chunks: tuple[tuple[bytes, bytes], ...] = ()
    """(type, data) of a PNG's colour and text chunks."""


def read_metadata(image: Pillow.Image, data: bytes) -> tuple[Metadata, list[str]]:
    """The metadata of an open image file with the bytes `data`, and warnings on damaged blocks."""
    info, damaged = image.info, []
    try:
        exif = _read_exif(image)
    except Exception:  # Pillow's parser raises anything from struct.error to SyntaxError
        exif = b""
        damaged.append("its EXIF block is damaged and was left out")
    resources, xmp = b"", _bytes(info.get("xmp"))
    for name, segment in getattr(image, "applist", ()):
        if name == "APP13" and segment.startswith(PHOTOSHOP_HEADER):
            resources += segment.removeprefix(PHOTOSHOP_HEADER)
        elif name == "APP1" and segment.startswith(XMP_HEADER):
            xmp = segment.removeprefix(XMP_HEADER)
    tags = getattr(image, "tag_v2", {})
    return Metadata(
        exif=exif,
        icc=_bytes(info.get("icc_profile")),
        xmp=xmp or _bytes(tags.get(_XMP) or info.get("XML:com.adobe.xmp")),
        photoshop=resources or _bytes(tags.get(_PHOTOSHOP)),
        comment=_bytes(info.get("comment")),
        dpi=_dpi(info.get("dpi")),
        png_chunks=_kept_chunks(data) if image.format == "PNG" else (),
    ), damaged


def orientation_of(image: Pillow.Image) -> int:
    """EXIF orientation of the stored pixels, 1..8; 1 (upright) if it is missing or invalid.

    Pillow rotates some TIFFs while it loads them, and then removes the tag.
    """
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def made_upright(metadata: Metadata, height: int, width: int) -> tuple[Metadata, list[str]]:
    """The metadata for upright pixels of this size, and warnings on what was left out.

    The EXIF block is changed in place: makers' notes contain offsets into it, which would be wrong
    in a rewritten block. Its thumbnail, which shows the uncorrected photo, is unlinked.
    """
    xmp = re.sub(rb'(tiff:Orientation(?:="|>))\d', rb"\g<1>1", metadata.xmp)
    try:
        exif = _patched_exif(metadata.exif, height, width) if metadata.exif else b""
    except (struct.error, KeyError, IndexError):
        return replace(metadata, exif=b"", xmp=xmp), ["its EXIF block is damaged and was left out"]
    return replace(metadata, exif=exif, xmp=xmp), []


def parse_exif(exif: bytes) -> Any:
    """The tags of an EXIF block, as Pillow's mapping from tag to value."""
    tags = Pillow.Exif()
    if exif:
        tags.load(_EXIF_HEADER + exif)
    return tags


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, data) of each chunk of a PNG. Raises ValueError if the data are cut off or damaged."""
    at, kind = 8, b""
    while kind != b"IEND":
        try:
            length, kind = struct.unpack_from(">I4s", data, at)
            (checksum,) = struct.unpack_from(">I", data, at + 8 + length)
        except struct.error:
            raise ValueError("truncated") from None
        content = data[at + 8 : at + 8 + length]
        if zlib.crc32(content, zlib.crc32(kind)) != checksum:
            raise ValueError(f"damaged ({kind.decode('latin-1')} has a wrong checksum)")
        yield kind, content
        at += 12 + length


def bare_png(data: bytes) -> bytes:
    """The PNG without its metadata: OpenCV prints warnings about colour profiles."""
    pieces, at = [data[:8]], 8
    for kind, content in png_chunks(data):
        end = at + 12 + len(content)
        if kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            pieces.append(data[at:end])
        at = end
    return b"".join(pieces)


def _read_exif(image: Pillow.Image) -> bytes:
    raw = _bytes(image.info.get("exif")).removeprefix(_EXIF_HEADER)
    if raw and image.format != "TIFF":
        return raw
    found, kept = image.getexif(), Pillow.Exif()  # a copy: Pillow decodes the pixels by `found`
    for tag in set(found) - _TIFF_STRUCTURE:
        kept[tag] = found[tag]
    for place in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        if folder := found.get_ifd(place):
            kept[place] = dict(folder)
    return kept.tobytes().removeprefix(_EXIF_HEADER) if len(kept) else b""


def _patched_exif(exif: bytes, height: int, width: int) -> bytes:
    block = bytearray(exif)
    order = {b"II": "<", b"MM": ">"}[exif[:2]]
    (first,) = struct.unpack_from(order + "I", block, 4)
    values = {_ORIENTATION: 1, 0x0100: width, 0x0101: height, 0xA002: width, 0xA003: height}
    folders = [first]
    for folder in folders:
        (count,) = struct.unpack_from(order + "H", block, folder)
        for at in range(folder + 2, folder + 2 + 12 * count, 12):
            tag, kind, _, value = struct.unpack_from(order + "HHII", block, at)
            if tag == _EXIF_IFD and folder == first:
                folders.append(value)
            elif tag in values and kind in (_SHORT, _LONG):
                code = order + ("H" if kind == _SHORT else "I")
                struct.pack_into(code, block, at + 8, values[tag])
    (count,) = struct.unpack_from(order + "H", block, first)
    struct.pack_into(order + "I", block, first + 2 + 12 * count, _NEXT_IFD)
    return bytes(block)


def _kept_chunks(data: bytes) -> tuple[tuple[bytes, bytes], ...]:
    return tuple(
        (kind, content)
        for kind, content in png_chunks(data)
        if kind in _COLOUR_CHUNKS or (kind in _TEXT_CHUNKS and not _is_exif_or_xmp(content))
    )


def _is_exif_or_xmp(content: bytes) -> bool:
    return content.startswith((XMP_KEYWORD, b"Raw profile type "))


def _dpi(value: Any) -> tuple[float, float] | None:
    try:
        across, down = (float(part) for part in value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if 0 < across < 1e6 and 0 < down < 1e6 else None


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, tuple) and len(value) == 1:
        return _bytes(value[0])
    return bytes(value) if isinstance(value, bytes | bytearray) else b""
