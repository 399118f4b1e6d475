"""What the commands share: how they are declared, and how they talk to the user."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from warp_train.runtime.errors import WarpTrainError

MOST_WORKERS = 256
"""Processes that a command may be asked for."""

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


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """The type of an argument that is a whole number in a range."""

    def number(value: str) -> int:
        if not value.isdecimal() or int(value) < least or (most and int(value) > most):
            wanted = f"from {least}" + (f" to {most}" if most else "")
            raise argparse.ArgumentTypeError(f"must be a whole number {wanted}, got '{value}'")
        return int(value)

    return number


def add_model(parser: argparse.ArgumentParser) -> None:
    """Declares `MODEL`."""
    parser.add_argument(
        "model", metavar="MODEL", type=text, help="run folder, checkpoint folder or hub id"
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Declares `--device`."""
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda", "mps"),
        default="auto",
        help="where the network runs (default: %(default)s, a GPU where there is one)",
    )


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Declares `--workers`, for `chosen_workers`."""
    parser.add_argument(
        "--workers",
        metavar="N",
        type=whole_number(0, MOST_WORKERS),
        help="processes, of one thread each; 0: this one alone (default: one a core, as far as it "
        "pays)",
    )


def check_writable(option: str, path: Path | None) -> None:
    """Says at once what would otherwise come to light after all the work.

    Raises:
        WarpTrainError: `path` cannot be written to; it names the option.
    """
    if path is None:
        return
    if path.is_dir():
        raise WarpTrainError(f"{option} {path}: is a folder")
    if not path.absolute().parent.is_dir():
        raise WarpTrainError(f"{option} {path}: there is no folder {path.parent}")
    if not os.access(path.absolute().parent, os.W_OK):
        raise WarpTrainError(f"{option} {path}: its folder cannot be written to")


def write_result(option: str, path: Path, content: str) -> None:
    """Writes what a command was asked for, whole or not at all."""
    from warp_train.runtime.atomic_files import write_atomically

    try:
        write_atomically(path, content)
    except OSError as error:
        raise WarpTrainError(f"{option} {path}: {error.strerror}") from error


def chosen_workers(asked: int | None, items: int, items_per_worker: int) -> int:
    """Processes as asked for; else one a usable core, as far as each has enough to do to pay for
    its start, and 0 where a second one would not."""
    if asked is not None:
        return asked
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    workers = min(cores or 1, items // items_per_worker, MOST_WORKERS)
    return workers if workers > 1 else 0
