"""Reads photos for correction: pixels at full bit depth, and the metadata of the file."""

from __future__ import annotations

import io
import stat
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image as Pillow
from PIL import ImageCms, JpegImagePlugin, UnidentifiedImageError

from warp_train.photos.formats import SUFFIXES, Format
from warp_train.photos.metadata import (
    Metadata,
    bare_png,
    orientation_of,
    read_metadata,
)
from warp_train.photos.pixels import LEAST_SIDE, MOST_PIXELS, Pixels, turned
from warp_train.photos.tiff_pixels import refuse_odd_tiff, tiff_bits, unused_channels
from warp_train.runtime.errors import WarpTrainError


@dataclass(frozen=True)
class JpegCoding:
    """How a JPEG was compressed, so that another picture can be compressed in the same way."""

    tables: dict[int, list[int]]
    """Quantisation tables by their number."""
    sampling: int
    """Chroma subsampling, 0: 4:4:4, 1: 4:2:2, 2: 4:2:0, -1: any other."""
    progressive: bool


@dataclass(frozen=True)
class PhotoFile:
    """An upright photo, with everything that is needed to write it in the same form."""

    pixels: Pixels
    format: Format
    metadata: Metadata
    warnings: tuple[str, ...] = ()
    """What could not be kept as it is in the file."""
    jpeg: JpegCoding | None = None
    lossless: bool = True
    """Whether the file is compressed without loss."""


def read_photo(path: Path) -> PhotoFile:
    """Reads a photo: upright pixels at the bit depth of the file, and its metadata.

    Palettes and YCbCr are converted to RGB, CMYK to sRGB by the file's own colour profile.

    Raises:
        WarpTrainError: the file is missing, truncated, animated, not a photo, or of a kind that
            cannot be corrected without loss. One line names the file and the reason.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError("not a file")
        data = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about sizes, which `_check` limits, and odd tags
            return _read(path, data)
    except OSError as error:
        reason = f"cannot be read ({error.strerror or error})"
    except ValueError as error:
        reason = str(error)
    except MemoryError:
        reason = "not enough memory to decode it"
    except Exception as error:  # decoders raise anything, from struct.error to SyntaxError
        reason = f"cannot be decoded ({type(error).__name__}: {error})"
    raise WarpTrainError(f"{path}: {' '.join(reason.split())}")


def _read(path: Path, data: bytes) -> PhotoFile:
    if not data:
        raise ValueError("the file is empty")
    try:
        image = Pillow.open(io.BytesIO(data), formats=("JPEG", "PNG", "TIFF", "WEBP", "BMP"))
    except UnidentifiedImageError:
        raise ValueError("not a JPEG, PNG, TIFF, WebP or BMP file, or damaged") from None
    with image:
        kind: Format = {"MPO": "jpeg"}.get(str(image.format), str(image.format).lower())  # type: ignore[assignment]
        notes = _check(image, kind, data)
        if path.suffix.lower() not in SUFFIXES[kind]:
            notes.append(f"its name ends in {path.suffix}, but it contains {kind.upper()} data")
        metadata, damaged = read_metadata(image, data)
        photo = PhotoFile(
            np.empty(0),
            kind,
            metadata,
            jpeg=_jpeg_coding(image) if kind == "jpeg" else None,
            lossless=kind != "jpeg" and (kind != "webp" or _is_lossless_webp(data)),
        )
        photo, more = _with_pixels(photo, image, data)
    return replace(photo, warnings=(*notes, *damaged, *more))


def _check(image: Pillow.Image, kind: Format, data: bytes) -> list[str]:
    """Raises ValueError for a file that cannot be corrected; returns warnings on what is lost."""
    width, height = image.size
    if min(width, height) < LEAST_SIDE:
        raise ValueError(f"{width}x{height} px; at least {LEAST_SIDE} px a side are needed")
    if width * height > MOST_PIXELS:
        raise ValueError(
            f"{width}x{height} px; at most {MOST_PIXELS // 10**6} megapixels are allowed"
        )
    pages = getattr(image, "n_frames", 1)
    if kind == "tiff":
        return refuse_odd_tiff(image, len(data))
    if kind == "jpeg" and pages > 1:
        return [f"the file contains {pages} pictures: only the first, which viewers show, is kept"]
    if pages > 1 or getattr(image, "is_animated", False):
        raise ValueError(f"an animated file ({pages} pictures) cannot be corrected")
    return []


def _with_pixels(photo: PhotoFile, image: Pillow.Image, data: bytes) -> tuple[PhotoFile, list[str]]:
    if photo.format == "jpeg" and not _is_complete_jpeg(data):
        raise ValueError("truncated")
    if photo.format == "jpeg" and image.mode in ("L", "RGB"):
        # OpenCV decodes to the same values as Pillow, in half the time.
        grey = image.mode == "L"
        flags = cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR_RGB
        pixels = _opencv(data, flags | cv2.IMREAD_IGNORE_ORIENTATION)
        return replace(photo, pixels=turned(pixels, orientation_of(image))), []
    if (photo.format == "png" and data[_PNG_BITS] == 16) or tiff_bits(image) == 16:
        pixels, notes = _sixteen_bits(image, data)
        return replace(photo, pixels=turned(pixels, orientation_of(image))), notes
    image.load()
    metadata, notes = photo.metadata, []
    if image.mode == "CMYK":
        image, metadata, notes = _without_cmyk(image, metadata)
    pixels = np.array(_plain_mode(image, notes))
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    upright = turned(pixels, orientation_of(image))
    return replace(photo, pixels=upright, metadata=metadata), notes


def _opencv(data: bytes, flags: int) -> Pixels:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if pixels is None:
        raise ValueError("damaged or truncated")
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _sixteen_bits(image: Pillow.Image, data: bytes) -> tuple[Pixels, list[str]]:
    """Decodes 16 bits a channel with OpenCV: Pillow reads no 16-bit colour.

    OpenCV decodes grey with alpha to four channels, of which the first and the last are kept.
    """
    is_png = image.format == "PNG"
    pixels = _opencv(bare_png(data) if is_png else data, cv2.IMREAD_UNCHANGED)
    if pixels.shape[2] > 1:  # IMREAD_UNCHANGED returns BGR
        code = cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
        cv2.cvtColor(pixels, code, dst=pixels)
    if pixels.dtype != np.uint16:
        raise ValueError("its 16 bits a channel cannot be decoded")
    if is_png and data[_PNG_COLOUR_TYPE] == _GREY_WITH_ALPHA:
        return np.ascontiguousarray(pixels[..., ::3]), []
    if unused_channels(image) and pixels.shape[2] == 4:
        return np.ascontiguousarray(pixels[..., :3]), [_UNUSED]
    return pixels, []


_PNG_BITS, _PNG_COLOUR_TYPE, _GREY_WITH_ALPHA = 24, 25, 4
_UNUSED = "a channel that is neither colour nor transparency was left out"


def _plain_mode(image: Pillow.Image, notes: list[str]) -> Pillow.Image:
    """The image as grey or RGB, either with or without alpha."""
    mode = image.mode
    if unused_channels(image):
        notes.append(_UNUSED)
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


def _without_cmyk(
    image: Pillow.Image, metadata: Metadata
) -> tuple[Pillow.Image, Metadata, list[str]]:
    if not metadata.icc:
        note = "CMYK was converted to RGB approximately: the file has no colour profile"
        return image.convert("RGB"), metadata, [note]
    screen = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(metadata.icc))
        converted = ImageCms.profileToProfile(image, own, screen, outputMode="RGB")
    except (OSError, ImageCms.PyCMSError) as error:
        raise ValueError(f"its CMYK colour profile cannot be used ({error})") from error
    if converted is None:
        raise ValueError("its CMYK colour profile cannot be used")
    note = "CMYK was converted to sRGB by the file's colour profile"
    return converted, replace(metadata, icc=screen.tobytes()), [note]


def _jpeg_coding(image: Pillow.Image) -> JpegCoding:
    tables = {key: list(table) for key, table in getattr(image, "quantization", {}).items()}
    sampling = JpegImagePlugin.get_sampling(image) if image.mode == "RGB" else -1
    return JpegCoding(tables, sampling, bool(image.info.get("progressive")))


def _is_complete_jpeg(data: bytes) -> bool:
    """Whether the first picture of the file has an end marker: decoders accept one without."""
    at = 2
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] != b"\xda":
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return data.find(b"\xff\xd9", at) >= 0


def _is_lossless_webp(data: bytes) -> bool:
    at = 12
    while data[at : at + 4] not in (b"VP8 ", b"VP8L", b""):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + size + size % 2
    return data[at : at + 4] == b"VP8L"
