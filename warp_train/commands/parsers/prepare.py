"""The parser of `prepare`."""

from __future__ import annotations

import argparse
from pathlib import Path

from warp_train.commands.parsers.options import (
    Subparsers,
    add_command,
    add_recipe,
    add_workers,
)

_EXAMPLES = """\
examples:
  warp-train prepare recipes/photos.yaml data.root=photos --out cache
  warp-train train recipes/photos.yaml data.root=cache

Reads the photos that a recipe with data.source photos or pairs names, training and validation
alike, and writes them at the size that it trains on to tar shards in DIR: WebDataset's format. A
recipe that names DIR as data.root is trained from it, and from nothing else. Pairs give exactly
the samples that their files do. Photos that are much larger than data.size are stored smaller, 2.5
photo pixels a pixel of the frame; others as they are.

Started again, the command goes on where it was. The exit code is 1 if a photo could not be read;
a line says which and why, and the cache does without it.
"""


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    """Declares `prepare`."""
    parser = add_command(
        commands, "prepare", "store photos in shards that training reads quickly", _EXAMPLES
    )
    add_recipe(parser, "--out DIR [--workers N]")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="folder to write or go on"
    )
    add_workers(parser)
