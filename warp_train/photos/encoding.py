"""Encodes photos in the input's format, bit depth and metadata, as far as the format allows."""

from __future__ import annotations

import io
import struct
from typing import Any

import cv2
import numpy as np
from PIL import Image as Pillow

from warp_train.photos.files import JpegCoding, PhotoFile
from warp_train.photos.formats import Format
from warp_train.photos.metadata import (
    PHOTOSHOP_HEADER,
    XMP_HEADER,
    Metadata,
    made_upright,
)
from warp_train.photos.pixels import Pixels, over_white, to_eight_bits
from warp_train.photos.png_encoding import encode_png
from warp_train.photos.tiff_encoding import encode_tiff

_LONGEST_SIDE: dict[Format, int] = {"jpeg": 65500, "webp": 16383}
_SEGMENT = 65533
"""Largest content of a JPEG segment, in bytes."""
_KEPT: dict[Format, tuple[str, ...]] = {
    "jpeg": ("exif", "icc", "xmp", "photoshop"),
    "png": ("exif", "icc", "xmp"),
    "tiff": ("exif", "icc", "xmp", "photoshop"),
    "webp": ("exif", "icc", "xmp"),
    "bmp": (),
}
"""Metadata blocks that each format can hold."""
_NAMES = {"exif": "EXIF", "icc": "colour profile", "xmp": "XMP", "photoshop": "IPTC captions"}


def encode_photo(
    photo: PhotoFile, pixels: Pixels, kind: Format, quality: int | None
) -> tuple[bytes, list[str]]:
    """Encodes `pixels` with the photo's metadata; returns the file and warnings on what was lost.

    Args:
        photo: the file that the pixels come from.
        pixels: upright, with the channels of the photo.
        kind: format of the returned file.
        quality: 1..100, used by JPEG and WebP. None: a JPEG is compressed with the photo's own
            tables, or at 95 if the photo was not a JPEG; a WebP is compressed at 90, or without
            loss if the photo was lossless.

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
    metadata, lost = made_upright(photo.metadata, height, width)
    lost += [
        f"{kind.upper()} files cannot hold the {_NAMES[field]}: left out"
        for field in _NAMES
        if getattr(metadata, field) and field not in _KEPT[kind]
    ]
    if kind == "png":
        return encode_png(pixels, metadata), lost
    if kind == "tiff":
        if pixels.shape[2] == 2 and pixels.dtype == np.uint16:
            pixels = pixels[..., [0, 0, 0, 1]]  # few programs read 16-bit grey with alpha
        return encode_tiff(pixels, metadata), lost
    if pixels.dtype != np.uint8:
        lost.append(f"16 bits a channel were reduced to 8: {kind.upper()} files hold no more")
    pixels = to_eight_bits(pixels)
    if kind == "webp":
        return _encode_webp(pixels, metadata, photo, quality), lost
    if pixels.shape[2] in (2, 4) and kind == "jpeg":
        pixels = over_white(pixels)
        lost.append("JPEG files hold no transparency: transparent pixels were blended with white")
    if kind == "jpeg":
        return _encode_jpeg(pixels, metadata, photo.jpeg, quality, lost), lost
    return _encode_bmp(pixels, metadata), lost


def _encode_jpeg(
    pixels: Pixels,
    metadata: Metadata,
    coding: JpegCoding | None,
    quality: int | None,
    lost: list[str],
) -> bytes:
    options: dict[str, Any] = {"quality": quality or 95, "subsampling": 0}
    if coding is not None and coding.sampling in (0, 1, 2):
        options["subsampling"] = coding.sampling
    if coding is not None:
        options["progressive"] = coding.progressive
    if coding is not None and quality is None and coding.tables:
        del options["quality"]
        options["qtables"] = coding.tables
    if metadata.dpi is not None:
        options["dpi"] = tuple(min(round(value), 65535) for value in metadata.dpi)
    plain = _saved(pixels, "JPEG", **options)
    (first,) = struct.unpack_from(">H", plain, 4)  # length of the JFIF segment
    return plain[: 4 + first] + _jpeg_segments(metadata, lost) + plain[4 + first :]


def _jpeg_segments(metadata: Metadata, lost: list[str]) -> bytes:
    """The metadata as JPEG segments; blocks that are too long are reported in `lost`."""
    segments = b""
    for name, marker, header, content in (
        ("EXIF", 0xE1, b"Exif\x00\x00", metadata.exif),
        ("XMP", 0xE1, XMP_HEADER, metadata.xmp),
        ("comment", 0xFE, b"", metadata.comment),
    ):
        if len(header) + len(content) > _SEGMENT:
            lost.append(f"its {name} was left out: it is too long for a JPEG file")
        elif content:
            segments += _segment(marker, header + content)
    for header, marker, block in (
        (PHOTOSHOP_HEADER, 0xED, metadata.photoshop),
        (b"ICC_PROFILE\x00", 0xE2, metadata.icc),
    ):
        room = _SEGMENT - len(header) - 2
        pieces = [block[at : at + room] for at in range(0, len(block), room)]
        for number, piece in enumerate(pieces, 1):
            place = bytes((number, len(pieces))) if marker == 0xE2 else b""
            segments += _segment(marker, header + place + piece)
    return segments


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _encode_webp(
    pixels: Pixels, metadata: Metadata, photo: PhotoFile, quality: int | None
) -> bytes:
    lossy = quality is not None or not photo.lossless
    return _saved(
        pixels,
        "WEBP",
        lossless=not lossy,
        quality=(quality or 90) if lossy else 50,
        exact=True,
        exif=metadata.exif,
        xmp=metadata.xmp,
        icc_profile=metadata.icc,
    )


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
    image = _as_pillow(pixels, kind)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _as_pillow(pixels: Pixels, kind: str) -> Pillow.Image:
    """A Pillow image of 8-bit pixels.

    Pillow stores RGB in four bytes a pixel and saves a JPEG directly from them. OpenCV adds the
    fourth byte in a fraction of Pillow's time.
    """
    if pixels.shape[2] == 3 and kind == "JPEG":
        spread = cv2.cvtColor(pixels, cv2.COLOR_RGB2RGBA)
        size = (pixels.shape[1], pixels.shape[0])
        return Pillow.frombuffer("RGBX", size, spread, "raw", "RGBX", 0, 1)
    return Pillow.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
