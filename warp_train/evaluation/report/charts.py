"""Histograms as inline SVG: no script, no font and no colour but the page's own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from warp_train.evaluation.report.templates import render

_TEMPLATE = "histogram.svg.jinja"
_BINS = 20
_TAIL = 3.0
"""Bins end at this multiple of the 90th percentile, so that one extreme photo does not flatten the
rest. Values beyond count in the outermost bin."""


class Series(NamedTuple):
    """Values drawn in one colour: `style` is a class of the page's style sheet."""

    label: str
    style: str
    values: Sequence[float]


class Frame(NamedTuple):
    """The size of the drawing, and the sides of the area of the bars within it."""

    width: int
    height: int
    left: int
    right: int
    top: int
    floor: int


class Mark(NamedTuple):
    """A label of an axis, and where it is along the axis."""

    at: float
    text: str


class Bar(NamedTuple):
    """A rectangle, and the text that a browser shows for it."""

    style: str
    x: float
    y: float
    width: float
    height: float
    title: str


_FRAME = Frame(width=460, height=250, left=40, right=452, top=10, floor=206)


def histogram(series: Sequence[Series], axis: str) -> Markup:
    """A histogram of one or more series over common bins, as an `<svg>` element.

    Zero is always a bin's edge.
    """
    edges = bin_edges([value for one in series for value in one.values])
    counts = [np.histogram(np.clip(one.values, edges[0], edges[-1]), edges)[0] for one in series]
    most = max(int(count.max()) for count in counts)
    step = nice_step(most / 4, least=1)
    highest = step * math.ceil(most / step)
    bars = [
        _bar(one, edges, place, int(height), highest)
        for one, count in zip(series, counts, strict=True)
        for place, height in enumerate(count)
        if height
    ]
    summary = "; ".join(f"{one.label}: {len(one.values)} photos" for one in series)
    return render(
        _TEMPLATE,
        frame=_FRAME,
        label=f"Histogram of {axis}. {summary}",
        axis=axis,
        rules=list(_rules(step, highest)),
        bars=bars,
        ticks=list(_ticks(edges)),
    )


def bin_edges(values: Sequence[float]) -> list[float]:
    """About 20 bins of a round width, from the least value (or zero) to the greatest."""
    reach = _TAIL * float(np.percentile(np.abs(values), 90))
    low = max(min(0.0, *values), -reach) if reach else 0.0
    high = min(max(0.0, *values), reach) if reach else 1.0
    step = nice_step((high - low) / _BINS)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [place * step for place in range(first, max(last, first + 1) + 1)]


def nice_step(wanted: float, least: float = 0.0) -> float:
    """The smallest of 1, 2, 5 · 10ⁿ that is not below `wanted`."""
    power = 10.0 ** math.floor(math.log10(max(wanted, 1e-9)))
    return max(next(f * power for f in (1, 2, 5, 10) if f * power >= wanted * 0.999), least)


def _x(edges: Sequence[float], value: float) -> float:
    share = (value - edges[0]) / (edges[-1] - edges[0])
    return _FRAME.left + share * (_FRAME.right - _FRAME.left)


def _y(count: float, highest: float) -> float:
    return _FRAME.floor - count / highest * (_FRAME.floor - _FRAME.top)


def _bar(one: Series, edges: Sequence[float], place: int, height: int, highest: float) -> Bar:
    left, right = _x(edges, edges[place]), _x(edges, edges[place + 1])
    top = _y(height, highest)
    low, high = (f"{edge:.4g}" for edge in edges[place : place + 2])
    title = f"{one.label}, {low} to {high}: {height} photos"
    return Bar(one.style, left + 0.5, top, right - left - 1, _FRAME.floor - top, title)


def _rules(step: float, highest: float) -> Iterator[Mark]:
    for number in range(round(highest / step) + 1):
        yield Mark(_y(number * step, highest), f"{number * step:g}")


def _ticks(edges: Sequence[float]) -> Iterator[Mark]:
    width = edges[1] - edges[0]
    step = width * max(1, round(nice_step((edges[-1] - edges[0]) / 6) / width))
    for number in range(math.ceil(edges[0] / step - 1e-9), math.floor(edges[-1] / step + 1e-9) + 1):
        yield Mark(_x(edges, number * step), f"{number * step:.4g}")
