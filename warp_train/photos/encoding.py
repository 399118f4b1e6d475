"""Encodes photos in the input's format, bit depth and metadata, as far as the format allows."""

from __future__ import annotations

import io
import math
import struct
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from PIL import Image as Pillow

from warp_train.photos.change import UNCHANGED, Change
from warp_train.photos.files import PhotoFile
from warp_train.photos.fitting import fitted
from warp_train.photos.formats import Format
from warp_train.photos.jpeg_encoding import encode_jpeg, with_lengths
from warp_train.photos.jpeg_metadata import Appended
from warp_train.photos.jpeg_pixels import decode_jpeg, jpeg_coding
from warp_train.photos.jpeg_segments import frame_header, jpeg_parts
from warp_train.photos.metadata import Metadata, jpeg_found
from warp_train.photos.pixels import Pixels, over_white, to_eight_bits, turned
from warp_train.photos.png_encoding import encode_png
from warp_train.photos.tiff_encoding import encode_tiff
from warp_train.photos.updating import updated
from warp_train.photos.webp_chunks import with_chunks

_LONGEST_SIDE: dict[Format, int] = {"jpeg": 65500, "webp": 16383}


def encode_photo(
    photo: PhotoFile,
    pixels: Pixels,
    kind: Format,
    quality: int | None,
    change: Change = UNCHANGED,
) -> tuple[bytes, list[str]]:
    """Encodes `pixels` with the photo's metadata; returns the file and warnings on what was lost.

    Args:
        photo: the file that the pixels come from.
        pixels: upright, with the channels of the photo.
        kind: format of the returned file.
        quality: 1..100, used by JPEG and WebP. None: a JPEG is compressed with the photo's own
            tables, or at 95 if the photo was not a JPEG; a WebP is compressed at 90, or without
            loss if the photo was lossless.
        change: from the photo to `pixels`.

    Raises:
        ValueError: the format cannot hold a picture of this size.
    """
    height, width = pixels.shape[:2]
    longest = _LONGEST_SIDE.get(kind, max(height, width))
    if max(height, width) > longest:
        raise ValueError(
            f"{width}x{height} px is too large: {kind.upper()} files hold at most {longest} px a "
            "side"
        )
    pixels = _with_held_channels(pixels, kind)
    unmarked = kind == "bmp" and change.corrected
    if unmarked:
        change = replace(change, corrected=False)
    metadata, lost = updated(photo.metadata, photo.stored_size, photo.orientation, pixels, change)
    if unmarked:
        lost.append("BMP files cannot hold the mark of a correction: it would be corrected again")
    metadata, more = fitted(metadata, kind, pixels.shape[2], photo.format)
    lost += more
    if kind == "png":
        return encode_png(pixels, metadata), lost
    if kind == "tiff":
        data, more = encode_tiff(pixels, metadata)
        return data, lost + more
    if pixels.dtype != np.uint8:
        lost.append(f"16 bits a channel were reduced to 8: {kind.upper()} files hold no more")
    pixels = to_eight_bits(pixels)
    if kind == "webp":
        return _encode_webp(pixels, metadata, photo, quality), lost
    if kind == "bmp":
        return _encode_bmp(pixels, metadata), lost
    if pixels.shape[2] in (2, 4):
        pixels = over_white(pixels)
        lost.append("JPEG files hold no transparency: transparent pixels were blended with white")
    metadata = _with_gain_map(metadata, photo, change, lost)
    coding = photo.jpeg and photo.jpeg.turned(photo.orientation)
    data, more = encode_jpeg(pixels, metadata, coding, quality)
    return data, lost + more


def _with_held_channels(pixels: Pixels, kind: Format) -> Pixels:
    """The pixels as RGB where the format, or most programs, know no grey or none with alpha."""
    channels = pixels.shape[2]
    deep_tiff = kind == "tiff" and pixels.dtype == np.uint16
    if channels == 2 and (kind in ("webp", "bmp") or deep_tiff):
        return pixels[..., [0, 0, 0, 1]]
    return pixels[..., [0, 0, 0]] if channels == 1 and kind == "webp" else pixels


def _with_gain_map(
    metadata: Metadata, photo: PhotoFile, change: Change, lost: list[str]
) -> Metadata:
    """The metadata with a gain map for the new pixels: it is rotated and warped like the photo."""
    kept: list[Appended] = []
    for one in metadata.appended:
        if one.kind != "gain_map":
            kept.append(one)
            continue
        try:
            kept.append(Appended("gain_map", _changed_jpeg(one.data, photo, change)))
        except (ValueError, OSError, cv2.error):
            lost.append("its gain map (HDR) is damaged and was left out")
    has_map = any(one.kind == "gain_map" for one in kept)
    marks = metadata.gain_map_marks if has_map else ()
    return with_lengths(replace(metadata, appended=tuple(kept), gain_map_marks=marks))


def _changed_jpeg(data: bytes, photo: PhotoFile, change: Change) -> bytes:
    """A gain map, turned and warped. Its own metadata hold its parameters and stay as they are.

    Raises ValueError if it is damaged, or larger than the photo.
    """
    orientation = photo.orientation
    if orientation == 1 and change is UNCHANGED:
        return data
    parts = jpeg_parts(data)
    frame = frame_header(parts)
    if frame.width * frame.height > math.prod(photo.stored_size):
        raise ValueError("a gain map that is larger than the photo")
    decoded = decode_jpeg(data, parts)
    if isinstance(decoded, Pillow.Image):
        raise ValueError("a gain map of CMYK")
    new = change.companion(turned(decoded, orientation))
    coding = jpeg_coding(parts).turned(orientation)
    return encode_jpeg(new, jpeg_found(data, parts).metadata, coding, None)[0]


def _encode_webp(
    pixels: Pixels, metadata: Metadata, photo: PhotoFile, quality: int | None
) -> bytes:
    lossy = quality is not None or not photo.lossless
    data = _saved(
        pixels,
        "WEBP",
        lossless=not lossy,
        quality=(quality or 90) if lossy else 50,
        exact=True,
        exif=metadata.exif,
        xmp=metadata.xmp,
        icc_profile=metadata.icc,
    )
    return with_chunks(data, metadata.webp_chunks) if metadata.webp_chunks else data


def _encode_bmp(pixels: Pixels, metadata: Metadata) -> bytes:
    if pixels.shape[2] != 4:
        return _saved(pixels, "BMP", dpi=metadata.dpi or (96, 96))
    # Readers ignore an alpha channel that Pillow writes: only a header of version 4 declares it.
    height, width = pixels.shape[:2]
    bottom_up = np.ascontiguousarray(pixels[::-1, :, [2, 1, 0, 3]]).tobytes()
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    shape = (108, width, height, 1, 32, 3, len(bottom_up), 3780, 3780, 0, 0)
    header = struct.pack("<IiiHHIIiiII4I4s48x", *shape, *masks, b"BGRs")
    start = 14 + len(header)
    return struct.pack("<2sI4xI", b"BM", start + len(bottom_up), start) + header + bottom_up


def _saved(pixels: Pixels, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image = Pillow.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    image.save(file, kind, **options)
    return file.getvalue()
