"""Reads HEIC and AVIF photos: pixels at full bit depth, and the metadata of the file."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
from PIL import Image as Pillow
from PIL import UnidentifiedImageError, features

from warp_train.photos.formats import HEIF_REMEDY
from warp_train.photos.heif_boxes import (
    HeifBoxes,
    clean_aperture,
    damage,
    orientation_of,
    read_boxes,
)
from warp_train.photos.heif_metadata import exif_of, left_out, nclx_of, xmp_of
from warp_train.photos.icc_profiles import colour_name, colour_profile, is_hdr, is_srgb
from warp_train.photos.pixels import Pixels, check_size, turned

if TYPE_CHECKING:
    from pillow_heif import HeifFile, HeifImage


@dataclass(frozen=True)
class HeifPicture:
    """The primary picture of a HEIC or AVIF file.

    It has no orientation: the pixels are upright, by the file's `irot` and `imir` properties. The
    EXIF orientation, and `tiff:Orientation` in XMP, must not be applied: HEIF defines them as
    information only (ISO/IEC 23008-12, annex A), and most cameras write them in addition.
    """

    kind: Literal["heic", "avif"]
    pixels: Pixels
    """[H, W, C] uint8 or uint16, C as in `Pixels`. 10 and 12 bits are scaled to all 16."""
    bits: int
    """Bits a channel in the file."""
    exif: bytes
    """TIFF structure without the `Exif\\0\\0` header; empty if there is none, as below."""
    icc: bytes
    """The file's profile, or one of the colours that it describes by numbers; empty: sRGB."""
    xmp: bytes
    nclx: tuple[int, int, int, int] | None
    """The colours by H.273's numbers: primaries, transfer function, matrix, full range."""
    notes: tuple[str, ...]
    """What is not in this picture, but in the file, and what is unusual."""


def read_heif(data: bytes) -> HeifPicture:
    """Reads the primary picture of a HEIC or AVIF file.

    Raises:
        ValueError: pillow-heif is missing, or the file is truncated, damaged, too large or too
            small, or its coding is unknown.
    """
    boxes = read_boxes(data)
    with _clear_errors(boxes):
        file = _open(data)
        image = file[file.primary_index]
    check_size(*image.size, len(data))
    broken = damage(data, boxes)
    if broken is not None:
        raise ValueError(broken)
    notes = left_out(file, image, boxes)
    info: Any = image.info
    bits: int = info["bit_depth"]
    kind: Literal["heic", "avif"] = "avif" if _coding(boxes) == "av01" else "heic"
    with _clear_errors(boxes):
        pixels = _avif_pixels(data, boxes, image.mode, notes) if kind == "avif" else _pixels(image)
    check_size(pixels.shape[1], pixels.shape[0], len(data))
    if image.mode.partition(";")[0].endswith("a") and kind == "heic":
        pixels = _divided_by_alpha(pixels, bits)
        notes.append("its colours were stored multiplied by its transparency, and are not now")
    pixels, icc = _coloured(pixels, info, boxes, notes)
    return HeifPicture(
        kind=kind,
        pixels=_all_bits(pixels, bits),
        bits=bits,
        exif=exif_of(image, boxes, notes),
        icc=icc,
        xmp=xmp_of(image, notes),
        nclx=nclx_of(boxes),
        notes=tuple(notes),
    )


def heif_exif(data: bytes) -> bytes:
    """The EXIF of a HEIC or AVIF file as a TIFF structure, without decoding its pixels.

    Returns:
        The EXIF as `HeifPicture.exif`; empty if there is none.

    Raises:
        ValueError: pillow-heif is missing, or the file is truncated or damaged.
    """
    boxes = read_boxes(data)
    with _clear_errors(boxes):
        file = _open(data)
        return exif_of(file[file.primary_index], boxes, [])


def heif_size(data: bytes) -> tuple[int, int]:
    """(width, height) of `HeifPicture.pixels`, without decoding them.

    Raises:
        ValueError: pillow-heif is missing, or the file is truncated or damaged.
    """
    boxes = read_boxes(data)
    with _clear_errors(boxes):
        file = _open(data)
        width, height = file[file.primary_index].size
        return width, height


def _open(data: bytes) -> HeifFile:
    try:
        import pillow_heif
    except ImportError as error:
        raise _MissingError(f"HEIC and AVIF are read by pillow-heif: {HEIF_REMEDY}") from error
    return pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False, hdr_to_16bit=False)


class _MissingError(ValueError):
    """A reason that is not the file's damage."""


@contextmanager
def _clear_errors(boxes: HeifBoxes) -> Iterator[None]:
    """Raises ValueError with a clear reason for any error of the libraries."""
    try:
        yield
    except (MemoryError, _MissingError):
        raise
    except Exception as error:  # from EOFError to SyntaxError
        words = " ".join(str(error).split())
        if "not been built in" in words:
            reason = f"its pictures are coded as '{_coding(boxes)}', which cannot be decoded"
            raise ValueError(reason) from error
        named = words and not isinstance(error, UnidentifiedImageError)
        raise ValueError(f"damaged ({words})" if named else "damaged") from error


def _coding(boxes: HeifBoxes) -> str:
    """The coding of the primary picture, or of its tiles."""
    own = boxes.kinds.get(boxes.primary, "")
    tiles = {boxes.kinds[item] for item in boxes.kinds} & {"hvc1", "av01", "avc1", "jpeg", "unci"}
    return own if own in tiles or not tiles else min(tiles)


def _pixels(image: HeifImage) -> Pixels:
    """The pixels of HEIC as they are in the file, upright: libheif applies `irot` and `imir`."""
    pixels = np.array(image)  # a copy: the library owns its memory
    width, height = image.size
    return pixels.reshape(*pixels.shape[:2], -1)[:height, :width]


def _avif_pixels(data: bytes, boxes: HeifBoxes, mode: str, notes: list[str]) -> Pixels:
    """The pixels of AVIF, which the libheif of pillow-heif cannot decode."""
    bits = int(mode.partition(";")[2] or 8)
    pixels = _by_opencv(data) if bits > 8 else None
    if pixels is None:
        if not features.check("avif"):
            raise _MissingError(f"AVIF is decoded by Pillow 11.3 or later: {HEIF_REMEDY}")
        with Pillow.open(io.BytesIO(data), formats=("AVIF",)) as file:
            pixels = np.asarray(file)
            pixels = pixels.reshape(*pixels.shape[:2], -1)
        if bits > 8:
            notes.append(
                f"its {bits} bits a channel were reduced to 8: this OpenCV reads no AVIF "
                "(pip install -U opencv-python-headless)"
            )
    left, top, right, bottom = clean_aperture(boxes, pixels.shape[1], pixels.shape[0])
    shown = pixels[top:bottom, left:right, : 1 if mode.partition(";")[0] in ("L", "I") else None]
    return turned(np.ascontiguousarray(shown), orientation_of(boxes))


def _by_opencv(data: bytes) -> Pixels | None:
    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if pixels is None:
        return None
    if pixels.ndim == 2:
        return pixels[..., None]
    code = cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
    return cv2.cvtColor(pixels, code)


def _divided_by_alpha(pixels: Pixels, bits: int) -> Pixels:
    """Colours that are stored multiplied by alpha, as they are without."""
    alpha, most = pixels[..., -1:].astype(np.float32), 2**bits - 1
    colours = pixels[..., :-1] * (most / np.maximum(alpha, 1))
    return np.concatenate(
        (np.rint(np.minimum(colours, most)).astype(pixels.dtype), pixels[..., -1:]), axis=2
    )


def _coloured(
    pixels: Pixels, info: Any, boxes: HeifBoxes, notes: list[str]
) -> tuple[Pixels, bytes]:
    """The pixels, and the colour profile that they need."""
    profile = bytes(info.get("icc_profile") or b"")
    numbers = nclx_of(boxes)
    if profile:
        if pixels.shape[2] == 1 and profile[16:20] == b"RGB ":
            pixels = np.repeat(pixels, 3, axis=2)
        return pixels, profile
    if numbers is None or is_srgb(*numbers[:2]):
        return pixels, b""
    name = colour_name(*numbers[:2])
    made = colour_profile(*numbers[:2], grey=pixels.shape[2] == 1)
    if made is None:
        notes.append(f"its colours ({name}) cannot be described by a colour profile")
    elif is_hdr(numbers[1]):
        notes.append(
            f"its colours are HDR ({name}): the colour profile describes them, but programs that "
            "show no HDR show the photo too dark"
        )
    return pixels, made or b""


def _all_bits(pixels: Pixels, bits: int) -> Pixels:
    """10 and 12 bits a channel scaled to 16."""
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    most = 2**bits - 1
    scale = np.rint(np.arange(2**bits) * (65535 / most)).astype(np.uint16)
    scaled: Pixels = np.take(scale, pixels, mode="clip")
    return scaled
