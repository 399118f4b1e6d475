"""What the commands share: how they are declared, and how they talk to the user."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

Command = Callable[[argparse.Namespace], int]


def add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    command: Command,
    summary: str,
    examples: str,
) -> argparse.ArgumentParser:
    """Declares a command; its module imports what is heavy only when it runs."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(command=command, parser=parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def text(value: str) -> str:
    """An argument that must not be empty."""
    if not value:
        raise argparse.ArgumentTypeError("must not be empty")
    return value


def say(line: str) -> None:
    """One line to the user, on standard error."""
    print(f"warp-train: {line}", file=sys.stderr)


def rank() -> int:
    """This process's rank under `accelerate launch`; 0 alone."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")))
