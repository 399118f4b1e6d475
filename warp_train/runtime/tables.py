"""Tables as aligned text, for a terminal or a log, and the cells that they are made of."""

from __future__ import annotations

from collections.abc import Collection, Iterable

Cells = tuple[str, ...]

UNKNOWN = "–"
_GAP = "  "
_FIRST = frozenset({0})


def cell(value: float | None, form: str) -> str:
    """A number in a format such as `.3f`, or a dash where there is none."""
    return UNKNOWN if value is None else format(value, form)


def ratio(value: float | None, reference: float | None) -> float | None:
    """`value / reference`; None where either is unknown or the reference is zero."""
    return value / reference if value is not None and reference else None


def text_table(header: Cells, rows: Iterable[Cells]) -> str:
    """The header, a rule and the rows: the first column to the left, the others to the right."""
    return "\n".join(table_lines(header, rows))


def table_lines(header: Cells, rows: Iterable[Cells]) -> list[str]:
    """The lines of `text_table`, for callers that put others between them."""
    head, *lines = aligned_lines([header, *rows])
    return [head, "-" * len(head), *lines]


def aligned_lines(rows: Iterable[Cells], left: Collection[int] = _FIRST) -> list[str]:
    """A line for each row, in columns that are as wide as their widest cell.

    Args:
        rows: all with the same number of cells.
        left: the columns that are aligned to the left.
    """
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        _GAP.join(
            text.ljust(width) if place in left else text.rjust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
