"""`train`, `check` and `schema`: the commands that take a recipe, or describe one."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from warp_train.commands.common import add_command, text
from warp_train.runtime.console import rank, say
from warp_train.runtime.errors import WarpTrainError

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


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declares `train`, `check` and `schema`."""
    train = add_command(
        commands, "train", _train, "train a stage or a chain of stages", _TRAIN_HELP
    )
    _add_recipe(train, "[--init-from P] [--resume-from P|auto] [--validate-only] [--run-name N]")
    train.add_argument(
        "--init-from",
        metavar="P",
        type=text,
        help="start from the weights of this run or checkpoint folder (a chain: its first stage)",
    )
    train.add_argument(
        "--resume-from",
        metavar="P|auto",
        type=text,
        help="go on where this run or checkpoint stopped; auto: where this recipe's own run did",
    )
    train.add_argument(
        "--validate-only",
        action="store_true",
        help="validate the weights that --init-from or --resume-from name, and stop",
    )
    train.add_argument("--run-name", metavar="N", type=text, help="name of the run's folder")

    check = add_command(
        commands,
        "check",
        _check,
        "resolve and validate a recipe, print it with every key, touch nothing",
        _CHECK_HELP,
    )
    _add_recipe(check, "[--debug]")

    schema = add_command(
        commands, "schema", _schema, "print the JSON schema of recipes", _SCHEMA_HELP
    )
    schema.add_argument("--out", metavar="FILE", type=Path, help="write it to this file instead")


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

    if rank() == 0 and not arguments.resume_from:
        for warning in recipe_warnings(recipe):
            say(f"warning: {warning}")
    return run(recipe, RunOptions(arguments.resume_from, arguments.validate_only))


def _check(arguments: argparse.Namespace) -> int:
    from warp_train.recipe import dump_recipe, load_recipe, recipe_warnings

    recipe = load_recipe(arguments.recipe, arguments.overrides)
    sys.stdout.write(dump_recipe(recipe))
    sys.stdout.flush()
    for warning in recipe_warnings(recipe):
        say(f"warning: {warning}")
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


def _add_recipe(parser: argparse.ArgumentParser, options: str) -> None:
    parser.usage = f"{parser.prog} RECIPE {options} [key=value ...]"
    parser.add_argument(
        "recipe",
        metavar="RECIPE",
        type=Path,
        help="YAML file; `key.sub=value` after it (YAML values) changes keys, the last one wins",
    )
