"""The parser of `straightness`."""

from __future__ import annotations

import argparse

from warp_train.commands.files import check_writable
from warp_train.commands.parsers.options import (
    Subparsers,
    add_command,
    add_device,
    add_model,
    path,
)

_EXAMPLES = """\
examples:
  warp-train straightness outputs/runs/photos boards/
  warp-train straightness outputs/runs/photos boards/ --corners 7x5 --json boards.json

DIR contains photos of a flat chessboard by one camera, one board in each photo. The figures are the
root mean square distances of the inner corners from straight rows and columns, in thousandths of
the board's diagonal:
  as it is      in the photo
  model         after the model's warp, as rectify would apply it, from this photo alone
  calibration   after OpenCV's calibration, which uses the known board and all photos together
No other ground truth is needed. Photos in which OpenCV finds no board are named and left out.
"""


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    """Declares `straightness`."""
    parser = add_command(
        commands,
        "straightness",
        "measure a model on photos of a chessboard, whose lines are straight",
        _EXAMPLES,
        check=_check,
    )
    add_model(parser)
    parser.add_argument("photos", metavar="DIR", type=path, help="folder of photos of the board")
    parser.add_argument(
        "--corners",
        metavar="CxR",
        type=_corners,
        default=(9, 6),
        help="inner corners along the board's sides: squares less one (default: 9x6)",
    )
    parser.add_argument("--json", metavar="FILE", type=path, help="write all figures to FILE")
    add_device(parser)


def _check(arguments: argparse.Namespace) -> None:
    check_writable("--json", arguments.json)


def _corners(value: str) -> tuple[int, int]:
    columns, cross, rows = value.partition("x")
    if not (cross and columns.isdecimal() and rows.isdecimal() and int(columns) > 2 < int(rows)):
        raise argparse.ArgumentTypeError(f"must be like 9x6, 3 or more a side, got '{value}'")
    return int(columns), int(rows)
