"""Updates a photo's metadata for upright, corrected pixels."""

from __future__ import annotations

import base64
from dataclasses import replace
from functools import partial

from warp_train.photos.change import Change, moved_box
from warp_train.photos.exif import ExifUpdate, updated_exif
from warp_train.photos.metadata import Metadata
from warp_train.photos.photoshop import updated_resources
from warp_train.photos.pixels import Pixels
from warp_train.photos.regions import Frames, move_regions
from warp_train.photos.thumbnails import thumbnail_jpeg
from warp_train.photos.xmp import Packet, with_upright_mark

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
    )
    xmp, lost = _updated_xmp(metadata.xmp, frames, pixels, change)
    extended = metadata.extended_xmp
    if extended:
        extended, more = _updated_xmp(extended, frames, pixels, replace(change, corrected=False))
        lost += more
    exif, exif_lost = _updated_exif(metadata.exif, frames, pixels)
    photoshop, photoshop_lost = updated_resources(
        metadata.photoshop, partial(thumbnail_jpeg, pixels)
    )
    new = replace(metadata, exif=exif, xmp=xmp, extended_xmp=extended, photoshop=photoshop)
    return new, [*exif_lost, *lost, *photoshop_lost]


def _updated_exif(exif: bytes, frames: Frames, pixels: Pixels) -> tuple[bytes, list[str]]:
    if not exif:
        return b"", []
    width, height = frames.result
    update = ExifUpdate(
        height, width, frames.move_stored, lambda side: thumbnail_jpeg(pixels, side)[0]
    )
    try:
        return updated_exif(exif, update), []
    except ValueError:
        return b"", ["its EXIF block is damaged and was left out"]


def _updated_xmp(
    data: bytes, frames: Frames, pixels: Pixels, change: Change
) -> tuple[bytes, list[str]]:
    if not data and not change.corrected:
        return b"", []
    try:
        packet = Packet(data)
        lost = _update_packet(packet, frames, pixels)
        if change.corrected:
            packet.set(APPLIED, "True")
            packet.set(OWN_MARK, "applied")
    except ValueError:
        return with_upright_mark(data), ["its XMP is damaged: it was kept as it is"]
    return bytes(packet), lost


def _update_packet(packet: Packet, frames: Frames, pixels: Pixels) -> list[str]:
    for place in packet.places("tiff:Orientation"):
        place.text = "1"
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
