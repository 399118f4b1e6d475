"""Rows of dots with error bars along one axis, as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from warp_train.evaluation.report.charts import Frame, Mark, bin_edges, nice_step
from warp_train.evaluation.report.templates import render

_TEMPLATE = "dots.svg.jinja"
_WIDTH, _LEFT, _RIGHT, _TOP = 920, 170, 908, 8
_BELOW = 44  # for ticks and the axis
_APART, _HIGHEST = 7.0, 98.0
"""Between the dots of a row, as long as the row is not too high."""
_AROUND = 10.0  # above and below the dots of a row
_LONGEST = 24  # letters of a label
_TICKS = 8


class Dot(NamedTuple):
    """A value with an error bar. `style` is a class of the page's style sheet, and `title` the text
    that a browser shows for it."""

    style: str
    value: float
    error: float
    title: str


class Row(NamedTuple):
    """Dots under one label."""

    label: str
    spread: float
    """The bar from zero to here is that of what the dots are measured from."""
    dots: Sequence[Dot]


class DrawnDot(NamedTuple):
    """A dot and its error bar in the drawing."""

    style: str
    x: float
    y: float
    low: float
    high: float
    title: str


class DrawnRow(NamedTuple):
    """A row in the drawing, from `y` down."""

    label: str
    name: str
    y: float
    height: float
    spread: float
    title: str
    dots: Sequence[DrawnDot]


def dot_rows(rows: Sequence[Row], axis: str) -> Markup:
    """The rows one below the other, as an `<svg>` element. Values are 0 or more; those beyond the
    axis are at its end, and their titles have the number."""
    ends = [dot.value + dot.error for row in rows for dot in row.dots]
    high = bin_edges([*ends, *(row.spread for row in rows)])[-1]
    drawn: list[DrawnRow] = []
    top = float(_TOP)
    for row in rows:
        drawn.append(_drawn(row, top, high))
        top += drawn[-1].height
    frame = Frame(_WIDTH, round(top) + _BELOW, _LEFT, _RIGHT, _TOP, round(top))
    step = nice_step(high / _TICKS)
    ticks = [Mark(_x(n * step, high), f"{n * step:g}") for n in range(int(high / step + 1e-9) + 1)]
    dots = sum(len(row.dots) for row in rows)
    label = f"{axis}: {dots} photos in {len(rows)} rows"
    return render(_TEMPLATE, frame=frame, label=label, axis=axis, rows=drawn, ticks=ticks)


def _drawn(row: Row, top: float, high: float) -> DrawnRow:
    apart = min(_APART, _HIGHEST / max(len(row.dots), 1))
    height = apart * (len(row.dots) - 1) + 2 * _AROUND
    dots = [
        DrawnDot(
            dot.style,
            _x(dot.value, high),
            top + _AROUND + apart * number,
            _x(dot.value - dot.error, high),
            _x(dot.value + dot.error, high),
            dot.title,
        )
        for number, dot in enumerate(row.dots)
    ]
    short = row.label if len(row.label) <= _LONGEST else f"{row.label[: _LONGEST - 1]}…"
    title = f"{row.label}: common lens ± {row.spread:.2f} px"
    return DrawnRow(short, row.label, top, height, _x(row.spread, high), title, dots)


def _x(value: float, high: float) -> float:
    return _LEFT + min(max(value / high, 0.0), 1.0) * (_RIGHT - _LEFT)
