"""The parser of `schema`."""

from __future__ import annotations

import argparse

from warp_train.commands.files import check_writable
from warp_train.commands.parsers.options import Subparsers, add_command, path

_EXAMPLES = """\
examples:
  warp-train schema --out recipes/recipe.schema.json

Editors that support YAML schemas complete the keys of a recipe that starts with
  # yaml-language-server: $schema=recipe.schema.json
"""


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    """Declares `schema`."""
    parser = add_command(
        commands, "schema", "print the JSON schema of recipes", _EXAMPLES, check=_check
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=path,
        help="write it to this file instead of printing it",
    )


def _check(arguments: argparse.Namespace) -> None:
    check_writable("--out", arguments.out)
