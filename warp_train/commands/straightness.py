"""`straightness`: what a trained model is worth on photos of a chessboard."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from warp_train.commands.common import (
    add_command,
    add_device,
    add_model,
    check_writable,
    write_result,
)
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.progress import Progress

if TYPE_CHECKING:
    from warp_train.evaluation.straightness import Board

_HELP = """\
examples:
  warp-train straightness outputs/runs/photos boards/
  warp-train straightness outputs/runs/photos boards/ --corners 7x5 --json boards.json

DIR holds photos of a flat chessboard by one camera, one board in each. How far its inner corners
are off straight rows and columns, root mean square in thousandths of the board's diagonal:
  as it is      in the photo
  model         moved by the model's warp, as rectify would apply it; it sees one photo at a time
  calibration   by OpenCV's calibration, which is told of the boards and sees all photos together
No truth but straightness is used. Photos without a board that OpenCV finds are named and left out.
"""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declares `straightness`."""
    parser = add_command(
        commands,
        "straightness",
        _straightness,
        "measure a model on photos of a chessboard, whose lines are known to be straight",
        _HELP,
    )
    add_model(parser)
    parser.add_argument("photos", metavar="DIR", type=Path, help="folder of photos of the board")
    parser.add_argument(
        "--corners",
        metavar="CxR",
        type=_corners,
        default=(9, 6),
        help="inner corners along the board's sides: squares less one (default: 9x6)",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all figures to FILE")
    add_device(parser)


def _corners(value: str) -> tuple[int, int]:
    columns, cross, rows = value.partition("x")
    if not (cross and columns.isdecimal() and rows.isdecimal() and int(columns) > 2 < int(rows)):
        raise argparse.ArgumentTypeError(f"must be like 9x6, 3 or more a side, got '{value}'")
    return int(columns), int(rows)


def _straightness(arguments: argparse.Namespace) -> int:
    check_writable("--json", arguments.json)
    from warp_train.data.decoding import BadSample
    from warp_train.data.sources.files import list_images
    from warp_train.evaluation.straightness import calibrated, measure
    from warp_train.inference.predictor import load_predictor

    paths = list_images(arguments.photos, "DIR")
    predictor = load_predictor(arguments.model, arguments.device)
    progress = Progress(len(paths), "photo")
    boards, broken = [], 0
    for path in paths:
        try:
            board = measure(path, predictor, *arguments.corners)
        except BadSample as bad:
            broken += 1
            progress.error(str(bad))
        else:
            if board is None:
                corners = "x".join(map(str, arguments.corners))
                progress.note(f"{path}: no board of {corners} corners found")
            else:
                boards.append(board)
        progress.advance()
    progress.close()
    if not boards:
        raise WarpTrainError(f"{arguments.photos}: no board was found in {len(paths)} photos")
    boards = calibrated(boards)
    print(_table(boards, len(paths)), flush=True)
    if arguments.json is not None:
        _write(arguments.json, boards, predictor.model_hash)
    return 1 if broken else 0


def _table(boards: Sequence[Board], photos: int) -> str:
    import numpy as np

    rows = {
        "as it is": [board.as_it_is for board in boards],
        "model": [board.model for board in boards],
        "calibration": [b.calibration for b in boards if b.calibration is not None],
    }
    lines = [
        f"boards in {len(boards)} of {photos} photos; off straight, in ‰ of their diagonal",
        f"{'':<12}{'boards':>8}{'mean':>8}{'median':>8}{'worst':>8}",
    ]
    for name, values in rows.items():
        figures = (np.mean(values), np.median(values), np.max(values)) if values else ()
        cells = [f"{float(figure):.2f}" for figure in figures] or ["–"] * 3
        lines.append(f"{name:<12}{len(values):>8}" + "".join(f"{cell:>8}" for cell in cells))
    return "\n".join(lines)


def _write(path: Path, boards: Sequence[Board], model_hash: str) -> None:
    from warp_train.runtime.json_text import to_json

    found = [
        {
            "photo": str(board.photo),
            "as_it_is": board.as_it_is,
            "model": board.model,
            "calibration": board.calibration,
        }
        for board in boards
    ]
    content = to_json({"boards": found, "model_hash": model_hash}, indent=2)
    write_result("--json", path, content + "\n")
