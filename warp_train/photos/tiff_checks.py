"""Refuses TIFFs that cannot be corrected, and those whose picture is incomplete or damaged."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tifffile

from warp_train.photos.damage import words_of
from warp_train.photos.ifd import Block, Directory, open_block
from warp_train.photos.jpeg_pixels import decode_jpeg
from warp_train.photos.jpeg_segments import frame_header, jpeg_parts

COLOURS = {0: "grey", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr"}
"""Kinds of colours that are read, by the photometric interpretation."""
CHANNELS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}
JPEG = (6, 7)
"""Compressions."""
_OTHER_COLOURS = {4: "a mask", 8: "CIE Lab", 9: "ICC Lab", 10: "ITU Lab", 32844: "LogL"}
_OTHER_COLOURS[32845] = "LogLuv"
_INK_SET, _CMYK_INKS = 332, 1
_SUBSAMPLING = 530
_MOST_PAGES = 1000
_REDUCED, _OLD_REDUCED = (254, 1), (255, 2)
_WIDTH = 256
_RAW = "a camera's raw file or a preview: convert it to an ordinary TIFF first"
_MISSING = "truncated or damaged (a part of its picture is missing)"


def check_page(page: Any, data: bytes) -> None:
    """Raises ValueError if a page cannot be corrected, or if a part of its picture is missing.

    Args:
        page: tifffile's.
        data: of the file.
    """
    _check_colours(page)
    _check_samples(page)
    if int(page.compression) not in tifffile.TIFF.DECOMPRESSORS:
        name = getattr(page.compression, "name", page.compression)
        raise ValueError(f"its compression ({name}) is not read: save it with LZW or none first")
    _check_places(page, len(data))
    with named_damage():
        if int(page.compression) == JPEG[1]:
            _check_jpegs(page, data)
        elif int(page.photometric) == 6 and int(page.compression) not in JPEG:
            _check_lengths(page, data)


@contextmanager
def named_damage() -> Iterator[None]:
    """Raises ValueError with a clear reason for any error of a codec."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # from struct.error to the codecs' own
        words = str(error) if isinstance(error, ValueError) else words_of(error)
        raise ValueError(
            f"truncated or damaged ({words})" if words else "truncated or damaged"
        ) from error


def further_pages(data: bytes) -> list[str]:
    """Warnings on reduced copies behind the first page; any other page raises ValueError."""
    block = open_block(data)
    places = [block.first]
    while places[-1] and len(places) <= _MOST_PAGES:
        try:
            directory = block.directory(places[-1])
        except ValueError:
            raise ValueError("truncated or damaged (a page is missing)") from None
        if len(places) > 1 and not _is_reduced(block, directory):
            raise ValueError("the file contains several pages: split it into one file per page")
        if directory.next in places:
            break
        places.append(directory.next)
    return ["the reduced copy of the photo in the file was left out"] if len(places) > 2 else []


def _is_reduced(block: Block, directory: Directory) -> bool:
    """Whether a page is a copy by its tags, or a thumbnail as in EXIF, which has no width."""
    (new, reduced), (old, old_reduced) = _REDUCED, _OLD_REDUCED
    return bool(
        (block.number(directory, new) or 0) & reduced
        or block.number(directory, old) == old_reduced
        or _WIDTH not in directory.entries
    )


def _check_colours(page: Any) -> None:
    if 50706 in page.tags or (int(page.subfiletype or 0)) & 1:
        raise ValueError(_RAW)
    colours = int(page.photometric)
    if colours in (32803, 34892):
        raise ValueError(_RAW)
    if colours not in COLOURS:
        name = _OTHER_COLOURS.get(colours, "another colour space")
        raise ValueError(
            f"{name} (photometric {colours}) cannot be corrected: convert it to RGB first"
        )
    if page.samplesperpixel < CHANNELS[colours]:
        raise ValueError("damaged (it has too few channels)")
    if colours == 5 and page.tags.valueof(_INK_SET, default=_CMYK_INKS) != _CMYK_INKS:
        raise ValueError("inks other than CMYK cannot be corrected: convert it to RGB first")


def _check_samples(page: Any) -> None:
    if int(page.sampleformat) not in (1, 4):
        kind = {2: "signed", 3: "floating-point"}.get(int(page.sampleformat), "complex")
        raise ValueError(
            f"{kind} samples cannot be corrected: save it with 16 bits a channel first"
        )
    listed = page.tags.valueof(258, default=1)
    bits = set(map(int, np.atleast_1d(listed)))  # tifffile lists many numbers as an array
    if len(bits) > 1 or not bits <= {1, 2, 4, 8, 16}:
        found = "/".join(map(str, sorted(bits)))
        raise ValueError(
            f"{found} bits a channel cannot be corrected: save it with 8 or 16 bits first"
        )
    if bits == {16} and int(page.photometric) not in (0, 1, 2):
        name = COLOURS[int(page.photometric)]
        raise ValueError(f"16-bit {name} cannot be corrected: convert it to 16-bit RGB first")


def _check_places(page: Any, size: int) -> None:
    """Decoders fill a strip or tile without a place or a length with black."""
    places = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    if any(start + length > size for start, length in places):
        raise ValueError("truncated")
    if len(places) < math.prod(page.chunked) or not all(map(all, places)):
        raise ValueError(_MISSING)


def _check_jpegs(page: Any, data: bytes) -> None:
    """TIFF decoders fill the rest of a damaged JPEG strip or tile with grey."""
    tables = (page.jpegtables or b"")[2:-2]
    most = 4 * max(page.imagewidth, page.tilewidth) * max(page.imagelength, page.tilelength)
    for start, length in zip(page.dataoffsets, page.databytecounts, strict=False):
        whole = data[start : start + 2] + tables + data[start + 2 : start + length]
        parts = jpeg_parts(whole)
        frame = frame_header(parts)
        if frame.width * frame.height > most:
            raise ValueError(f"a part of it claims {frame.width}x{frame.height} px")
        if len(frame.components) != 2:  # grey and alpha, which no JPEG file has
            decode_jpeg(whole, parts)


def _check_lengths(page: Any, data: bytes) -> None:
    """Decoders of subsampled YCbCr fill the rest of a damaged strip or tile with a colour."""
    across, down = page.tags.valueof(_SUBSAMPLING, default=(2, 2))
    width = page.tilewidth or page.imagewidth
    decompress = tifffile.TIFF.DECOMPRESSORS[page.compression]
    for number, (start, length) in enumerate(
        zip(page.dataoffsets, page.databytecounts, strict=False)
    ):
        rows = page.tilelength or min(
            page.rowsperstrip, page.imagelength - number * page.rowsperstrip
        )
        units = math.ceil(width / across) * math.ceil(rows / down)
        if len(decompress(data[start : start + length])) < units * (across * down + 2):
            raise ValueError("a part of its picture is missing")
