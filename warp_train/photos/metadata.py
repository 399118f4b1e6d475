"""The metadata of a photo file, in blocks that every format holds in its own way."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace

from warp_train.photos.exif import without_tags
from warp_train.photos.exif_building import exif_of_tiff
from warp_train.photos.ifd import LONG, Block, Directory, open_block
from warp_train.photos.jpeg_metadata import Appended, JpegMetadata, jpeg_metadata
from warp_train.photos.jpeg_segments import JpegParts, Segment
from warp_train.photos.photoshop import with_iptc, wrapped_iptc
from warp_train.photos.png_chunks import png_metadata
from warp_train.photos.tiff_tags import ICC, IPTC, PHOTOSHOP, XMP
from warp_train.photos.webp_chunks import webp_metadata

_INCH = 0.0254
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_PER_UNIT = {2: 1.0, 3: 2.54}
_IPTC_START = b"\x1c"
_STARTS = {XMP: b"<", PHOTOSHOP: b"8BIM", ICC: b"acsp", IPTC: _IPTC_START}
"""What is near the start of a block by which it is recognised."""
_START_WITHIN = 40
_NAMES = {"xmp": "XMP", "photoshop": "block of captions", "icc": "colour profile"}
Chunks = tuple[tuple[bytes, bytes], ...]
"""(type, data) of each chunk."""


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
    png_chunks: Chunks = ()
    """A PNG's colour, text and other chunks."""
    webp_chunks: Chunks = ()
    """A WebP's chunks of unknown types."""
    jpeg_segments: tuple[Segment, ...] = ()
    """A JPEG's segments that have no other field here, as they are."""
    gain_map_marks: tuple[Segment, ...] = ()
    """A JPEG's segments that announce a gain map (ISO 21496-1)."""
    has_index: bool = False
    """Whether a JPEG lists the pictures that it contains (multi-picture format, CIPA DC-007)."""
    appended: tuple[Appended, ...] = ()
    """What follows a JPEG's picture: a gain map, a video."""


@dataclass(frozen=True)
class Found:
    """The metadata of a file."""

    metadata: Metadata
    lost: list[str] = field(default_factory=list)
    """Warnings on what a corrected file cannot have."""


def png_found(data: bytes) -> Found:
    """The metadata of a PNG. Raises ValueError if the file is cut off or damaged."""
    found = png_metadata(data)
    dpi, kept = None, found.kept
    if found.density:
        across, down = (int.from_bytes(found.density[at : at + 4], "big") for at in (0, 4))
        in_metres = found.density[8] == 1
        dpi = plausible_dpi(across * _INCH, down * _INCH) if in_metres else None
        if not in_metres and across != down:
            kept += ((b"pHYs", found.density),)  # an aspect ratio
    photoshop = wrapped_iptc(found.photoshop)
    metadata = Metadata(
        found.exif, found.icc, found.xmp, photoshop=photoshop, dpi=dpi, png_chunks=kept
    )
    return _lifted(metadata, list(found.lost))


def webp_found(data: bytes) -> Found:
    """The metadata of a WebP. Raises ValueError if the file is cut off."""
    blocks, others, lost = webp_metadata(data)
    return _lifted(Metadata(**blocks, webp_chunks=tuple(others)), lost)  # type: ignore[arg-type]


def jpeg_found(data: bytes, parts: JpegParts) -> Found:
    """The metadata of a JPEG."""
    found: JpegMetadata = jpeg_metadata(data, parts)
    metadata = Metadata(
        exif=found.blocks.get("exif", b""),
        icc=found.blocks.get("icc", b""),
        xmp=found.blocks.get("xmp", b""),
        photoshop=found.blocks.get("photoshop", b""),
        comment=found.blocks.get("comment", b""),
        dpi=found.dpi and plausible_dpi(*found.dpi),
        jpeg_segments=tuple(found.others),
        gain_map_marks=tuple(found.gain_map_marks),
        has_index=found.has_index,
        appended=tuple(found.appended),
    )
    return _lifted(metadata, found.lost)


def tiff_found(data: bytes) -> Found:
    """The metadata of a TIFF. Raises ValueError if its first directory is damaged."""
    block = open_block(data)
    first = block.directory(block.first)

    exif, lost = exif_of_tiff(data)
    photoshop, more = with_iptc(_value(first, PHOTOSHOP), _iptc(first))
    metadata = Metadata(
        exif=exif,
        icc=_value(first, ICC),
        xmp=_value(first, XMP).rstrip(b"\0"),
        photoshop=photoshop,
        dpi=_tiff_dpi(block, first),
    )
    return Found(metadata, lost + more)


def _value(directory: Directory, tag: int) -> bytes:
    entry = directory.entries.get(tag)
    return entry.value if entry else b""


def _iptc(directory: Directory) -> bytes:
    """The IPTC records of a TIFF; programs that write them as LONGs may swap and pad them."""
    value, entry = _value(directory, IPTC), directory.entries.get(IPTC)
    if entry is None or entry.kind != LONG:
        return value
    if not value.startswith(_IPTC_START):
        value = struct.pack(f"<{entry.count}I", *struct.unpack(f">{entry.count}I", value))
    return value[: len(value) - min(3, len(value) - len(value.rstrip(b"\0")))]


def _lifted(metadata: Metadata, lost: list[str]) -> Found:
    """The metadata with the blocks that some programs store in the EXIF block, as in a TIFF."""
    try:
        block = open_block(metadata.exif)
        first = block.directory(block.first)
        values = {tag: _value(first, tag) for tag in (XMP, PHOTOSHOP, ICC)} | {IPTC: _iptc(first)}
        found = {tag for tag, start in _STARTS.items() if start in values[tag][:_START_WITHIN]}
        exif = without_tags(metadata.exif, frozenset(found)) if found else metadata.exif
    except ValueError:
        return Found(metadata, lost)
    photoshop, _ = with_iptc(
        values[PHOTOSHOP] if PHOTOSHOP in found else b"", values[IPTC] if IPTC in found else b""
    )
    inner = {
        "xmp": values[XMP].rstrip(b"\0") if XMP in found else b"",
        "photoshop": photoshop,
        "icc": values[ICC] if ICC in found else b"",
    }
    for name, value in inner.items():
        if value and getattr(metadata, name) not in (b"", value):
            lost = [*lost, f"a second {_NAMES[name]} in its EXIF was left out: a file has one"]
    new = {name: getattr(metadata, name) or value for name, value in inner.items()}
    return Found(replace(metadata, exif=exif, **new), lost)  # type: ignore[arg-type]


def _tiff_dpi(block: Block, first: Directory) -> tuple[float, float] | None:
    unit = _PER_UNIT.get(block.number(first, _RESOLUTION_UNIT) or 2)
    entries = [first.entries.get(tag) for tag in (_X_RESOLUTION, _Y_RESOLUTION)]
    values = [block.numbers(entry) for entry in entries if entry is not None]
    if unit is None or len(values) != 2 or not all(values):
        return None
    return plausible_dpi(*(numbers[0] * unit for numbers in values))


def plausible_dpi(across: float, down: float) -> tuple[float, float] | None:
    """A resolution in pixels per inch; None if a file cannot hold it."""
    return (across, down) if 0 < across < 1e6 and 0 < down < 1e6 else None
