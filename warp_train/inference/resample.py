"""The single resampling of a photo, at full resolution, in tiles.

The tiles bound the memory of the maps; the photo itself is not split.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from warp_train.inference.photo_warp import PhotoWarp
from warp_train.inference.pixel_maps import AxisMap, TileMaps, tile_maps
from warp_train.inference.view import View
from warp_train.photos.formats import Interpolation

Pixels = NDArray[Any]
Map = NDArray[np.float32]
"""[h, w] source positions in pixels."""

KERNELS: dict[Interpolation, int] = {
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "lanczos": cv2.INTER_LANCZOS4,
}
_TILE = (128, 1024)
"""(height, width) of a tile in output pixels: its maps fit into the cache of a core."""
_MARGIN = 5  # pixels; more than the radius of the widest kernel
_LONGEST_READ = 32766  # longest side, in px, of a picture that cv2.remap reads
_OUTSIDE = 1 / 64
"""Distance from the photo, in pixels, up to which a position counts as inside: rounding errors."""


def resample(
    pixels: Pixels,
    warp: PhotoWarp,
    view: View,
    interpolation: Interpolation = "bicubic",
    *,
    tile: tuple[int, int] = _TILE,
) -> Pixels:
    """The view of the corrected photo, resampled once from `pixels` [H, W, C] of 8 or 16 bits.

    Output pixels whose source is outside the photo are zero in every channel: transparent in
    photos with alpha, otherwise black.

    Raises ValueError if a tile would read a part of the photo that is too long for OpenCV.
    """
    height, width, channels = pixels.shape
    result = np.empty((*view.size, channels), pixels.dtype)
    mixed = channels % 2 == 0 and bool((pixels[..., -1] != np.iinfo(pixels.dtype).max).any())
    read = _read_with_alpha if mixed else _read
    in_parts = mixed or max(height, width) > _LONGEST_READ
    for maps in tile_maps(warp, view, tile):
        outside = [_clip(maps.x, width), _clip(maps.y, height)]
        part = _part(pixels, maps) if in_parts else pixels
        piece = result[maps.rows.start : maps.rows.stop, maps.columns.start : maps.columns.stop]
        read(part, maps.x.at, maps.y.at, KERNELS[interpolation], piece)
        for blank in outside:
            if blank is not None:
                piece[blank] = 0
    return result


def _clip(axis: AxisMap, side: int) -> NDArray[np.bool_] | None:
    """Clips positions to the photo, in place; returns a mask of those outside, None without any."""
    if axis.low >= 0 and axis.high <= side - 1:
        return None
    outside = (axis.at < -_OUTSIDE) | (axis.at > side - 1 + _OUTSIDE)
    np.clip(axis.at, 0, side - 1, out=axis.at)
    axis.low, axis.high = (min(max(end, 0.0), side - 1.0) for end in (axis.low, axis.high))
    return outside if outside.any() else None


def _part(pixels: Pixels, maps: TileMaps) -> Pixels:
    """The part of a photo that a tile reads; changes the tile's positions to refer to this part."""
    first = [max(int(axis.low) - _MARGIN, 0) for axis in (maps.y, maps.x)]
    last = [int(axis.high) + _MARGIN + 2 for axis in (maps.y, maps.x)]
    part = pixels[first[0] : last[0], first[1] : last[1]]
    if max(part.shape[:2]) > _LONGEST_READ:
        raise ValueError(f"the warp reads more than {_LONGEST_READ} px in one direction at once")
    maps.y.at -= np.float32(first[0])
    maps.x.at -= np.float32(first[1])
    return part


def _read(pixels: Pixels, x: Map, y: Map, kernel: int, result: Pixels) -> None:
    if kernel == cv2.INTER_LINEAR and pixels.dtype == np.uint8:
        # Rounds positions to 1/32 px, as cv2.remap does for the other kernels: a third faster.
        place, part = cv2.convertMaps(x, y, cv2.CV_16SC2)
        cv2.remap(pixels, place, part, kernel, dst=result, borderMode=cv2.BORDER_REPLICATE)
    else:
        cv2.remap(pixels, x, y, kernel, dst=result, borderMode=cv2.BORDER_REPLICATE)


def _read_with_alpha(pixels: Pixels, x: Map, y: Map, kernel: int, result: Pixels) -> None:
    """Resamples colours with the weight of their opacity, so that transparent pixels add none.

    The colours of fully transparent output pixels are resampled without weights.
    """
    most = float(np.iinfo(pixels.dtype).max)
    opacity = pixels[..., -1:].astype(np.float32) / np.float32(most)
    weighted = np.concatenate((pixels[..., :-1] * opacity, opacity), axis=-1)
    mixed = np.empty(result.shape, np.float32)
    _read(weighted, x, y, kernel, mixed)
    _read(pixels, x, y, kernel, result)
    alpha = mixed[..., -1:].clip(0, 1)
    hidden = alpha < 0.5 / most
    visible = mixed[..., :-1] / np.where(hidden, 1, alpha)
    colours = np.where(hidden, result[..., :-1], np.rint(visible).clip(0, most))
    result[..., :-1], result[..., -1:] = colours, np.rint(alpha * most)
