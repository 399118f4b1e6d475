"""Histograms as inline SVG: no script, no font and no colour but the page's own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np

_WIDTH, _HEIGHT = 460, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 8, 10, 44
_BINS = 20
_TAIL = 3.0
"""Bins end at this multiple of the 90th percentile: one photo gone wild must not flatten the rest.
What lies beyond counts in the outermost bin."""


class Series(NamedTuple):
    """Values drawn in one colour: `style` is a class of the page's style sheet."""

    label: str
    style: str
    values: Sequence[float]


def histogram(series: Sequence[Series], axis: str) -> str:
    """A histogram of one or more series over common bins, as an `<svg>` element.

    Zero is always a bin's edge.
    """
    edges = bin_edges([value for one in series for value in one.values])
    counts = [np.histogram(np.clip(one.values, edges[0], edges[-1]), edges)[0] for one in series]
    top = _nice_step(max(int(count.max()) for count in counts) / 4, least=1)
    highest = top * math.ceil(max(int(count.max()) for count in counts) / top)
    bars = [
        _bar(one, edges, place, int(height), highest)
        for one, count in zip(series, counts, strict=True)
        for place, height in enumerate(count)
        if height
    ]
    summary = "; ".join(f"{one.label}: {len(one.values)} photos" for one in series)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(f"Histogram of {axis}. {summary}")}">'
        f"{_rows(top, highest)}{''.join(bars)}{_columns(edges)}"
        f'<text class="axis" x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 6}" '
        f'text-anchor="middle">{escape(axis)}</text></svg>'
    )


def bin_edges(values: Sequence[float]) -> list[float]:
    """About 20 bins of a round width, from the least value (or zero) to the greatest."""
    reach = _TAIL * float(np.percentile(np.abs(values), 90))
    low = max(min(0.0, *values), -reach) if reach else 0.0
    high = min(max(0.0, *values), reach) if reach else 1.0
    step = _nice_step((high - low) / _BINS)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [place * step for place in range(first, max(last, first + 1) + 1)]


def _nice_step(wanted: float, least: float = 0.0) -> float:
    """The smallest of 1, 2, 5 · 10ⁿ that is not below `wanted`."""
    power = 10.0 ** math.floor(math.log10(max(wanted, 1e-9)))
    return max(next(f * power for f in (1, 2, 5, 10) if f * power >= wanted * 0.999), least)


def _x(edges: Sequence[float], value: float) -> float:
    share = (value - edges[0]) / (edges[-1] - edges[0])
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _y(count: float, highest: float) -> float:
    return _HEIGHT - _BOTTOM - count / highest * (_HEIGHT - _TOP - _BOTTOM)


def _bar(one: Series, edges: Sequence[float], place: int, height: int, highest: float) -> str:
    left, right = _x(edges, edges[place]), _x(edges, edges[place + 1])
    top, floor = _y(height, highest), _y(0, highest)
    low, high = (f"{edge:.4g}" for edge in edges[place : place + 2])
    return (
        f'<rect class="{one.style}" x="{left + 0.5:.1f}" y="{top:.1f}" '
        f'width="{right - left - 1:.1f}" height="{floor - top:.1f}">'
        f"<title>{escape(f'{one.label}, {low} to {high}: {height} photos')}</title></rect>"
    )


def _rows(step: float, highest: float) -> str:
    lines = []
    for number in range(round(highest / step) + 1):
        y = _y(number * step, highest)
        lines.append(
            f'<line class="rule" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
            f"{number * step:g}</text>"
        )
    return "".join(lines)


def _columns(edges: Sequence[float]) -> str:
    width = edges[1] - edges[0]
    step = width * max(1, round(_nice_step((edges[-1] - edges[0]) / 6) / width))
    ticks = []
    for number in range(math.ceil(edges[0] / step - 1e-9), math.floor(edges[-1] / step + 1e-9) + 1):
        x = _x(edges, number * step)
        ticks.append(
            f'<text class="tick" x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">'
            f"{number * step:.4g}</text>"
        )
    return "".join(ticks)
