"""The parser of `recover`."""

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
examples:
  warp-train recover photos/train --out warps.jsonl
  warp-train recover photos/manifest.csv --out warps.jsonl --workers 8
  warp-train train recipes/quickstart.yaml data.source=pairs data.root=photos/train \\
      data.warps=warps.jsonl

The two photos of each pair are registered. The pair's line in FILE contains the eight lens
parameters, "error_px" (an estimate of their mean error in px of the photo) and "ok" (true if that
is small enough for training: 0.14 px for a photo 480 px long, in proportion for a longer one).
Lens columns of a manifest are ignored.

Where the eight parameters leave more than the uncertainty of registration, the line also contains
"profile" (33 numbers), the radial displacement that they leave over at distances r = 0, 1/32 ... 1
from the lens's centre (in half diagonals, positive outwards, linear in between), and
"profile_error_px", an estimate of the mean error of lens and profile together. data.warps uses lens
and profile, or the lens alone where there is no profile and the lens is "ok".

A command that is started again continues: pairs with a line are skipped, failed ones are tried
again. The exit code is 1 if a pair could not be read; its line contains the reason under "error".
"""


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    """Declares `recover`."""
    parser = add_command(
        commands,
        "recover",
        "find the lens between the photos of each pair",
        _EXAMPLES,
        check=_check,
    )
    parser.add_argument(
        "pairs",
        metavar="PAIRS",
        type=path,
        help="folder of *_original.* with *_generated.* photos, or a manifest (.csv, .jsonl)",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=path,
        required=True,
        help="JSON Lines file to write or continue",
    )
    add_workers(parser)


def _check(arguments: argparse.Namespace) -> None:
    check_writable("--out", arguments.out)
