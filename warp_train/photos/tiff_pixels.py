"""The pixels of a TIFF as they are stored; kinds that photos are not stored in are refused."""

from __future__ import annotations

import io
import logging
import math
from typing import Any

import numpy as np
import tifffile
from PIL import Image as Pillow

from warp_train.photos.damage import clear_errors
from warp_train.photos.ifd import (
    IFD,
    INTEGER_KINDS,
    LONG,
    SHORT,
    directory_bytes,
    entry_of,
    open_block,
    packed,
)
from warp_train.photos.pixels import Pixels, check_size

_PHOTOMETRIC = {0: "grey", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr"}
_COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}
_LAYOUT = {
    **dict.fromkeys((254, 256, 257, 259, 262, 266, 277, 278, 284, 317, 322, 323), 1),
    **dict.fromkeys((258, 273, 279, 320, 324, 325, 338, 339), None),
}
"""Tags that describe the pixels, and how many numbers they hold; None: any number."""
_SIZES = ("imagewidth", "imagelength", "samplesperpixel")
_YCBCR = (529, 530, 531, 532)
_PREMULTIPLIED, _ALPHA = 1, 2
_JPEG = (6, 7)
_MOST_PAGES = 1000
_MOST_SAMPLES = 32
_LARGE_PART = 2**26
"""Numbers in a tile or strip, which may be larger than a small picture."""
_UNUSED = "a channel that is neither colour nor transparency was left out"
_RAW = "a camera's raw file or a preview: convert it to an ordinary TIFF first"

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # a damaged file is reported by its name


def decode_tiff(data: bytes) -> tuple[Pixels | Pillow.Image, list[str]]:
    """The first page as stored, and warnings on what was left out.

    Returns:
        [H, W, C] uint8 or uint16, C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha; or an image
        of CMYK.

    Raises:
        ValueError: the page cannot be corrected, or it is damaged or too large.
    """
    _refuse_damaged_tags(data)
    with clear_errors():
        file = tifffile.TiffFile(io.BytesIO(data))
        page: Any = file.pages[0]
        width, height, samples = (int(getattr(page, name)) for name in _SIZES)
        parts, part = math.prod(page.chunked), math.prod(page.chunks)
    with file:
        check_size(width, height, len(data))
        if len(page.dataoffsets) < parts or not all(page.databytecounts):
            raise ValueError("truncated or damaged (parts of the picture are missing)")
        if part > max(_LARGE_PART, 4 * samples * width * height):
            raise ValueError("damaged (its tiles are larger than the picture)")
        if samples > _MOST_SAMPLES:
            raise ValueError(f"{samples} channels a pixel: not a photo")
        _refuse_odd(page, len(data))
        notes = _further_pages(data)
        colours = int(page.photometric)
        if colours == 6 and int(page.compression) not in _JPEG:
            return _by_pillow(data, page), notes
        stored = _decoded(page)
        if colours == 3:
            return _with_palette(stored, page), notes
    if colours == 5:
        notes += [_UNUSED] if stored.shape[2] > 4 else []
        return Pillow.fromarray(np.ascontiguousarray(255 - stored[..., :4]), "CMYK"), notes
    return _with_alpha(stored, colours, tuple(map(int, page.extrasamples)), notes), notes


def _refuse_damaged_tags(data: bytes) -> None:
    """Raises ValueError if a tag that describes the pixels does not hold positive numbers."""
    block = open_block(data)
    for tag, entry in block.directory(block.first).entries.items():
        if tag not in _LAYOUT:
            continue
        numbers = block.numbers(entry) if entry.kind in INTEGER_KINDS else ()
        if not numbers or min(numbers) < 0 or (len(numbers) > 1 and _LAYOUT[tag] == 1):
            raise ValueError(f"damaged (its TIFF tag {tag} is invalid)")


def _refuse_odd(page: Any, size: int) -> None:
    tags = page.tags
    if 50706 in tags or (int(page.subfiletype or 0)) & 1:
        raise ValueError(_RAW)
    colours = int(page.photometric)
    if colours in (32803, 34892):
        raise ValueError(_RAW)
    if colours not in _PHOTOMETRIC:
        raise ValueError(f"its colour space (photometric {colours}) cannot be corrected")
    if int(page.sampleformat) not in (1, 4):
        kind = {2: "signed", 3: "floating-point"}.get(int(page.sampleformat), "complex")
        raise ValueError(
            f"{kind} samples cannot be corrected: save it with 16 bits a channel first"
        )
    listed = tags.valueof(258, default=1)
    bits = set(map(int, np.atleast_1d(listed)))
    if len(bits) > 1 or not bits <= {1, 2, 4, 8, 16}:
        raise ValueError(f"{'/'.join(map(str, sorted(bits)))} bits a channel cannot be corrected")
    if bits == {16} and colours not in (0, 1, 2):
        raise ValueError(f"16-bit {_PHOTOMETRIC[colours]} cannot be corrected")
    ends = zip(page.dataoffsets, page.databytecounts, strict=False)
    if any(start + length > size for start, length in ends):
        raise ValueError("truncated")
    if page.samplesperpixel < _COLOURS[colours]:
        raise ValueError("damaged (it has too few channels)")


def _further_pages(data: bytes) -> list[str]:
    """Checks the pages after the first: reduced copies are left out, others raise ValueError."""
    block = open_block(data)
    places = [block.first]
    while places[-1] and len(places) <= _MOST_PAGES:
        try:
            directory = block.directory(places[-1])
        except ValueError:
            raise ValueError("truncated or damaged (a page is missing)") from None
        if len(places) > 1 and not (block.number(directory, 254) or 0) & 1:
            raise ValueError("the file contains several pages: split it into one file per page")
        if directory.next in places:
            break
        places.append(directory.next)
    return ["the reduced copy of the photo in the file was left out"] if len(places) > 2 else []


def _decoded(page: Any) -> Pixels:
    """[H, W, samples] as stored, whatever the planes and the compression."""
    with clear_errors():
        pixels = np.asarray(page.asarray())
    shape = (page.imagelength, page.imagewidth)
    if int(page.planarconfig) == 2 and page.samplesperpixel > 1:
        pixels = np.moveaxis(pixels.reshape(-1, *shape), 0, -1)
    if pixels.size < math.prod(shape):
        raise ValueError("damaged (it has fewer pixels than it declares)")
    pixels = pixels.reshape(*shape, -1)
    bits = int(page.bitspersample)
    if bits < 8 and int(page.photometric) != 3:
        pixels = pixels.astype(np.uint8) * (255 // (2**bits - 1))
    return np.ascontiguousarray(pixels, np.uint16 if bits == 16 else np.uint8)


def _with_palette(stored: Pixels, page: Any) -> Pixels:
    table = np.asarray(page.colormap)
    if table.ndim != 2 or len(table) != 3:
        raise ValueError("damaged (its palette is missing)")
    if table.max() > 255:  # some programs store 8 bits instead of 16
        table = table >> 8
    index = np.minimum(stored[..., 0], table.shape[1] - 1)
    return np.ascontiguousarray(np.moveaxis(table[:, index], 0, -1).astype(np.uint8))


def _with_alpha(stored: Pixels, colours: int, extra: tuple[int, ...], notes: list[str]) -> Pixels:
    count = _COLOURS[colours]
    pixels = stored[..., :count]
    if colours == 0:
        pixels = np.iinfo(stored.dtype).max - pixels
    alpha = next((n for n, kind in enumerate(extra) if kind in (_PREMULTIPLIED, _ALPHA)), None)
    if stored.shape[2] > count + (alpha is not None):
        notes.append(_UNUSED)
    if alpha is None or count + alpha >= stored.shape[2]:
        return np.ascontiguousarray(pixels)
    opacity = stored[..., count + alpha, None]
    if extra[alpha] == _PREMULTIPLIED:
        pixels = _divided(pixels, opacity)
    return np.concatenate((pixels, opacity), axis=2)


def _divided(pixels: Pixels, opacity: Pixels) -> Pixels:
    """Premultiplied colours divided by their alpha; black where nothing is opaque."""
    most = int(np.iinfo(pixels.dtype).max)
    divisor = np.maximum(opacity, 1).astype(np.uint32)
    whole = (pixels.astype(np.uint32) * most + divisor // 2) // divisor
    return np.where(opacity > 0, np.minimum(whole, most), 0).astype(pixels.dtype)


def _by_pillow(data: bytes, page: Any) -> Pixels:
    """Subsampled YCbCr, by libtiff, which sees a directory of nothing but the layout.

    It would apply an orientation, and it prints what it finds wrong. So the strips are tried first.
    """
    block = open_block(data)
    entries = block.directory(block.first).entries.values()
    kept = [
        entry_of(block.order, entry.tag, LONG, *block.numbers(entry)) if entry.kind > IFD else entry
        for entry in entries
        if entry.tag in _LAYOUT or entry.tag in _YCBCR
    ]
    at = len(data) + len(data) % 2
    start = data[:2] + packed(block.order, SHORT, (42,)) + packed(block.order, LONG, (at,))
    bare = start + data[8:].ljust(at - 8, b"\0") + directory_bytes(block.order, kept, at)
    with clear_errors():
        for place, length in zip(page.dataoffsets, page.databytecounts, strict=True):
            tifffile.TIFF.DECOMPRESSORS[page.compression](data[place : place + length])
        with Pillow.open(io.BytesIO(bare), formats=("TIFF",)) as image:
            return np.array(image.convert("RGB"))
