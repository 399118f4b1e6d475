"""The parser of `train`."""

from __future__ import annotations

import argparse

from warp_train.commands.parsers.options import (
    PASSIVE_OPENMP,
    Subparsers,
    add_command,
    add_recipe,
    place,
    text,
)

_EXAMPLES = """\
examples:
  warp-train train recipes/quickstart.yaml
  warp-train train recipes/stage1_param_only.yaml data.source=pairs data.root=photos/train
  warp-train train recipes/stage2_hybrid.yaml --init-from outputs/runs/stage1_param_only
  warp-train train recipes/three_stages.yaml --run-name night train.batch_size=32
  warp-train train recipes/stage1_param_only.yaml --resume-from auto
  warp-train train RECIPE checkpoint.push_to=s3://bucket/runs --resume-from s3://bucket/runs
  accelerate launch --config_file launch/multi_gpu.yaml -m warp_train train RECIPE
"""


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    """Declares `train`."""
    parser = add_command(
        commands,
        "train",
        "train a stage or a chain of stages",
        _EXAMPLES,
        environment=PASSIVE_OPENMP,
    )
    add_recipe(
        parser, "[--init-from P] [--resume-from P|URL|auto] [--validate-only] [--run-name N]"
    )
    parser.add_argument(
        "--init-from",
        metavar="P",
        type=text,
        help="start from the weights of this run or checkpoint folder (a chain: its first stage)",
    )
    parser.add_argument(
        "--resume-from",
        metavar="P|URL|auto",
        type=place,
        help="continue this run or checkpoint where it stopped; auto: the run of this recipe; a "
        "URL, such as that of checkpoint.push_to: the run that lies there, which is fetched",
    )
    parser.add_argument(
        "--validate-only",
        action="store_true",
        help="validate the weights that --init-from or --resume-from name, and stop",
    )
    parser.add_argument("--run-name", metavar="N", type=text, help="name of the run's folder")
