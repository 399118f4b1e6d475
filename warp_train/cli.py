"""The command line: parsing, dispatch, and errors in one line.

A command's module is imported when the command runs, so that help and usage errors are instant.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import io
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

from warp_train import __version__
from warp_train.commands.parsers import PARSERS
from warp_train.commands.parsers.completion import add_completion
from warp_train.runtime.console import rank, say
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.memory import keep_memory

_DESCRIPTION = "Trains networks that straighten photographs."


class _Parser(argparse.ArgumentParser):
    """Reports an error in one line instead of printing the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code: 0, 1 failed, 2 usage, 130 or 143 interrupted."""
    _print_all_characters()
    arguments = _parse(sys.argv[1:] if argv is None else list(argv))
    for variable, value in arguments.environment.items():
        os.environ.setdefault(variable, value)
    keep_memory()
    try:
        arguments.check(arguments)
        command: Any = importlib.import_module(f"warp_train.commands.{arguments.command}")
        return int(command.run(arguments))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        _report(error, debug=arguments.debug)
        return 1


def _print_all_characters() -> None:
    """Escapes what a terminal's encoding lacks, as an umlaut in ASCII, instead of failing there."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")


def _parse(argv: list[str]) -> argparse.Namespace:
    """Parses everything but overrides, which are the arguments that argparse leaves over.

    A positional list would stay empty where an option stands between RECIPE and the overrides.
    """
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    fail = arguments.parser.error
    if "recipe" not in arguments:
        if rest:
            fail(f"unexpected argument: {rest[0]}")
        return arguments
    for text in (str(arguments.recipe), *rest):
        if text.startswith("-"):
            fail(f"unknown option: {text}{_similar_option(text, arguments.parser)}")
    if "=" in arguments.recipe.name and not arguments.recipe.exists():
        fail(f"RECIPE is missing before the override {arguments.recipe}")
    for override in rest:
        key, equals, _ = override.partition("=")
        if not equals:
            fail(f"{override}: neither an option nor an override `key=value`")
        if not all(key.split(".")):
            fail(f"{override}: the key of an override is a word, or words joined by dots")
    arguments.overrides = rest
    return arguments


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="warp-train",
        description=_DESCRIPTION,
        epilog="`warp-train COMMAND --help` shows a command's options and examples.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    add_completion(parser)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    for module in PARSERS:
        module.add_parser(commands)
    return parser


def _similar_option(text: str, parser: argparse.ArgumentParser) -> str:
    known = list(parser._option_string_actions)
    near = difflib.get_close_matches(text.partition("=")[0], known, 1)
    return f" (did you mean {near[0]}?)" if near else ""


def _report(error: Exception, *, debug: bool) -> None:
    """One line on stderr.

    An error in a recipe occurs in every process, so only the first one prints it. Other errors may
    have occurred in a single process, which then names its rank.
    """
    if debug:
        traceback.print_exception(error)
    name = "" if isinstance(error, WarpTrainError) else f"{type(error).__name__}: "
    hint = "" if name == "" or debug else "  (run again with --debug for the traceback)"
    if rank() == 0:
        say(f"error: {name}{_one_line(error)}{hint}")
    elif name:
        say(f"error: rank {rank()}: {name}{_one_line(error)}{hint}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
