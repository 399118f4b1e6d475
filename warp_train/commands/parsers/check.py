"""The parser of `check`."""

from __future__ import annotations

import argparse

from warp_train.commands.parsers.options import Subparsers, add_command, add_recipe

_EXAMPLES = """\
examples:
  warp-train check recipes/stage1_param_only.yaml
  warp-train check recipes/three_stages.yaml optim.lr=1e-4 "data.size=[256, 384]"
"""


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    """Declares `check`."""
    parser = add_command(
        commands,
        "check",
        "validate a recipe and print it with every key; writes no files",
        _EXAMPLES,
    )
    add_recipe(parser, "[--debug]")
