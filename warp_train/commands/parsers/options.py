"""How commands declare themselves, and the options that several of them have."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from warp_train.commands.workers import WorkerRule
from warp_train.runtime.home import with_home

Subparsers = argparse._SubParsersAction  # argparse has no public name for it


def add_command(
    commands: Subparsers[argparse.ArgumentParser],
    name: str,
    summary: str,
    examples: str,
    *,
    environment: Mapping[str, str] | None = None,
    check: Callable[[argparse.Namespace], None] = lambda arguments: None,
) -> argparse.ArgumentParser:
    """Declares a command, which the function `run` of `warp_train.commands.<name>` executes.

    Args:
        environment: variables to set, unless they are set, before that module is imported:
            libraries such as OpenMP's read them once, when they are loaded.
        check: called with the arguments before that import, which can take seconds; reports what
            is wrong with them by `parser.error` or a WarpTrainError.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(command=name, parser=parser, environment=environment or {}, check=check)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


PASSIVE_OPENMP = {"OMP_WAIT_POLICY": "PASSIVE"}
"""By default OpenMP's idle threads spin, which slows a CPU down several times whose cores also load
data or run workers."""


def text(value: str) -> str:
    """The type of an argument that must not be empty."""
    if not value:
        raise argparse.ArgumentTypeError("must not be empty")
    return value


def path(value: str) -> Path:
    """The type of an argument that is a path."""
    return Path(with_home(value))


def place(value: str) -> str:
    """The type of an argument that is a path, or another name such as `auto`."""
    return with_home(text(value))


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """The type of an argument that is a whole number from `least` to `most`."""

    def number(value: str) -> int:
        if not value.isdecimal() or int(value) < least or (most and int(value) > most):
            wanted = f"from {least}" + (f" to {most}" if most else "")
            raise argparse.ArgumentTypeError(f"must be a whole number {wanted}, got '{value}'")
        return int(value)

    return number


def add_model(parser: argparse.ArgumentParser) -> None:
    """Declares `MODEL`."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        type=text,
        help="tiny (comes with the package), run folder, checkpoint folder or hub id",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Declares `--device`."""
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda", "mps"),
        default="auto",
        help="where the network runs (default: %(default)s, a GPU where there is one)",
    )


def add_workers(parser: argparse.ArgumentParser, rule: WorkerRule | None = None) -> None:
    """Declares `--workers`; `chosen_workers` finds the number by the same rule."""
    rule = rule or WorkerRule()
    alone = "; 0: no others, this process does the work" if rule.least == 0 else ""
    limit = f", at most {rule.most_by_default}" if rule.most_by_default < rule.most else ""
    parser.add_argument(
        "--workers",
        metavar="N",
        type=whole_number(rule.least, rule.most),
        help=f"processes of one thread each, {rule.least} to {rule.most}{alone} (default: one per "
        f"core{limit}, here {rule.default}; fewer for little work)",
    )
    parser.set_defaults(worker_rule=rule)


def add_recipe(parser: argparse.ArgumentParser, options: str) -> None:
    """Declares `RECIPE`, after which the command line may hold overrides `key.sub=value`.

    Args:
        options: the other options, for the usage line.
    """
    parser.usage = f"{parser.prog} RECIPE {options} [key=value ...]"
    parser.add_argument(
        "recipe",
        metavar="RECIPE",
        type=path,
        help="YAML file; `key.sub=value` after it (YAML values) changes keys, the last one wins",
    )
