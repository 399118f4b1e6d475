"""The one resampling of a photo, at full resolution, a tile at a time.

Only coordinates need room: the tiles are of the maps, and the photo is read where they point.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from warp_train.inference.crop import View
from warp_train.inference.photo_warp import PhotoWarp
from warp_train.inference.photos.formats import Interpolation

Pixels = NDArray[Any]
Map = NDArray[Any]
"""[h, w] float32."""

KERNELS: dict[Interpolation, int] = {
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "lanczos": cv2.INTER_LANCZOS4,
}
_TILE = (512, 2048)
_MARGIN = 5  # more than the widest kernel reaches
_LONGEST_READ = 32766  # of cv2.remap
_STEPS = (32, 16, 8, 4, 2)
_PROBES = 48
_MOST_ERROR = 1 / 128
"""Pixels that a map may be off: a quarter of the finest step that cv2.remap reads at."""
_OUTSIDE = 1 / 64
"""Pixels that a position may be outside the photo by rounding alone."""


def resample(
    pixels: Pixels,
    warp: PhotoWarp,
    view: View,
    interpolation: Interpolation = "bicubic",
    *,
    tile: tuple[int, int] = _TILE,
) -> Pixels:
    """The view of the corrected photo, read once from `pixels` [H, W, C] of 8 or 16 bits.

    Where the warp reads outside the photo it is blank: zero in every channel, so transparent where
    there is alpha and black elsewhere, whatever the interpolation.

    Raises ValueError where a tile would have to read more than OpenCV can.
    """
    height, width, channels = pixels.shape
    result = np.empty((*view.size, channels), pixels.dtype)
    step = _lattice_step(warp, height, width)
    mixed = channels % 2 == 0 and bool((pixels[..., -1] != np.iinfo(pixels.dtype).max).any())
    read = _read_with_alpha if mixed else _read
    for rows, columns in _tiles(view.size, tile):
        x, y = _maps(warp, view, rows, columns, step)
        outside = [_clip(x, width), _clip(y, height)]
        part, x, y = _part(pixels, x, y)
        piece = result[rows.start : rows.stop, columns.start : columns.stop]
        read(part, x, y, KERNELS[interpolation], piece)
        for blank in outside:
            if blank is not None:
                piece[blank] = 0
    return result


def _tiles(size: tuple[int, int], tile: tuple[int, int]) -> Iterator[tuple[range, range]]:
    for top in range(0, size[0], tile[0]):
        for left in range(0, size[1], tile[1]):
            yield (
                range(top, min(top + tile[0], size[0])),
                range(left, min(left + tile[1], size[1])),
            )


def _maps(warp: PhotoWarp, view: View, rows: range, columns: range, step: int) -> tuple[Map, Map]:
    """Positions (x, y) in the photo, in pixels, of the output pixels of a tile."""
    x, y = _lens_maps(PhotoWarp(warp.params), view, rows, columns, step)
    if warp.residual is not None:
        height, width = view.frame
        across = view.points(np.array(columns, float), np.zeros(len(columns)))[:, 0].numpy()
        down = view.points(np.zeros(len(rows)), np.array(rows, float))[:, 1].numpy()
        field = warp.residual.double().numpy() * ((width - 1) / 2, (height - 1) / 2)
        below, beside = _weights(down, field.shape[0]), _weights(across, field.shape[1])
        x += below @ field[..., 0].astype(np.float32) @ beside.T
        y += below @ field[..., 1].astype(np.float32) @ beside.T
    return x, y


def _lens_maps(
    lens: PhotoWarp, view: View, rows: range, columns: range, step: int
) -> tuple[Map, Map]:
    """The lens at every `step`-th position, and linear in between.

    The nodes are the same whatever the tile, or the part of the frame that the view shows.
    """
    spans = []
    for pixels, start in ((rows, view.top), (columns, view.left)):
        first = (pixels.start + start) // step - 1
        count = (pixels.stop - 1 + start) // step + 2 - first
        nodes = (first + np.arange(count)) * step + (step - 1) / 2 - start
        skipped = pixels.start + start - first * step
        spans.append((nodes, count * step, slice(skipped, skipped + len(pixels))))
    (down, tall, kept_rows), (across, wide, kept_columns) = spans
    nodes = _sources_px(lens, view, *np.meshgrid(across, down)).astype(np.float32)
    x, y = (
        cv2.resize(np.ascontiguousarray(nodes[..., axis]), (wide, tall))[kept_rows, kept_columns]
        for axis in (0, 1)
    )
    return x, y


def _sources_px(
    warp: PhotoWarp, view: View, x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Positions [h, w, 2] in the photo, in pixels, of output positions, each [h, w]."""
    height, width = view.frame
    source: NDArray[np.float64] = warp.sources(view.points(x, y), height, width).numpy()
    return (source + 1) * ((width - 1) / 2, (height - 1) / 2)


def _weights(at: NDArray[np.float64], nodes: int) -> NDArray[np.float32]:
    """Linear interpolation at grid coordinates `at [n]` between `nodes`, as a matrix [n, nodes]."""
    place = ((at + 1) / 2 * (nodes - 1)).clip(0, nodes - 1)
    weights: NDArray[np.float64] = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(nodes)))
    return weights.astype(np.float32)


def _lattice_step(warp: PhotoWarp, height: int, width: int) -> int:
    """The widest step at which the middle of no cell is off by more than `_MOST_ERROR`.

    A lens is smooth: cells all over the frame, its border included, speak for those between them.
    """
    lens, frame = PhotoWarp(warp.params), View((height, width), (height, width))
    across, down = (np.linspace(0, side - 1, _PROBES) for side in (width, height))
    for step in _STEPS:
        x, y = (
            (middles[:, None] + np.array((-step, 0, step)) / 2).ravel()
            for middles in (across, down)
        )
        at = _sources_px(lens, frame, *np.meshgrid(x, y))
        corners = (at[::3, ::3] + at[::3, 2::3] + at[2::3, ::3] + at[2::3, 2::3]) / 4
        if np.abs(at[1::3, 1::3] - corners).max() <= _MOST_ERROR:
            return step
    return 1


def _clip(position: Map, side: int) -> NDArray[np.bool_] | None:
    """Brings positions into the photo, in place; a mask of those that were outside, if any."""
    if position.min() >= 0 and position.max() <= side - 1:
        return None
    outside = (position < -_OUTSIDE) | (position > side - 1 + _OUTSIDE)
    np.clip(position, 0, side - 1, out=position)
    return outside if outside.any() else None


class _Part(NamedTuple):
    """The part of a photo that a tile reads, and the tile's maps within it."""

    pixels: Pixels
    x: Map
    y: Map


def _part(pixels: Pixels, x: Map, y: Map) -> _Part:
    left, top = int(x.min()) - _MARGIN, int(y.min()) - _MARGIN
    left, top = max(left, 0), max(top, 0)
    part = pixels[top : int(y.max()) + _MARGIN + 2, left : int(x.max()) + _MARGIN + 2]
    if max(part.shape[:2]) > _LONGEST_READ:
        raise ValueError(f"the warp reads more than {_LONGEST_READ} px at once")
    x -= np.float32(left)
    y -= np.float32(top)
    return _Part(part, x, y)


def _read(pixels: Pixels, x: Map, y: Map, kernel: int, result: Pixels) -> None:
    cv2.remap(pixels, x, y, kernel, dst=result, borderMode=cv2.BORDER_REPLICATE)


def _read_with_alpha(pixels: Pixels, x: Map, y: Map, kernel: int, result: Pixels) -> None:
    """Colours weighted by their opacity: what shows through must not tint what does not.

    Where nothing is opaque the hidden colours are read as they are.
    """
    most = float(np.iinfo(pixels.dtype).max)
    opacity = pixels[..., -1:].astype(np.float32) / np.float32(most)
    weighted = np.concatenate((pixels[..., :-1] * opacity, opacity), axis=-1)
    mixed = np.empty(result.shape, np.float32)
    _read(weighted, x, y, kernel, mixed)
    _read(pixels, x, y, kernel, result)
    alpha = mixed[..., -1:].clip(0, 1)
    hidden = alpha < 0.5 / most
    seen = mixed[..., :-1] / np.where(hidden, 1, alpha)
    colours = np.where(hidden, result[..., :-1], np.rint(seen).clip(0, most))
    result[..., :-1], result[..., -1:] = colours, np.rint(alpha * most)
