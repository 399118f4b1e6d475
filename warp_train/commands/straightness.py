"""`straightness`: what a trained model is worth on photos of a chessboard."""

from __future__ import annotations

import argparse
from pathlib import Path

from warp_train.commands.common import (
    add_command,
    add_device,
    add_model,
    check_writable,
    write_result,
)
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.progress import Progress

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
    from warp_train.evaluation.boards_table import boards_json, straightness_table
    from warp_train.evaluation.straightness import calibrated, measure
    from warp_train.inference.straightener import Straightener
    from warp_train.runtime.json_text import to_json

    paths = list_images(arguments.photos, "DIR")
    straightener = Straightener.from_pretrained(arguments.model, arguments.device)
    progress = Progress(len(paths), "photo")
    boards, broken = [], 0
    for path in paths:
        try:
            board = measure(path, straightener, *arguments.corners)
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
    print(straightness_table(boards, len(paths)), flush=True)
    if arguments.json is not None:
        content = to_json(boards_json(boards, straightener.model_hash), indent=2)
        write_result("--json", arguments.json, content + "\n")
    return 1 if broken else 0
