"""The metadata of HEIC and AVIF photos, and names for what is not carried over."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from PIL import Image as Pillow

from warp_train.photos.heif_boxes import HeifBoxes, orientation_of

if TYPE_CHECKING:
    from pillow_heif import HeifFile, HeifImage

_ORIENTATION = 0x0112  # the EXIF tag
_VIDEO_BOX = "mpvd"  # Google's and Samsung's motion photos
_C2PA_BOX = "d8fec3d61b0e483c92975828877ec481"
_HDR_LEVELS = (
    "content_light_level",
    "mastering_display_colour_volume",
    "ambient_viewing_environment",
    "nominal_diffuse_white_luminance",
)


def left_out(file: HeifFile, image: HeifImage, boxes: HeifBoxes) -> list[str]:
    """Notes on what the file contains beside its primary picture. Thumbnails are not named."""
    info: Any = image.info
    notes = []
    beside = _auxiliary(image, boxes)
    if beside:
        notes.append(f"pictures beside the photo were left out: {', '.join(beside)}")
    if len(file) > 1:
        notes.append(
            f"the file contains {len(file)} pictures: only the primary one, which viewers show, "
            "is kept"
        )
    if "moov" in boxes.outer:
        notes.append("the file contains an image sequence: only its still picture is kept")
    if _VIDEO_BOX in boxes.outer:
        notes.append("the video of the motion photo was left out")
    if _C2PA_BOX in boxes.outer:
        notes.append("its content credentials (C2PA) were left out: they are of the old file")
    levels = [name.replace("_", " ") for name in _HDR_LEVELS if info.get(name) is not None]
    if levels:
        notes.append(f"its HDR levels were left out: {', '.join(levels)}")
    across, down = info.get("pixel_aspect_ratio") or (1, 1)
    if across != down:
        notes.append(f"its pixels are not square ({across}:{down}), which was left out")
    for kind in sorted({str(block["type"]) for block in info["metadata"]}):
        notes.append(f"its metadata of type '{kind}' were left out")
    return notes


def _auxiliary(image: HeifImage, boxes: HeifBoxes) -> list[str]:
    """Names of the primary picture's auxiliary pictures but its transparency, sorted."""
    info: Any = image.info
    names = {_auxiliary_name(kind) for kind in info.get("aux", {})}
    if info["depth_images"]:
        names.add("depth map")
    if "tmap" in boxes.kinds.values():  # ISO 21496-1
        names.add("gain map (HDR)")
    return sorted(names)


def _auxiliary_name(kind: str) -> str:
    """`hdrgainmap` and others of a name such as `urn:com:apple:photo:2020:aux:hdrgainmap`."""
    name = kind.rpartition(":")[2] or kind
    return "gain map (HDR)" if "gainmap" in name.lower() else name


def exif_of(image: HeifImage, boxes: HeifBoxes, notes: list[str]) -> bytes:
    """The EXIF as a TIFF structure; empty if there is none. Its orientation is as in the file."""
    info: Any = image.info
    exif = bytes(info["exif"] or b"").removeprefix(b"Exif\0\0")
    if not exif:
        return b""
    if exif[:4] not in (b"II*\0", b"MM\0*"):
        notes.append("its EXIF is damaged and was left out")
        return b""
    tags = Pillow.Exif()
    try:
        tags.load(exif)
        marked = tags.get(_ORIENTATION, 1)
    except Exception:  # damaged tags raise anything, from struct.error to SyntaxError
        return exif
    if marked in range(2, 9) and marked != orientation_of(boxes):
        notes.append(
            f"its EXIF orientation ({marked}) differs from the file's own, which viewers of HEIC "
            "and AVIF use"
        )
    return exif


def xmp_of(image: HeifImage, notes: list[str]) -> bytes:
    """The XMP packet; empty if there is none."""
    info: Any = image.info
    xmp = bytes(info.get("xmp") or b"")
    if xmp and b"<" not in xmp:
        notes.append("its XMP is damaged and was left out")
        return b""
    return xmp


def nclx_of(boxes: HeifBoxes) -> tuple[int, int, int, int] | None:
    """H.273's numbers of the primary picture: primaries, transfer function, matrix, full range."""
    for kind, content in boxes.properties.get(boxes.primary, []):
        if kind == "colr" and content[:4] == b"nclx" and len(content) >= 11:
            primaries, transfer, matrix, full = struct.unpack(">3HB", content[4:11])
            return primaries, transfer, matrix, full >> 7
    return None
