"""Decoding of photo files to upright RGB."""

import io
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from warp_train.data.shards.members import read_member
from warp_train.photos.decoding import decode, kind_of
from warp_train.photos.exif import EXIF_HEADER, orientation_of
from warp_train.photos.formats import PHOTO_SUFFIXES
from warp_train.photos.pixels import Image, as_image, check_size, predictor_view, turned
from warp_train.runtime.errors import WarpTrainError

IMAGE_SUFFIXES = PHOTO_SUFFIXES
"""Of the files in a folder that are images: to train on, and to score."""
Box = tuple[float, float, float, float]
"""(left, top, right, bottom) in pixels. As in Pillow, the image's outer edges are at 0 and W."""

_FLIPPED_X = (2, 3, 6, 7)
_FLIPPED_Y = (3, 4, 7, 8)


class BadSample(Exception):  # noqa: N818  # describes a file; training continues without it
    """A file that cannot be used, with the reason; `str()` is "path: reason"."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class Photo(NamedTuple):
    pixels: Image
    """RGB, upright."""
    full_size: tuple[int, int]
    """(height, width) upright, before any reduction while decoding."""
    extent: Box
    """The part of `pixels` that the photo covers. If the reduction does not divide the photo's
    size, the photo covers only a part of the last row or column."""


def decode_image(path: Path, enough: int | None = None, enough_long: int | None = None) -> Photo:
    """Reads an image as upright uint8 RGB [H, W, 3].

    The EXIF orientation is applied. Grey, palette and CMYK become RGB, 16 bits become 8, and alpha
    is blended over white. HEIC and AVIF are read whole.

    Args:
        path: the file; it may be inside a shard of a prepared cache (`shards.members`).
        enough: if given, a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, which is faster, as
            long as its short side has at least `enough` pixels and its long side `enough_long`.
        enough_long: see `enough`, which is its default.

    Raises:
        BadSample: the file is missing, truncated, not an image, implausibly large or under 16 px.
        WarpTrainError: it lies elsewhere and cannot be read now.
    """
    if path.exists() and not path.is_file():
        raise BadSample(path, "not a regular file")  # reading a pipe could block forever
    try:
        with warnings.catch_warnings():
            # Pillow warns of large photos, which are allowed, and raises for decompression bombs.
            warnings.simplefilter("ignore")
            return _read(file_bytes(path), (enough, enough_long or enough) if enough else None)
    except WarpTrainError:  # the photo lies elsewhere, and may be sound
        raise
    except ValueError as error:
        raise BadSample(path, " ".join(str(error).split())) from error
    except Exception as error:  # decoders raise anything, from struct.error to SyntaxError
        reason = str(error).replace(str(path), "file").splitlines() or [""]
        raise BadSample(path, f"{type(error).__name__}: {reason[0]}") from error


def file_bytes(path: Path) -> bytes:
    """The contents of a file, which may be inside a shard of a prepared cache.

    Raises OSError, ValueError or KeyError if it cannot be read.
    """
    member = read_member(path)
    return path.read_bytes() if member is None else member


def decode_pair(
    source: Path, target: Path, enough: int | None = None, enough_long: int | None = None
) -> tuple[Photo, Photo]:
    """The distorted and the straight photo of a pair, as `decode_image` reads each.

    Raises BadSample if a file cannot be used or the two sizes differ.
    """
    bent, straight = (decode_image(path, enough, enough_long) for path in (source, target))
    if bent.full_size != straight.full_size:
        (h, w), (th, tw) = bent.full_size, straight.full_size
        raise BadSample(source, f"is {w}x{h} px, but its target is {tw}x{th} px")
    return bent, straight


def _read(data: bytes, enough: tuple[int, int] | None) -> Photo:
    if not data:
        raise ValueError("the file is empty")
    kind = kind_of(data)
    if kind is None or (kind == "jpeg" and enough is not None):
        try:
            with Pillow.open(io.BytesIO(data)) as file:
                return _by_pillow(file, enough)
        except UnidentifiedImageError:
            raise ValueError("not a picture of a known format, or damaged") from None
    stored = decode(data)
    pixels = predictor_view(turned(stored.pixels, stored.orientation))
    height, width = pixels.shape[:2]
    return Photo(pixels, (height, width), (0.0, 0.0, float(width), float(height)))


def _by_pillow(file: Pillow.Image, enough: tuple[int, int] | None) -> Photo:
    """A JPEG at a reduced size, or a file of a format that only Pillow reads."""
    width, height = file.size
    check_size(width, height)
    if enough is not None:
        file.draft("RGB", enough if height > width else enough[::-1])
    reduction = round(width / file.size[0])
    orientation = orientation_of(file.info.get("exif", b"").removeprefix(EXIF_HEADER)) or 1
    pixels = as_image(turned(_to_rgb(file), orientation))
    full_size = (width, height) if orientation >= 5 else (height, width)
    return Photo(pixels, full_size, _extent(pixels, full_size, reduction, orientation))


def _extent(pixels: Image, full_size: tuple[int, int], reduction: int, orientation: int) -> Box:
    """See `Photo.extent`. Uncovered pixels are at the right and at the bottom of the file, and are
    rotated and mirrored with the photo."""
    height, width = pixels.shape[:2]
    spare_y, spare_x = height - full_size[0] / reduction, width - full_size[1] / reduction
    left = spare_x if orientation in _FLIPPED_X else 0.0
    top = spare_y if orientation in _FLIPPED_Y else 0.0
    return left, top, left + width - spare_x, top + height - spare_y


def _to_rgb(image: Pillow.Image) -> Image:
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow may store in 32 bits
        grey = np.clip(np.asarray(image, np.int64) >> 8, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode == "F":
        grey = np.clip(np.nan_to_num(np.asarray(image)) * 255, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Pillow.new("RGBA", image.size, (255, 255, 255, 255))
        image = Pillow.alpha_composite(white, image)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
