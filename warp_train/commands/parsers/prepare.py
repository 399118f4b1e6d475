"""The parser of `prepare`."""

from __future__ import annotations

import argparse

from warp_train.commands.parsers.options import (
    Subparsers,
    add_command,
    add_recipe,
    add_workers,
    path,
)

_EXAMPLES = """\
examples:
  warp-train prepare recipes/photos.yaml data.root=photos --out cache
  warp-train train recipes/photos.yaml data.root=cache

Reads the training and validation photos of a recipe with data.source photos or pairs, and stores
them at training size as tar shards in DIR (WebDataset's format). A recipe with data.root=DIR then
trains from the shards alone. Pairs give exactly the same samples as their files. Photos much larger
than data.size are reduced to 2.5 photo pixels per frame pixel; others are stored unchanged.

A command that is started again continues where it stopped. The exit code is 1 if a photo could not
be read; it is named and left out.
"""


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    """Declares `prepare`."""
    parser = add_command(
        commands, "prepare", "store photos in shards that training reads quickly", _EXAMPLES
    )
    add_recipe(parser, "--out DIR [--workers N]")
    parser.add_argument(
        "--out", metavar="DIR", type=path, required=True, help="folder to write or continue"
    )
    add_workers(parser)
