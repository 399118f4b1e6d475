"""Source positions of all output pixels: exact at the nodes of a lattice, interpolated between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from warp_train.inference.photo_warp import PhotoWarp
from warp_train.inference.view import View

_STEPS = (32, 16, 8, 4, 2)
"""Steps of the lattice that are tried, in pixels."""
_PROBES = 48
"""Cells along each side at which a step is tested."""
_MOST_ERROR = 1 / 128
"""Largest error of a map, in pixels: a quarter of cv2.remap's position step."""
_NODE_ROWS = 64
"""Rows of the lattice that are computed at once."""


@dataclass
class AxisMap:
    """Source positions of a tile's pixels along one axis of the photo, in pixels."""

    at: NDArray[np.float32]
    """[h, w]."""
    low: float
    """A lower bound of the positions."""
    high: float
    """An upper bound of the positions."""


@dataclass(frozen=True)
class TileMaps:
    """The maps of a tile of output pixels."""

    rows: range
    """Rows and columns of the output that the tile covers."""
    columns: range
    x: AxisMap
    y: AxisMap


def tile_maps(warp: PhotoWarp, view: View, tile: tuple[int, int]) -> Iterator[TileMaps]:
    """The maps of a view, in tiles of `(height, width)`; positions do not depend on the tile size.

    The error of a map is at most `_MOST_ERROR` pixels plus float32 rounding.
    """
    height, width = view.size
    step = lattice_step(warp, *view.frame)
    residual = _Residual.of(warp, view)
    band_height = max(1, _NODE_ROWS * step // tile[0]) * tile[0]
    for band in _pieces(range(height), band_height):
        lattice = _Lattice.of(warp, view, band, step)
        for rows in _pieces(band, tile[0]):
            strips = None if residual is None else residual.strips(rows)
            for columns in _pieces(range(width), tile[1]):
                x, y = (lattice.between(rows, columns, axis) for axis in (0, 1))
                if residual is not None and strips is not None:
                    residual.add(strips, columns, x, y)
                yield TileMaps(rows, columns, x, y)


def _pieces(whole: range, length: int) -> Iterator[range]:
    for start in range(whole.start, whole.stop, length):
        yield range(start, min(start + length, whole.stop))


@dataclass(frozen=True)
class _Lattice:
    """The lens at every `step`-th position of the frame, for a band of the view's rows.

    The positions of the nodes depend neither on the band nor on the part of the frame in view.
    """

    nodes: NDArray[np.float32]
    """[2, h, w] positions (x, y) in the photo, in pixels."""
    step: int
    start: tuple[int, int]
    """(row, column) of the output's first pixel in the frame."""
    first: tuple[int, int]
    """(row, column) of the first node among all nodes of the frame."""

    @staticmethod
    def of(warp: PhotoWarp, view: View, rows: range, step: int) -> _Lattice:
        start = (view.top, view.left)
        spans = [
            _node_span(pixels, begin, step)
            for pixels, begin in zip((rows, range(view.size[1])), start, strict=True)
        ]
        down, across = (
            np.array(span) * step + (step - 1) / 2 - begin
            for span, begin in zip(spans, start, strict=True)
        )
        sources = _sources_px(PhotoWarp(warp.params), view, *np.meshgrid(across, down))
        nodes = np.ascontiguousarray(np.moveaxis(sources, -1, 0), np.float32)
        return _Lattice(nodes, step, start, (spans[0].start, spans[1].start))

    def between(self, rows: range, columns: range, axis: int) -> AxisMap:
        """The map of some pixels along an axis (0: x, 1: y), interpolated between the nodes."""
        places, kept = [], []
        for pixels, start, first in zip((rows, columns), self.start, self.first, strict=True):
            span = _node_span(pixels, start, self.step)
            skipped = pixels.start + start - span.start * self.step
            places.append(slice(span.start - first, span.stop - first))
            kept.append(slice(skipped, skipped + len(pixels)))
        nodes = self.nodes[axis][places[0], places[1]]
        size = (nodes.shape[1] * self.step, nodes.shape[0] * self.step)
        spread = np.asarray(cv2.resize(nodes, size), np.float32)
        return AxisMap(spread[kept[0], kept[1]], float(nodes.min()), float(nodes.max()))


def _node_span(pixels: range, start: int, step: int) -> range:
    """The nodes around some pixels of the output, whose first pixel is at `start` in the frame."""
    first = (pixels.start + start) // step - 1
    return range(first, (pixels.stop - 1 + start) // step + 2)


@dataclass(frozen=True)
class _Residual:
    """The residual at every output pixel: exact, as the residual is linear between its nodes."""

    field: NDArray[np.float32]
    """[2, Hr, Wr] displacements (x, y) in pixels."""
    below: NDArray[np.float32]
    """[h, Hr] weights of the field's rows for each output row."""
    beside: NDArray[np.float32]
    """[Wr, w] weights of the field's columns for each output column."""
    place: NDArray[np.float64]
    """[w] positions of the output columns, in columns of the field."""

    @staticmethod
    def of(warp: PhotoWarp, view: View) -> _Residual | None:
        if warp.residual is None or not warp.residual.any():
            return None
        height, width = view.frame
        unit = ((width - 1) / 2, (height - 1) / 2)
        field = np.moveaxis(warp.residual.double().numpy() * unit, -1, 0).astype(np.float32)
        rows, columns = (np.arange(side, dtype=float) for side in view.size)
        down = view.points(np.zeros(len(rows)), rows)[:, 1].numpy()
        across = view.points(columns, np.zeros(len(columns)))[:, 0].numpy()
        place = _places(across, field.shape[2])
        below = _weights(_places(down, field.shape[1]), field.shape[1])
        beside = np.ascontiguousarray(_weights(place, field.shape[2]).T)
        return _Residual(np.ascontiguousarray(field), below, beside, place)

    def strips(self, rows: range) -> NDArray[np.float32]:
        """[2, h, Wr]: the residual of some output rows at the field's columns."""
        strips: NDArray[np.float32] = self.below[rows.start : rows.stop] @ self.field
        return strips

    def add(self, strips: NDArray[np.float32], columns: range, x: AxisMap, y: AxisMap) -> None:
        """Adds the residual of a tile to its maps."""
        # Only the few columns of the field around the tile have weights that are not zero.
        used = slice(int(self.place[columns[0]]), int(self.place[columns[-1]]) + 2)
        beside = self.beside[used, columns.start : columns.stop]
        for lens, strip in zip((x, y), strips[:, :, used], strict=True):
            lens.at += strip @ beside
            lens.low += float(strip.min())
            lens.high += float(strip.max())


def _sources_px(
    warp: PhotoWarp, view: View, x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Source positions [h, w, 2] in the photo, in pixels, of output positions, each [h, w]."""
    height, width = view.frame
    source: NDArray[np.float64] = warp.sources(view.points(x, y), height, width).numpy()
    return (source + 1) * ((width - 1) / 2, (height - 1) / 2)


def _places(at: NDArray[np.float64], nodes: int) -> NDArray[np.float64]:
    """Grid coordinates converted to positions between `nodes` of a field, 0 .. nodes - 1."""
    return ((at + 1) / 2 * (nodes - 1)).clip(0, nodes - 1)


def _weights(places: NDArray[np.float64], nodes: int) -> NDArray[np.float32]:
    """The matrix [n, nodes] that interpolates linearly between `nodes` at `places [n]`."""
    weights: NDArray[np.float64] = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(nodes)))
    return weights.astype(np.float32)


def lattice_step(warp: PhotoWarp, height: int, width: int) -> int:
    """The largest step at which interpolation errs by at most `_MOST_ERROR` in the middle of cells.

    A lens is smooth, so that it is enough to test cells spread over the frame and its border.
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
