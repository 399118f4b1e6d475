"""The metadata of a JPEG: its application segments, and what is appended to the picture."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from typing import Literal

from warp_train.photos.exif import EXIF_HEADER
from warp_train.photos.extended_xmp import whole_xmp
from warp_train.photos.jpeg_segments import (
    APP0,
    APP1,
    APP2,
    APP11,
    APP13,
    APP14,
    COM,
    JpegParts,
    Segment,
    jpeg_parts,
)
from warp_train.photos.photoshop import HEADER as PHOTOSHOP_HEADER

XMP_HEADER = b"http://ns.adobe.com/xap/1.0/\x00"
EXTENDED_HEADER = b"http://ns.adobe.com/xmp/extension/\x00"
"""Starts a segment of extended XMP; the MD5 sum, the full length and the offset follow."""
ICC_HEADER = b"ICC_PROFILE\x00"
MPF_HEADER = b"MPF\x00"
GAIN_MAP_HEADER = b"urn:iso:std:iso:ts:21496:-1\x00"
"""Starts the segment of a gain map's parameters, or of the mark that there is a gain map."""
_GAIN_MAP_MARKS = (b"http://ns.adobe.com/hdr-gain-map/1.0/", b"HDRGainMap", b"hdrgainmap")
_NOT_ZERO = re.compile(rb"[^\0]")
_INCHES = {1: 1.0, 2: 2.54}
_SIGNATURE = "its content credentials (C2PA) were left out: they sign the old pixels"
_THUMBNAIL = "its JFIF thumbnail was left out: it is not corrected"
_BOXES = "its data segments APP11 were left out: they belong to the old pixels"

AppendedKind = Literal["gain_map", "picture", "data"]


@dataclass(frozen=True)
class Appended:
    """Something that follows the picture of a JPEG."""

    kind: AppendedKind
    data: bytes = field(repr=False)


@dataclass
class JpegMetadata:
    """What `jpeg_metadata` finds."""

    blocks: dict[str, bytes] = field(default_factory=dict)
    dpi: tuple[float, float] | None = None
    others: list[Segment] = field(default_factory=list)
    gain_map_marks: list[Segment] = field(default_factory=list)
    has_index: bool = False
    boxes: bytes = b""
    """The contents of APP11 (JUMBF), which belong to the old pixels."""
    preview: Segment | None = None
    """The last segment of a preview, which is left out."""
    appended: list[Appended] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def jpeg_metadata(data: bytes, parts: JpegParts) -> JpegMetadata:
    """The metadata of the JPEG `data`, whose first picture consists of `parts`."""
    found = JpegMetadata()
    icc: dict[int, bytes] = {}
    extended: list[bytes] = []
    for segment in parts.segments:
        marker, content = segment.marker, segment.content
        if marker == APP0 and content.startswith((b"JFIF", b"JFXX")):
            _add_jfif(content, found)
        elif marker == APP1 and content.startswith(EXIF_HEADER):
            _add_exif(content[len(EXIF_HEADER) :], found)
        elif marker == APP1 and content.startswith(XMP_HEADER):
            _add_xmp(content[len(XMP_HEADER) :], found)
        elif marker == APP1 and content.startswith(EXTENDED_HEADER):
            extended.append(content[len(EXTENDED_HEADER) :])
        elif marker == APP2 and content.startswith(ICC_HEADER):
            rest = content[len(ICC_HEADER) :]
            icc.setdefault(rest[0] if rest else 0, rest[2:])
        elif marker == APP13 and content.startswith(PHOTOSHOP_HEADER):
            before = found.blocks.get("photoshop", b"")
            found.blocks["photoshop"] = before + content[len(PHOTOSHOP_HEADER) :]
        elif marker == COM and "comment" not in found.blocks:
            found.blocks["comment"] = content
        else:
            _add_other(segment, found)
    if icc:
        found.blocks["icc"] = b"".join(icc[number] for number in sorted(icc))
    found.blocks["xmp"], lost = whole_xmp(found.blocks.get("xmp", b""), extended)
    found.lost += lost
    if found.boxes:
        found.lost.append(_SIGNATURE if b"c2pa" in found.boxes else _BOXES)
    found.appended = _appended(data, parts, found)
    return found


def _add_jfif(content: bytes, found: JpegMetadata) -> None:
    found.dpi = found.dpi or _jfif_dpi(content, found)
    has_thumbnail = content.startswith(b"JFXX") or (len(content) > 14 and all(content[12:14]))
    if has_thumbnail and _THUMBNAIL not in found.lost:
        found.lost.append(_THUMBNAIL)


def _add_xmp(content: bytes, found: JpegMetadata) -> None:
    if found.blocks.setdefault("xmp", content) != content:
        found.lost.append("its second XMP packet was left out: a file has one")


def _add_exif(content: bytes, found: JpegMetadata) -> None:
    if "exif" not in found.blocks:
        found.blocks["exif"] = content
    elif content[:4] in (b"II*\0", b"MM\0*"):
        found.lost.append("its second EXIF block was left out: a file has one")
    else:  # a long block goes on in the next segment
        found.blocks["exif"] += content


def _add_other(segment: Segment, found: JpegMetadata) -> None:
    marker, content = segment.marker, segment.content
    if marker == APP2 and content.startswith(MPF_HEADER):
        found.has_index = True
    elif marker == APP2 and content.startswith(GAIN_MAP_HEADER):
        found.gain_map_marks.append(segment)
    elif marker == APP11:
        found.boxes += content
    elif APP0 < marker <= APP0 + 15 and _is_preview(segment, found):
        found.preview = segment
    elif (APP0 <= marker <= APP0 + 15 and marker != APP14) or marker == COM:
        found.others.append(segment)
        if content.startswith(b"FLIR\0") and not any("thermal" in line for line in found.lost):
            found.lost.append("its thermal data (FLIR) are kept as measured: they are not warped")
    elif marker == APP14 and not content.startswith(b"Adobe"):
        found.others.append(segment)


def _is_preview(segment: Segment, found: JpegMetadata) -> bool:
    """Whether a segment is a picture, or goes on with the picture of the one before; names it."""
    before = found.preview
    again = before is not None and before.marker == segment.marker
    if again and before is not None and not before.content.endswith(b"\xff\xd9"):
        return True
    if not segment.content.startswith(b"\xff\xd8\xff"):
        return False
    found.lost.append(
        f"its preview in APP{segment.marker - APP0} was left out: it is not corrected"
    )
    return True


def _jfif_dpi(content: bytes, found: JpegMetadata) -> tuple[float, float] | None:
    try:
        unit, across, down = struct.unpack_from(">BHH", content, 7)
    except struct.error:
        return None
    if unit == 0 and across != down and across and down:
        found.lost.append(f"its pixel aspect ratio ({across}:{down}) was left out")
    scale = _INCHES.get(unit)
    return None if scale is None or content[:5] != b"JFIF\0" else (across * scale, down * scale)


def _appended(data: bytes, parts: JpegParts, found: JpegMetadata) -> list[Appended]:
    """The pictures and other data behind the picture. Padding with zeros is passed over."""
    at = parts.end
    appended: list[Appended] = []
    announced = bool(found.gain_map_marks) or _GAIN_MAP_MARKS[0] in found.blocks.get("xmp", b"")
    while at < len(data):
        filled = _NOT_ZERO.search(data, at)
        start = filled.start() if filled else len(data)
        if data[start : start + 3] != b"\xff\xd8\xff":
            if start < len(data):  # such as a video, whose first bytes may be zeros
                appended.append(Appended("data", data[at:]))
            break
        try:
            picture = jpeg_parts(data, start)
        except ValueError:
            appended.append(Appended("data", data[at:]))
            break
        whole = data[start : picture.end]
        is_map = _is_gain_map(picture)
        appended.append(Appended("gain_map" if is_map else "picture", whole))
        at = picture.end
    if announced and appended and not any(one.kind == "gain_map" for one in appended):
        first = next((n for n, one in enumerate(appended) if one.kind == "picture"), None)
        if first is not None:
            appended[first] = Appended("gain_map", appended[first].data)
    return appended


def _is_gain_map(parts: JpegParts) -> bool:
    return any(
        segment.content.startswith(GAIN_MAP_HEADER)
        or (segment.marker == APP1 and any(mark in segment.content for mark in _GAIN_MAP_MARKS))
        for segment in parts.segments
    )
