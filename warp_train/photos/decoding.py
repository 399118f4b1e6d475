"""Decodes photo files of every format to their pixels as stored. Nothing here is rotated."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image as Pillow
from PIL import ImageCms

from warp_train.photos.bmp_headers import bmp_metadata
from warp_train.photos.claims import without_claims
from warp_train.photos.damage import clear_errors
from warp_train.photos.exif import orientation_of
from warp_train.photos.formats import Kind
from warp_train.photos.heif import heif_exif, read_heif
from warp_train.photos.jpeg_pixels import JpegCoding, decode_jpeg, jpeg_coding
from warp_train.photos.jpeg_segments import frame_header, jpeg_parts
from warp_train.photos.metadata import (
    Found,
    Metadata,
    jpeg_found,
    plausible_dpi,
    png_found,
    tiff_found,
    webp_found,
)
from warp_train.photos.pixels import Pixels, check_size
from warp_train.photos.png_pixels import decode_png
from warp_train.photos.tiff_pixels import decode_tiff
from warp_train.photos.webp_chunks import is_lossless
from warp_train.photos.xmp import with_upright_mark


@dataclass(frozen=True)
class Stored:
    """A photo file, decoded."""

    kind: Kind
    pixels: Pixels
    """As stored: not rotated."""
    orientation: int
    """EXIF's, 1..8, by which the pixels have to be rotated upright."""
    metadata: Metadata
    notes: tuple[str, ...]
    """Warnings on what was left out or converted."""
    jpeg: JpegCoding | None
    lossless: bool


def kind_of(data: bytes) -> Kind | None:
    """The format of a file, by its first bytes; None if it is not one that is read."""
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "tiff"
    if data[4:8] == b"ftyp":
        brands = {data[8:12], *(data[at : at + 4] for at in range(16, 64, 4))}
        if data[8:12] in (b"avif", b"avis"):
            return "avif"
        return "heic" if brands & {b"heic", b"heix", b"heim", b"heis", b"mif1"} else None
    starts: tuple[tuple[bytes, Kind], ...] = (
        (b"\xff\xd8\xff", "jpeg"),
        (b"\x89PNG\r\n\x1a\n", "png"),
        (b"BM", "bmp"),
    )
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return next((kind for start, kind in starts if data.startswith(start)), None)


def decode(data: bytes) -> Stored:
    """Decodes a photo file.

    Palettes and YCbCr are converted to RGB, CMYK to sRGB by the file's own colour profile.

    Raises:
        ValueError: the file is truncated, damaged, animated, not a photo, or of a kind that cannot
            be corrected without loss.
    """
    if not data:
        raise ValueError("the file is empty")
    kind = kind_of(data)
    if kind is None:
        raise ValueError("not a JPEG, PNG, TIFF, WebP, BMP, HEIC or AVIF file, or damaged")
    if kind in ("heic", "avif"):
        return _decode_heif(data, kind)
    if kind == "jpeg":
        return _decode_jpeg(data)
    if kind == "tiff":
        return _decode_tiff(data)
    if kind == "png":
        found = png_found(data)
        return _stored("png", decode_png(data), found.metadata, found.lost)
    return _decode_by_pillow(data, kind)


def metadata_of(data: bytes) -> Metadata:
    """The metadata of a photo file, without decoding its pixels.

    Raises ValueError, or any error of a parser, if the file is damaged or of an unknown format.
    """
    kind = kind_of(data)
    if kind == "jpeg":
        return jpeg_found(data, jpeg_parts(data)).metadata
    if kind in ("heic", "avif"):
        return Metadata(exif=heif_exif(data))
    found = {"png": png_found, "webp": webp_found, "tiff": tiff_found, "bmp": _bmp_found}
    if kind is None:
        raise ValueError("not a photo of a known format")
    return found[kind](data).metadata


def _decode_jpeg(data: bytes) -> Stored:
    parts = jpeg_parts(data)
    frame = frame_header(parts)
    check_size(frame.width, frame.height, len(data))
    found = jpeg_found(data, parts)
    notes = list(found.lost)
    decoded = decode_jpeg(data, parts, notes)
    pictures = sum(one.kind == "picture" for one in found.metadata.appended)
    if pictures:
        notes.append(
            f"the file contains {pictures + 1} pictures: only the first, which is shown, is kept"
        )
    kept = tuple(one for one in found.metadata.appended if one.kind != "picture")
    metadata = replace(found.metadata, appended=kept)
    return _stored("jpeg", decoded, metadata, notes, jpeg=jpeg_coding(parts), lossless=False)


def _decode_tiff(data: bytes) -> Stored:
    decoded, notes = decode_tiff(data)
    found = tiff_found(data)
    orientation = orientation_of(data)
    return _stored("tiff", decoded, found.metadata, [*notes, *found.lost], orientation=orientation)


def _decode_by_pillow(data: bytes, kind: Kind) -> Stored:
    """WebP and BMP."""
    with clear_errors():
        image = Pillow.open(io.BytesIO(data), formats=(kind.upper(),))
    with image:
        check_size(*image.size, len(data))
        with clear_errors():
            pages = getattr(image, "n_frames", 1)
            animated = pages > 1 or getattr(image, "is_animated", False)
        if animated:
            raise ValueError(f"an animated file ({pages} pictures) cannot be corrected")
        found = webp_found(data) if kind == "webp" else _bmp_found(data)
        lossless = kind != "webp" or is_lossless(data)
        with clear_errors():
            image.load()
        pixels = np.array(_plain_mode(image))
        return _stored(kind, pixels, found.metadata, found.lost, lossless=lossless)


def _bmp_found(data: bytes) -> Found:
    icc, dpi, lost = bmp_metadata(data)
    return Found(Metadata(icc=icc, dpi=dpi and plausible_dpi(*dpi)), lost)


def _decode_heif(data: bytes, kind: Kind) -> Stored:
    picture = read_heif(data)
    # What the XMP announces, a gain map or a video, is in other parts of the file.
    xmp = with_upright_mark(without_claims(picture.xmp))
    metadata = Metadata(exif=picture.exif, icc=picture.icc, xmp=xmp)
    # libheif has rotated the pixels; EXIF's orientation is for information only in these files.
    return _stored(
        kind, picture.pixels, metadata, list(picture.notes), orientation=1, lossless=False
    )


def _stored(
    kind: Kind,
    decoded: Pixels | Pillow.Image,
    metadata: Metadata,
    notes: list[str],
    *,
    orientation: int | None = None,
    jpeg: JpegCoding | None = None,
    lossless: bool = True,
) -> Stored:
    if isinstance(decoded, Pillow.Image):
        decoded, metadata, note = _without_cmyk(decoded, metadata)
        notes = [*notes, note]
    pixels = decoded.reshape(*decoded.shape[:2], -1)
    turn = orientation or orientation_of(metadata.exif) or 1
    return Stored(kind, pixels, turn, metadata, tuple(notes), jpeg, lossless)


def _plain_mode(image: Pillow.Image) -> Pillow.Image:
    """The image as grey or RGB, either with or without alpha."""
    mode = image.mode
    if mode in ("RGBX", "YCbCr"):
        return image.convert("RGB")
    if mode == "P":
        return image.convert("RGBA" if "transparency" in image.info else "RGB")
    if mode in ("1", "L", "La"):
        return image.convert("LA" if mode == "La" or "transparency" in image.info else "L")
    if mode in ("PA", "RGBa") or (mode == "RGB" and "transparency" in image.info):
        return image.convert("RGBA")
    if mode not in ("LA", "RGB", "RGBA"):
        raise ValueError(f"its pixel format ({mode}) cannot be corrected")
    return image


def _without_cmyk(image: Pillow.Image, metadata: Metadata) -> tuple[Pixels, Metadata, str]:
    if not metadata.icc:
        note = "CMYK was converted to RGB approximately: the file has no colour profile"
        return np.array(image.convert("RGB")), metadata, note
    screen = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(metadata.icc))
        converted = ImageCms.profileToProfile(image, own, screen, outputMode="RGB")
    except (OSError, ImageCms.PyCMSError) as error:
        raise ValueError(f"its CMYK colour profile cannot be used ({error})") from error
    if converted is None:
        raise ValueError("its CMYK colour profile cannot be used")
    note = "CMYK was converted to sRGB by the file's colour profile"
    return np.array(converted), replace(metadata, icc=screen.tobytes()), note
