"""The parser of `recipes`."""

from __future__ import annotations

import argparse

from warp_train.commands.parsers.options import Subparsers, add_command, text

_EXAMPLES = """\
examples:
  warp-train recipes
  warp-train train quickstart
  warp-train recipes photos > mine.yaml

Where a command takes a recipe, and after `extends` in a recipe of your own, a bare name is one of
these, unless there is a file of that name.
"""


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    """Declares `recipes`."""
    parser = add_command(
        commands, "recipes", "list the recipes that come with the package", _EXAMPLES
    )
    parser.add_argument(
        "name", metavar="NAME", type=text, nargs="?", help="print the file of this recipe"
    )
