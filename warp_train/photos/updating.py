"""Updates a photo's metadata for upright, corrected pixels."""

from __future__ import annotations

import base64
from dataclasses import replace
from functools import partial

from warp_train.photos.change import Change, moved_box
from warp_train.photos.exif import ExifUpdate, has_orientation, updated_exif
from warp_train.photos.metadata import Metadata
from warp_train.photos.photoshop import updated_resources
from warp_train.photos.pixels import Pixels
from warp_train.photos.regions import Frames, move_regions
from warp_train.photos.thumbnails import thumbnail_jpeg
from warp_train.photos.xmp import Packet
from warp_train.photos.xmp_repair import repaired

_WIDTHS = ("tiff:ImageWidth", "exif:PixelXDimension")
_HEIGHTS = ("tiff:ImageLength", "exif:PixelYDimension")
_PICTURES = {
    "GDepth": "its depth map in the XMP was left out: it fits the old pixels",
    "GImage": "its second picture in the XMP was left out: it is not corrected",
}
APPLIED = "aux:DistortionCorrectionAlreadyApplied"
"""The mark of a lens correction that Adobe's programs write and read, "True" or "False"."""
OWN_MARK = "warpTrain:LensCorrection"


def updated(
    metadata: Metadata,
    stored: tuple[int, int],
    orientation: int,
    pixels: Pixels,
    change: Change,
) -> tuple[Metadata, list[str]]:
    """The metadata for new pixels, and warnings on what was left out.

    Sizes, orientation, thumbnails and regions become those of the new pixels.

    Args:
        metadata: those of the file.
        stored: (width, height) of the pixels in the file.
        orientation: of the pixels in the file, 1..8.
        pixels: the new ones, upright.
        change: from the upright photo to the new pixels.
    """
    result = (pixels.shape[1], pixels.shape[0])
    upright = stored[::-1] if orientation >= 5 else stored
    move = partial(moved_box, result=result, change=change)
    frames = Frames(
        stored,
        upright,
        result,
        move_stored=lambda box: move(box, stored, orientation),
        move_upright=lambda box: move(box, upright, 1),
        move_corner=lambda box: move(box, stored, orientation, to_border=True),
    )
    # Programs that turn pixels by the XMP do so only where the EXIF has no orientation.
    was_read = orientation != 1 or has_orientation(metadata.exif)
    xmp, lost = _updated_xmp(metadata.xmp, frames, pixels, change, was_read=was_read)
    exif, exif_lost = _updated_exif(metadata.exif, frames, pixels)
    photoshop, photoshop_lost = updated_resources(
        metadata.photoshop, partial(thumbnail_jpeg, pixels)
    )
    new = replace(metadata, exif=exif, xmp=xmp, photoshop=photoshop)
    return new, [*exif_lost, *lost, *photoshop_lost]


def _updated_exif(exif: bytes, frames: Frames, pixels: Pixels) -> tuple[bytes, list[str]]:
    if not exif:
        return b"", []
    width, height = frames.result
    update = ExifUpdate(height, width, frames.move_stored, partial(thumbnail_jpeg, pixels))
    try:
        return updated_exif(exif, update)
    except ValueError:
        return b"", ["its EXIF block is damaged and was left out"]


def _updated_xmp(
    data: bytes, frames: Frames, pixels: Pixels, change: Change, *, was_read: bool
) -> tuple[bytes, list[str]]:
    """The packet for the new pixels; `was_read`: they are upright by the file's orientation."""
    if not data and not change.corrected:
        return b"", []
    packet, lost = _readable(data)
    if was_read:
        for place in packet.places("tiff:Orientation"):
            place.text = "1"
    lost += _update_packet(packet, frames, pixels)
    if change.corrected:
        packet.set(APPLIED, "True")
        packet.set(OWN_MARK, "applied")
    return b"" if packet.is_empty and lost else bytes(packet), lost


def _readable(data: bytes) -> tuple[Packet, list[str]]:
    """The packet, or what can be read of a damaged one, and a warning on that."""
    try:
        return Packet(data), []
    except ValueError:
        whole = repaired(data)
        if whole:
            return Packet(whole), ["its XMP is damaged: what can be read of it was kept"]
        return Packet(b""), ["its XMP is damaged and was left out"]


def _update_packet(packet: Packet, frames: Frames, pixels: Pixels) -> list[str]:
    for names, side in zip((_WIDTHS, _HEIGHTS), frames.result, strict=True):
        for place in packet.places(*names):
            place.text = str(side)
    if any(True for _ in packet.places("xmpGImg:image")):
        jpeg, width, height = thumbnail_jpeg(pixels, 256)
        shown = {"image": base64.b64encode(jpeg).decode(), "width": width, "height": height}
        for name, value in shown.items():
            for place in packet.places(f"xmpGImg:{name}"):
                place.text = str(value)
    lost = move_regions(packet, frames)
    return lost + [note for space, note in _PICTURES.items() if packet.remove_namespace(space)]
