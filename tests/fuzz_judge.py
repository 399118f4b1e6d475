"""The judge of fuzzing: what reading and writing a file may and may not do."""

import contextlib
import io
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from rectify_helpers import BARREL, lens_warp

from warp_train.inference.photo_change import photo_change
from warp_train.inference.straightener import Corrected, correct
from warp_train.photos.camera_exif import NoCamera, read_camera
from warp_train.photos.change import Change
from warp_train.photos.corrected import crop_note, panorama, why_corrected
from warp_train.photos.encoding import encode_photo
from warp_train.photos.exif import EXIF_IFD, GPS_IFD, INTEROP_IFD
from warp_train.photos.files import PhotoFile, read_photo, upright_photo
from warp_train.photos.formats import Format
from warp_train.photos.ifd import Entry, open_block
from warp_train.photos.pixels import over_white, predictor_view, to_eight_bits
from warp_train.runtime.errors import WarpTrainError

FORMATS: tuple[Format, ...] = ("jpeg", "png", "tiff", "webp")
_LONGEST: dict[Format, int] = {"jpeg": 65500, "webp": 16383}
_GENERIC = re.compile(r"cannot be decoded \((\w+): ")
_DECODERS = ("TiffFileError", "DelayedImportError")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Fails if anything is written to the terminal, or warned of, in between."""
    sys.stderr.flush()
    old = os.dup(2)
    with tempfile.TemporaryFile() as caught, warnings.catch_warnings():
        warnings.simplefilter("error")
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(old, 2)
            os.close(old)
            caught.seek(0)
            words = caught.read()
            if words:
                raise AssertionError(f"on stderr: {words[:300]!r}")


def judge(path: Path, formats: tuple[Format, ...] = FORMATS) -> str:
    """Reads and writes a file; returns `read` or the error line. Raises for every fault."""
    with quiet():
        with contextlib.suppress(NoCamera):
            read_camera(path)
        try:
            photo = read_photo(path)
        except WarpTrainError as error:
            _check_line(path, str(error))
            return str(error)
        for note in photo.warnings:
            _check_note(note)
        for question in (why_corrected, panorama, crop_note):
            answer = question(photo.metadata)
            assert answer is None or "\n" not in answer, answer
        assert predictor_view(photo.pixels).shape == (*photo.pixels.shape[:2], 3)
        corrected, change = _correction(photo)
        files: list[tuple[bytes, Format]] = []
        for kind in formats:
            longest = max(corrected.pixels.shape[:2])
            if longest > _LONGEST.get(kind, longest):
                with pytest.raises(ValueError, match="px is too large"):
                    encode_photo(photo, corrected.pixels, kind, None, change)
                continue
            data, lost = encode_photo(photo, corrected.pixels, kind, None, change)
            for note in lost:
                _check_note(note)
            _check_written(path.with_suffix(f".{kind}"), data, kind, photo, corrected.pixels)
            files.append((data, kind))
    for data, kind in files:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata that were kept
            _check_by_others(data, kind)
    return "read"


def _check_line(path: Path, line: str) -> None:
    assert line.startswith(f"{path}: "), line
    assert line.isprintable(), repr(line)
    assert len(line) < len(str(path)) + 400, f"too long: {line[:2000]}"
    generic = _GENERIC.search(line)
    assert generic is None or generic[1] in _DECODERS, line


def _check_note(note: str) -> None:
    assert note.isprintable(), repr(note)
    assert len(note) < 400, f"too long: {note[:2000]}"


def _correction(photo: PhotoFile) -> tuple[Corrected, Change]:
    warp = _warp()
    corrected = correct(photo.pixels, warp, "none", "bilinear")
    return corrected, photo_change(warp, corrected.view)


@cache
def _warp() -> Any:
    return lens_warp(BARREL)


def _check_written(
    path: Path, data: bytes, kind: Format, photo: PhotoFile, pixels: NDArray[Any]
) -> None:
    path.write_bytes(data)
    again = read_photo(path)
    assert again.orientation == 1, "the new file is to be turned"
    if kind == "jpeg":
        _check_tags(photo.metadata.exif, again.metadata.exif)
    assert again.format == kind, again.format

    expected = _expected(pixels, kind)
    assert again.pixels.shape == expected.shape, (kind, again.pixels.shape, expected.shape)
    lossy = kind == "jpeg" or (kind == "webp" and not photo.lossless)
    if not lossy:
        both = (again.pixels, expected)
        assert np.array_equal(*both), f"{kind}: other pixels"


_CHANGED = frozenset((0x0100, 0x0101, 0x0112, 0x1001, 0x1002, 0xA002, 0xA003, 0x9214, 0xA214))
"""Sizes, orientation and subject."""


def _check_tags(before: bytes, after: bytes) -> None:
    """All tags of the block are as before but for those that follow the pixels."""
    old = dict(_tags(before))
    if not after or not old:
        return
    new, changed = dict(_tags(after)), [e for (_, tag), e in old.items() if tag in _CHANGED]
    spans = [(one.at - 8, one.at + max(4, len(one.value))) for one in changed]
    for place, entry in old.items():
        shared = any(a < entry.at + len(entry.value) and entry.at < b for a, b in spans)
        if place[1] not in _CHANGED and not shared:
            assert place in new, f"tag {place} is lost"
            assert new[place].value == entry.value, f"tag {place} is changed"


def _tags(exif: bytes) -> Iterator[tuple[tuple[int, int], Entry]]:
    """((directory, tag), entry) of the first directory and of those for EXIF, GPS and interop."""
    try:
        block = open_block(exif)
        first = block.directory(block.first)
    except ValueError:
        return
    details = block.sub_directory(first, EXIF_IFD)
    inner = block.sub_directory(details, INTEROP_IFD) if details else None
    found = {0: first, 1: details, 2: inner, 3: block.sub_directory(first, GPS_IFD)}
    for number, directory in found.items():
        for tag, entry in directory.entries.items() if directory else ():
            yield (number, tag), entry


def _check_by_others(data: bytes, kind: Format) -> None:
    shown = _by_others(data, kind)
    if shown is None:
        return
    seen = upright_photo(f".{kind}", data).pixels
    seen = seen if shown.dtype == np.uint16 else to_eight_bits(seen)
    assert shown.shape == seen.shape, (kind, shown.shape, seen.shape)
    difference = np.abs(shown.astype(int) - seen.astype(int)).max()
    assert difference <= (1 if kind == "jpeg" else 0), (
        f"{kind}: others see other pixels ({difference})"
    )


def _expected(pixels: NDArray[Any], kind: Format) -> NDArray[Any]:
    if kind in ("jpeg", "webp"):
        pixels = to_eight_bits(pixels)
    if kind == "jpeg":
        pixels = over_white(pixels)
    if kind == "tiff" and pixels.shape[2] == 2 and pixels.dtype == np.uint16:
        pixels = pixels[..., [0, 0, 0, 1]]
    if kind == "webp" and pixels.shape[2] < 3:  # WebP has no grey
        pixels = pixels[..., [0, 0, 0, *range(1, pixels.shape[2])]]
    if kind == "webp" and (pixels[..., 3:] == 255).all():  # and no channel without a meaning
        pixels = pixels[..., :3]
    return pixels


def _by_others(data: bytes, kind: Format) -> NDArray[Any] | None:
    """The pixels as other programs read them: [H, W, C]. None if Pillow reads no 16 bits."""
    if kind == "tiff":
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            seen = np.asarray(file.pages[0].asarray())
        by_tifffile = seen.reshape(*seen.shape[:2], -1)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        if kind == "tiff":
            return by_tifffile
        if image.mode.startswith("I") or (kind == "png" and data[24] == 16):
            return None
        shown = np.array(image)
    return shown.reshape(*shown.shape[:2], -1)
