"""The pixels of a TIFF as they are stored; kinds that photos are not stored in are refused."""

from __future__ import annotations

import io
import logging
import math
from typing import Any

import cv2
import numpy as np
import tifffile
from PIL import Image as Pillow

from warp_train.photos.damage import clear_errors
from warp_train.photos.exif import ORIENTATION
from warp_train.photos.ifd import BYTE, INTEGER_KINDS, open_block, packed
from warp_train.photos.pixels import Pixels, check_size
from warp_train.photos.tiff_checks import CHANNELS, JPEG, check_page, further_pages

_MOST_SAMPLES = 32
_LAYOUT = {
    **dict.fromkeys((254, 256, 257, 259, 262, 266, 277, 278, 284, 317, 322, 323), 1),
    **dict.fromkeys((258, 338, 339), _MOST_SAMPLES),
    **dict.fromkeys((273, 279, 320, 324, 325), None),
}
"""Tags that describe the pixels, and how many numbers they hold at most; None: any number."""
_SIZES = ("imagewidth", "imagelength", "samplesperpixel")
_PREMULTIPLIED, _ALPHA = 1, 2
_LARGE_PART = 2**24
"""Numbers in a tile or strip, which may be larger than a small picture."""
_UNUSED = "a channel that is neither colour nor transparency was left out"
_UNUSED_OF_CMYK = "a channel beside CMYK was left out"

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
        pages = len(file.pages)
    if not pages:
        raise ValueError("truncated or damaged (it has no page)")
    with clear_errors():
        page: Any = file.pages[0]
        width, height, samples = (int(getattr(page, name)) for name in _SIZES)
        part = math.prod(page.chunks)
        math.prod(page.chunked)  # raises an error for tiles without a height
    with file:
        check_size(width, height, len(data))
        if part > max(_LARGE_PART, 4 * samples * width * height):
            raise ValueError("damaged (its tiles are larger than the picture)")
        if samples > _MOST_SAMPLES:
            raise ValueError(f"{samples} channels a pixel: not a photo")
        check_page(page, data)
        notes = further_pages(data)
        colours = int(page.photometric)
        if _is_for_libtiff(page):
            return _by_libtiff(data), [*notes, *([_UNUSED] if samples > 3 else [])]
        stored = _decoded(page)
        if colours == 3:
            return _with_palette(stored, page), notes
    if colours == 5:
        notes += [_UNUSED_OF_CMYK] if samples > 4 else []
        return Pillow.fromarray(np.ascontiguousarray(stored[..., :4]), "CMYK"), notes
    return _with_alpha(stored, colours, tuple(map(int, page.extrasamples)), notes), notes


def _refuse_damaged_tags(data: bytes) -> None:
    """Raises ValueError if a tag that describes the pixels does not hold positive numbers.

    tifffile takes those of the type BYTE as text.
    """
    block = open_block(data)
    for tag, entry in block.directory(block.first).entries.items():
        if tag not in _LAYOUT:
            continue
        is_number = entry.kind in INTEGER_KINDS and entry.kind != BYTE
        numbers, most = block.numbers(entry) if is_number else (), _LAYOUT[tag]
        if not numbers or min(numbers) < 0 or (most is not None and len(numbers) > most):
            raise ValueError(f"damaged (its TIFF tag {tag} is invalid)")


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
    count = CHANNELS[colours]
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


def _is_for_libtiff(page: Any) -> bool:
    """Whether tifffile cannot decode a page: YCbCr that is no JPEG, and JPEGs of single planes."""
    if int(page.compression) not in JPEG:
        return int(page.photometric) == 6
    return int(page.photometric) == 2 and int(page.planarconfig) == 2 and page.samplesperpixel == 3


def _by_libtiff(data: bytes) -> Pixels:
    """8-bit colours, by OpenCV's libtiff, which would rotate them: the orientation is hidden."""
    block = open_block(data)
    entry = block.directory(block.first).entries.get(ORIENTATION)
    patched = bytearray(data)
    if entry is not None:
        patched[entry.at : entry.at + len(entry.value)] = packed(
            block.order, entry.kind, [1] * entry.count
        )
    with clear_errors():
        pixels = cv2.imdecode(np.frombuffer(patched, np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        raise ValueError("truncated or damaged")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
