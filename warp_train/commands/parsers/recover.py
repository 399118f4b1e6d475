"""The parser of `recover`."""

from __future__ import annotations

import argparse
from pathlib import Path

from warp_train.commands.parsers.options import (
    Subparsers,
    add_command,
    add_workers,
)

_EXAMPLES = """\
examples:
  warp-train recover photos/train --out warps.jsonl
  warp-train recover photos/manifest.csv --out warps.jsonl --workers 8
  warp-train train recipes/quickstart.yaml data.source=pairs data.root=photos/train \\
      data.warps=warps.jsonl

Each pair's photos are registered: its line in FILE holds the eight lens parameters, "error_px", an
estimate of their mean error in px of the pair, and "ok", whether that is small enough to learn from
(0.14 px of a photo 480 px long, of a longer one in proportion). Lens columns of a manifest are not
looked at.

Where eight parameters leave more over than registration is unsure of, and the whole warp is sure,
the line holds also "profile" (33 numbers) and "profile_error_px", an estimate of the mean error of
lens and profile together. A corrected position at distance r from the lens's centre is then read
farther out, by "profile" at r, than the lens says: all in half diagonals, for r = 0, 1/32, ... 1,
and linear between. data.warps uses lens and profile; where there is none, the lens if it is "ok".

Started again, the command goes on where it was: pairs that have a line are left alone, except those
that failed. The exit code is 1 if a pair could not be read; its line says why, under "error".
"""


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    """Declares `recover`."""
    parser = add_command(commands, "recover", "find the lens of every photo pair", _EXAMPLES)
    parser.add_argument(
        "pairs",
        metavar="PAIRS",
        type=Path,
        help="folder of *_original.* with *_generated.* photos, or a manifest (.csv, .jsonl)",
    )
    parser.add_argument(
        "--out", metavar="FILE", type=Path, required=True, help="file of lines to write or go on"
    )
    add_workers(parser)
