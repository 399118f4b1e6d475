"""Chooses the part of the corrected frame that becomes the output, with or without blank pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from warp_train.inference.photo_warp import PhotoWarp
from warp_train.photos.formats import Crop

Floats = NDArray[np.float64]

_MOST_ZOOM = 4.0
_ZOOM_STEPS = 30
_ROUNDING = 1e-9  # grid units
_NODES = 65
_MOST_TRIMS = 64


@dataclass(frozen=True)
class View:
    """The output as a part of the corrected frame, which has the size of the photo."""

    frame: tuple[int, int]
    """(height, width) of the photo."""
    size: tuple[int, int]
    """(height, width) of the output."""
    zoom: float = 1.0
    """Magnification about the centre of the frame."""
    left: int = 0
    """Column of the frame at which the output starts."""
    top: int = 0
    """Row of the frame at which the output starts."""

    @property
    def is_whole(self) -> bool:
        """Whether the output is the complete frame without zoom."""
        return self.zoom == 1 and self.size == self.frame

    def points(self, columns: Floats, rows: Floats) -> torch.Tensor:
        """Grid coordinates [..., 2], float64, of output positions `columns` and `rows`, in px."""
        height, width = self.frame
        half_x, half_y = (width - 1) / 2, (height - 1) / 2
        x = (columns + self.left - half_x) / (self.zoom * half_x)
        y = (rows + self.top - half_y) / (self.zoom * half_y)
        return torch.from_numpy(np.stack((x, y), axis=-1))


def choose_view(warp: PhotoWarp, height: int, width: int, crop: Crop) -> View:
    """The part of the corrected frame that `crop` keeps. The warp must not fold.

    - `fill`: the frame, with the smallest zoom about its centre that leaves no blank pixels;
    - `max`: the largest upright rectangle of the frame without blank pixels, not zoomed;
    - `none`: the complete frame.

    Raises ValueError if no such view exists, because the warp reads too far outside the photo.
    """
    frame = View((height, width), (height, width))
    if crop == "none" or warp.is_identity:
        return frame
    return _filled(warp, frame) if crop == "fill" else _largest(warp, frame)


def _filled(warp: PhotoWarp, frame: View) -> View:
    if _is_covered(warp, frame):
        return frame
    # A warp without folds maps the frame of a larger zoom into that of a smaller one. All zooms
    # above some value are therefore without blank pixels, and bisection finds this value.
    short, enough = 1.0, _MOST_ZOOM
    if not _is_covered(warp, replace(frame, zoom=enough)):
        raise ValueError(f"no zoom up to {enough:g} fills the frame: use the crop 'none'")
    for _ in range(_ZOOM_STEPS):
        middle = (short + enough) / 2
        if _is_covered(warp, replace(frame, zoom=middle)):
            enough = middle
        else:
            short = middle
    return replace(frame, zoom=enough)


def _is_covered(warp: PhotoWarp, view: View) -> bool:
    """Whether no output pixel is read outside the photo.

    Checking the outermost ring of pixels is enough: a warp without folds maps the inside of a
    closed curve to the inside of the curve's image, and the photo has no holes.
    """
    height, width = view.size
    across, down = np.arange(width, dtype=float), np.arange(height, dtype=float)
    sides = (
        (across, np.zeros(width)),
        (across, np.full(width, height - 1.0)),
        (np.zeros(height), down),
        (np.full(height, width - 1.0), down),
    )
    x, y = (np.concatenate(parts) for parts in zip(*sides, strict=True))
    return bool(_reads_photo(warp, view, x, y).all())


def _reads_photo(warp: PhotoWarp, view: View, x: Floats, y: Floats) -> NDArray[np.bool_]:
    """Whether each output position, arrays [n] or [h, w], is read inside the photo."""
    points = view.points(x, y)
    source = warp.sources(points.reshape(1, -1, 2), *view.frame).abs().amax(-1)
    covered: NDArray[np.bool_] = (source <= 1 + _ROUNDING).numpy()
    return covered.reshape(x.shape)


def _largest(warp: PhotoWarp, frame: View) -> View:
    height, width = frame.frame
    if height <= width:
        first, last = _covered_spans(warp, frame, along_rows=True)
        top, bottom, left, right = _largest_in_spans(first, last)
    else:
        first, last = _covered_spans(warp, frame, along_rows=False)
        left, right, top, bottom = _largest_in_spans(first, last)
    for _ in range(_MOST_TRIMS):
        size = (bottom - top + 1, right - left + 1)
        view = replace(frame, size=size, left=left, top=top)
        if min(view.size) < 2:
            break
        if _is_covered(warp, view):
            return view
        left, top, right, bottom = left + 1, top + 1, right - 1, bottom - 1
    raise ValueError("no part of the frame is without blank pixels: use the crop 'none'")


def _covered_spans(
    warp: PhotoWarp, frame: View, *, along_rows: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last covered pixel of each row (or column), around its middle; (1, 0) if none.

    Both are first located between coarse nodes, and then bisected in all rows at once.
    """
    lines, length = frame.frame if along_rows else frame.frame[::-1]

    def covered(at: NDArray[np.int64]) -> NDArray[np.bool_]:
        line = np.broadcast_to(np.arange(lines, dtype=float)[:, None], at.shape)
        place = at.astype(float)
        return _reads_photo(warp, frame, *((place, line) if along_rows else (line, place)))

    nodes = np.unique(np.linspace(0, length - 1, _NODES).round().astype(np.int64))
    middle = len(nodes) // 2
    at_nodes = covered(np.broadcast_to(nodes, (lines, len(nodes))))
    first = _edges(at_nodes[:, middle::-1], nodes[middle::-1], covered)
    last = _edges(at_nodes[:, middle:], nodes[middle:], covered)
    empty = ~at_nodes[:, middle]
    first[empty], last[empty] = 1, 0
    return first, last


def _edges(
    at_nodes: NDArray[np.bool_],
    nodes: NDArray[np.int64],
    covered: Callable[[NDArray[np.int64]], NDArray[np.bool_]],
) -> NDArray[np.int64]:
    """The last covered pixel of each line along `nodes`, before the first one that is blank.

    Args:
        at_nodes: [lines, nodes], whether each node is covered. The first one has to be.
        nodes: positions in the line, in the order of the search.
        covered: returns whether pixels [lines, 1] are covered.
    """
    run = np.logical_and.accumulate(at_nodes, axis=1).sum(1)  # covered nodes before the first blank
    inside: NDArray[np.int64] = nodes[np.maximum(run - 1, 0)]
    outside = np.where(run < len(nodes), nodes[np.minimum(run, len(nodes) - 1)], inside)
    while (np.abs(outside - inside) > 1).any():
        middle = (inside + outside) // 2
        good = covered(middle[:, None])[:, 0]
        inside, outside = np.where(good, middle, inside), np.where(good, outside, middle)
    return inside


def _largest_in_spans(
    first: NDArray[np.int64], last: NDArray[np.int64]
) -> tuple[int, int, int, int]:
    """The largest rectangle (first line, last line, first place, last place) within the spans."""
    best, found = 0, (0, 0, 0, 0)
    widest = int((last - first).max()) + 1
    for start in range(len(first)):
        if (len(first) - start) * widest <= best:
            break
        left, right = np.maximum.accumulate(first[start:]), np.minimum.accumulate(last[start:])
        areas = (right - left + 1).clip(0) * np.arange(1, len(left) + 1)
        end = int(areas.argmax())
        if areas[end] > best:
            best = int(areas[end])
            found = (start, start + end, int(left[end]), int(right[end]))
    return found
