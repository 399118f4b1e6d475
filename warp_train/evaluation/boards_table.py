"""How straight the boards of a folder are: as a table for the terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from warp_train.evaluation.straightness import Board
from warp_train.runtime.tables import UNKNOWN, Cells, aligned_lines

_FIGURES = ("mean", "median", "worst")


class BoardFigures(TypedDict):
    """The figures of one board: deviations in ‰ of its diagonal."""

    photo: str
    as_it_is: float
    model: float
    one_lens: float | None
    calibration: float | None


class BoardsReport(TypedDict):
    """The contents of the JSON file."""

    boards: list[BoardFigures]
    model_hash: str


def straightness_table(boards: Sequence[Board], photos: int) -> str:
    """Mean, median and worst deviation of the boards.

    Args:
        boards: those that were found.
        photos: how many photos were searched for boards.
    """
    deviations = {
        "as it is": [board.as_it_is for board in boards],
        "model": [board.model for board in boards],
        "one lens": [b.one_lens for b in boards if b.one_lens is not None],
        "calibration": [b.calibration for b in boards if b.calibration is not None],
    }
    title = f"boards in {len(boards)} of {photos} photos; off straight, in ‰ of their diagonal"
    rows = [_row(name, values) for name, values in deviations.items()]
    return "\n".join([title, *aligned_lines([("", "boards", *_FIGURES), *rows])])


def boards_json(boards: Sequence[Board], model_hash: str) -> BoardsReport:
    """The deviations of each board, for other programs."""
    return {
        "boards": [
            {
                "photo": str(board.photo),
                "as_it_is": board.as_it_is,
                "model": board.model,
                "one_lens": board.one_lens,
                "calibration": board.calibration,
            }
            for board in boards
        ],
        "model_hash": model_hash,
    }


def _row(name: str, values: Sequence[float]) -> Cells:
    if not values:
        return (name, "0", *(UNKNOWN for _ in _FIGURES))
    figures = (np.mean(values), np.median(values), np.max(values))
    return (name, str(len(values)), *(f"{float(figure):.2f}" for figure in figures))
