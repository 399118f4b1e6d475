"""`--print-completion`: the program's commands and options for the completion of a shell."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from warp_train.commands.parsers.options import path

_SHELLS = ("bash", "zsh")
_NAMES_OF_PLACES = ("model", "inputs", "init_from", "resume_from")
"""Arguments that are paths or other names, such as `tiny` or `auto`."""


def add_completion(parser: argparse.ArgumentParser) -> None:
    """Declares `--print-completion`, for the parser of the program itself."""
    parser.add_argument(
        "--print-completion",
        action=_PrintCompletion,
        choices=_SHELLS,
        metavar="|".join(_SHELLS),
        help="print a script that completes commands, options and files in this shell, and stop",
    )


class _PrintCompletion(argparse.Action):
    """Prints the script of shtab, which is imported here alone, and ends the program."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        try:
            import shtab
        except ImportError:
            parser.exit(
                1,
                f"{parser.prog}: error: {option_string}: the package shtab is not installed; "
                "pip install 'warp_train[completion]'\n",
            )
        for action in _actions(parser):
            if action.type is path or action.dest in _NAMES_OF_PLACES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]  # shtab reads it
        print(shtab.complete(parser, values))
        parser.exit(0)


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The arguments of a parser and of its commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
