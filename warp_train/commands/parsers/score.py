"""The parser of `score`."""

from __future__ import annotations

import argparse

from warp_train.commands.files import check_writable
from warp_train.commands.parsers.options import (
    Subparsers,
    add_command,
    add_workers,
    path,
)

_EXAMPLES = """\
Two images are compared if they have the same path below their folders (the suffix aside), or else
the same image id: x, x_original and x_original_rectified are all predictions of x or x_generated.

The exit code is 1 if an image has no counterpart, cannot be read or has another size. All others
are scored; an image of another size counts with a score of 0.

examples:
  warp-train score corrected/ photos/val/
  warp-train score corrected/ photos/val/ --json scores.json --workers 8
  warp-train score corrected/house1_g3.jpg photos/val/house1_g3_generated.jpg
"""


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    """Declares `score`."""
    score = add_command(
        commands,
        "score",
        "score predicted images against the ground truth",
        _EXAMPLES,
        check=_check,
    )
    score.add_argument(
        "pred", metavar="PRED_DIR", type=path, help="folder of predicted images, or one image"
    )
    score.add_argument(
        "gt", metavar="GT_DIR", type=path, help="folder of images as they should be, or one image"
    )
    score.add_argument(
        "--json", metavar="FILE", type=path, help="write the scores of every image to this file"
    )
    add_workers(score)


def _check(arguments: argparse.Namespace) -> None:
    check_writable("--json", arguments.json)
