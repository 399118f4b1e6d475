"""The pixels of a TIFF as they are stored; kinds that photos are not stored in are refused."""

from __future__ import annotations

import io
import logging
from typing import Any

import cv2
import numpy as np
import tifffile
from PIL import Image as Pillow

from warp_train.photos.exif import ORIENTATION
from warp_train.photos.ifd import open_block, packed
from warp_train.photos.pixels import MOST_PIXELS, Pixels
from warp_train.photos.tiff_checks import (
    CHANNELS,
    JPEG,
    check_page,
    further_pages,
    named_damage,
)

_PREMULTIPLIED, _ALPHA = 1, 2
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
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        if not len(file.pages):
            raise ValueError("truncated or damaged (it has no page)")
        page = file.pages[0]
        assert isinstance(page, tifffile.TiffPage)
        if page.imagewidth * page.imagelength > MOST_PIXELS:
            size = f"{page.imagewidth}x{page.imagelength} px"
            raise ValueError(f"{size}; at most {MOST_PIXELS // 10**6} megapixels are allowed")
        check_page(page, data)
        notes = further_pages(data)
        colours, samples = int(page.photometric), int(page.samplesperpixel)
        if _is_for_libtiff(page):
            return _by_libtiff(data), [*notes, *([_UNUSED] if samples > 3 else [])]
        with named_damage():
            stored = _decoded(page)
        if colours == 3:
            return _with_palette(stored, page), notes
    if colours == 5:
        notes += [_UNUSED_OF_CMYK] if samples > 4 else []
        return Pillow.fromarray(np.ascontiguousarray(stored[..., :4]), "CMYK"), notes
    return _with_alpha(stored, colours, tuple(map(int, page.extrasamples)), notes), notes


def _decoded(page: Any) -> Pixels:
    """[H, W, samples] as stored, whatever the planes and the compression."""
    pixels = np.asarray(page.asarray())
    shape = (page.imagelength, page.imagewidth)
    if int(page.planarconfig) == 2 and page.samplesperpixel > 1:
        pixels = np.moveaxis(pixels.reshape(-1, *shape), 0, -1)
    pixels = pixels.reshape(*shape, -1)
    bits = int(page.bitspersample)
    if bits < 8 and int(page.photometric) != 3:
        pixels = pixels.astype(np.uint8) * (255 // (2**bits - 1))
    return np.ascontiguousarray(pixels, np.uint16 if bits == 16 else np.uint8)


def _with_palette(stored: Pixels, page: Any) -> Pixels:
    table = np.asarray(page.colormap)
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
    pixels = cv2.imdecode(np.frombuffer(patched, np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        raise ValueError("truncated or damaged")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
