"""Reads photos for correction: upright pixels at full bit depth, and the metadata of the file."""

from __future__ import annotations

import stat
import warnings
from dataclasses import dataclass
from pathlib import Path

from warp_train.photos.damage import one_line
from warp_train.photos.decoding import decode, metadata_of
from warp_train.photos.formats import SUFFIXES, Kind
from warp_train.photos.jpeg_pixels import JpegCoding
from warp_train.photos.metadata import Metadata
from warp_train.photos.pixels import Pixels, turned
from warp_train.runtime.errors import WarpTrainError


@dataclass(frozen=True)
class PhotoFile:
    """An upright photo, with everything that is needed to write it in the same form."""

    pixels: Pixels
    format: Kind
    metadata: Metadata
    warnings: tuple[str, ...] = ()
    """What could not be kept as it is in the file."""
    jpeg: JpegCoding | None = None
    lossless: bool = True
    """Whether the file is compressed without loss."""
    orientation: int = 1
    """Of the pixels in the file, 1..8."""

    @property
    def stored_size(self) -> tuple[int, int]:
        """(width, height) of the pixels in the file."""
        height, width = self.pixels.shape[:2]
        return (height, width) if self.orientation >= 5 else (width, height)


def read_photo(path: Path) -> PhotoFile:
    """Reads a photo: upright pixels at the bit depth of the file, and its metadata.

    Raises:
        WarpTrainError: the file is missing, or it cannot be decoded (see `decode`). One line names
            the file and the reason.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError("not a file")
        data = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about sizes, which `decode` limits, and odd tags
            return upright_photo(path.suffix, data)
    except OSError as error:
        reason = f"cannot be read ({error.strerror or error})"
    except ValueError as error:
        reason = str(error)
    except MemoryError:
        reason = "not enough memory to decode it"
    except Exception as error:  # decoders raise anything, from struct.error to SyntaxError
        reason = f"cannot be decoded ({type(error).__name__}: {error})"
    raise WarpTrainError(f"{path}: {one_line(reason)}")


def read_metadata(path: Path) -> Metadata:
    """The metadata of a photo file; empty if they cannot be read."""
    try:
        data = path.read_bytes()
    except OSError:
        return Metadata()
    return metadata_in(data)


def metadata_in(data: bytes) -> Metadata:
    """The metadata in the bytes of a photo file; empty if they cannot be read."""
    try:
        return metadata_of(data)
    except Exception:  # parsers raise anything; what is missing is reported where it is needed
        return Metadata()


def upright_photo(suffix: str, data: bytes) -> PhotoFile:
    """The photo in the bytes of a file. This is the one place that rotates pixels.

    Raises ValueError, or any error of a decoder, see `decode`.
    """
    stored = decode(data)
    notes = list(stored.notes)
    if suffix.lower() not in SUFFIXES[stored.kind]:
        notes.insert(0, f"its name ends in {suffix}, but it contains {stored.kind.upper()} data")
    return PhotoFile(
        turned(stored.pixels, stored.orientation),
        stored.kind,
        stored.metadata,
        tuple(map(one_line, notes)),
        stored.jpeg,
        stored.lossless,
        stored.orientation,
    )
