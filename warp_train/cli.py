"""The commands. Everything heavy is imported by the command that needs it, so help is instant."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from warp_train import __version__
from warp_train.errors import WarpTrainError

Command = Callable[[argparse.Namespace], int]

_DESCRIPTION = "Trains networks that straighten photographs."
_TRAIN_HELP = """\
examples:
  warp-train train recipes/quickstart.yaml
  warp-train train recipes/stage1_param_only.yaml data.source=pairs data.root=photos/train
  warp-train train recipes/stage2_hybrid.yaml --init-from outputs/runs/stage1_param_only
  warp-train train recipes/three_stages.yaml --run-name night train.batch_size=32
  warp-train train recipes/stage1_param_only.yaml --resume-from auto
  accelerate launch --config_file launch/multi_gpu.yaml -m warp_train train RECIPE
"""
_CHECK_HELP = """\
examples:
  warp-train check recipes/stage1_param_only.yaml
  warp-train check recipes/three_stages.yaml optim.lr=1e-4 "data.size=[256, 384]"
"""
_SCHEMA_HELP = """\
examples:
  warp-train schema --out recipes/recipe.schema.json

Editors that know YAML schemas complete the keys of a recipe that starts with
  # yaml-language-server: $schema=recipe.schema.json
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line instead of printing the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code: 0, 1 failed, 2 usage, 130 or 143 interrupted."""
    arguments = _parse(sys.argv[1:] if argv is None else list(argv))
    command: Command = arguments.command
    try:
        return command(arguments)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        _report(error, debug=arguments.debug)
        return 1


def _train(arguments: argparse.Namespace) -> int:
    # Before torch loads its OpenMP runtime. By default its threads wait for each other spinning,
    # which slows training down several times on a CPU whose cores also load data.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from warp_train.recipe import load_recipe, recipe_warnings

    recipe = load_recipe(
        arguments.recipe,
        arguments.overrides,
        run_name=arguments.run_name,
        init_from=arguments.init_from,
    )
    from warp_train.training.stages import RunOptions, run

    if _rank() == 0 and not arguments.resume_from:
        for warning in recipe_warnings(recipe):
            _say(f"warning: {warning}")
    return run(recipe, RunOptions(arguments.resume_from, arguments.validate_only))


def _check(arguments: argparse.Namespace) -> int:
    from warp_train.recipe import dump_recipe, load_recipe, recipe_warnings

    recipe = load_recipe(arguments.recipe, arguments.overrides)
    sys.stdout.write(dump_recipe(recipe))
    sys.stdout.flush()
    for warning in recipe_warnings(recipe):
        _say(f"warning: {warning}")
    return 0


def _schema(arguments: argparse.Namespace) -> int:
    from warp_train.recipe import recipe_schema

    text = json.dumps(recipe_schema(), indent=2) + "\n"
    if arguments.out is None:
        sys.stdout.write(text)
        sys.stdout.flush()
        return 0
    try:
        arguments.out.write_text(text)
    except OSError as error:
        raise WarpTrainError(f"--out {arguments.out}: {error.strerror}") from error
    return 0


def _parse(argv: list[str]) -> argparse.Namespace:
    """Parses everything but overrides, then takes those from what argparse left over.

    A list positional would swallow nothing once an option stands between RECIPE and the overrides.
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
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    train = _add(commands, "train", _train, "train a stage or a chain of stages", _TRAIN_HELP)
    _add_recipe(train, "[--init-from P] [--resume-from P|auto] [--validate-only] [--run-name N]")
    train.add_argument(
        "--init-from",
        metavar="P",
        type=_text,
        help="start from the weights of this run or checkpoint folder (a chain: its first stage)",
    )
    train.add_argument(
        "--resume-from",
        metavar="P|auto",
        type=_text,
        help="go on where this run or checkpoint stopped; auto: where this recipe's own run did",
    )
    train.add_argument(
        "--validate-only",
        action="store_true",
        help="validate the weights that --init-from or --resume-from name, and stop",
    )
    train.add_argument("--run-name", metavar="N", type=_text, help="name of the run's folder")

    check = _add(
        commands,
        "check",
        _check,
        "resolve and validate a recipe, print it with every key, touch nothing",
        _CHECK_HELP,
    )
    _add_recipe(check, "[--debug]")

    schema = _add(commands, "schema", _schema, "print the JSON schema of recipes", _SCHEMA_HELP)
    schema.add_argument("--out", metavar="FILE", type=Path, help="write it to this file instead")
    return parser


def _add(
    commands: argparse._SubParsersAction[_Parser],
    name: str,
    command: Command,
    summary: str,
    examples: str,
) -> argparse.ArgumentParser:
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


def _add_recipe(parser: argparse.ArgumentParser, options: str) -> None:
    parser.usage = f"{parser.prog} RECIPE {options} [key=value ...]"
    parser.add_argument(
        "recipe",
        metavar="RECIPE",
        type=Path,
        help="YAML file; `key.sub=value` after it (YAML values) changes keys, the last one wins",
    )


def _text(value: str) -> str:
    if not value:
        raise argparse.ArgumentTypeError("must not be empty")
    return value


def _similar_option(text: str, parser: argparse.ArgumentParser) -> str:
    known = list(parser._option_string_actions)
    near = difflib.get_close_matches(text.partition("=")[0], known, 1)
    return f" (did you mean {near[0]}?)" if near else ""


def _report(error: Exception, *, debug: bool) -> None:
    """One line on stderr.

    What is wrong with a recipe is wrong in every process, so only the first says it; anything else
    may have hit a single process, which then names its rank.
    """
    if debug:
        traceback.print_exception(error)
    name = "" if isinstance(error, WarpTrainError) else f"{type(error).__name__}: "
    hint = "" if name == "" or debug else "  (run again with --debug for the traceback)"
    if _rank() == 0:
        _say(f"error: {name}{_one_line(error)}{hint}")
    elif name:
        _say(f"error: rank {_rank()}: {name}{_one_line(error)}{hint}")


def _say(line: str) -> None:
    print(f"warp-train: {line}", file=sys.stderr)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _rank() -> int:
    """This process's rank under `accelerate launch`; 0 alone."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")))
