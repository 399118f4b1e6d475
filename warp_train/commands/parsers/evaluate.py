"""The parser of `evaluate`."""

from __future__ import annotations

import argparse

from warp_train.commands.files import check_writable
from warp_train.commands.parsers.options import (
    PASSIVE_OPENMP,
    Subparsers,
    add_command,
    add_device,
    add_model,
    add_workers,
    path,
    whole_number,
)

_EXAMPLES = """\
examples:
  warp-train evaluate outputs/runs/quickstart --data photos/val
  warp-train evaluate outputs/runs/quickstart --data photos/val --max-photos 20
  warp-train evaluate some/checkpoint --data photos/manifest.csv --json scores.json
  warp-train evaluate some/checkpoint --data photos/manifest.csv --report report.html

Every photo is corrected at its own resolution, bilinearly, and compared with its target:
  identity    the photo as it is
  fixed warp  one lens for every photo: the median of the training lenses
  model       its warp, or a weaker one where that is not safe
  ceiling     the exact warp, where the manifest contains it
  already straight
              the targets as inputs: how far the model moves photos that need no correction
Gap closed is (model - identity) / (ceiling - identity), with a 95 % bootstrap interval over groups.
"""


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    """Declares `evaluate`."""
    parser = add_command(
        commands,
        "evaluate",
        "measure a model on photo pairs: proxy score, end-point error, fold-overs",
        _EXAMPLES,
        environment=PASSIVE_OPENMP,
        check=_check,
    )
    add_model(parser)
    parser.add_argument(
        "--data",
        metavar="DIR|MANIFEST",
        type=path,
        required=True,
        help="folder of *_original.* with *_generated.*, or a manifest (.csv, .jsonl); if it marks "
        "pairs as `val`, only these are measured",
    )
    parser.add_argument("--json", metavar="FILE", type=path, help="write all figures to FILE")
    parser.add_argument(
        "--report",
        metavar="FILE.html",
        type=path,
        help="write a page with tables and pictures to FILE.html",
    )
    parser.add_argument(
        "--max-photos",
        metavar="N",
        type=whole_number(1),
        help="measure only N photos, spread over all of them",
    )
    add_workers(parser)
    add_device(parser)


def _check(arguments: argparse.Namespace) -> None:
    check_writable("--json", arguments.json)
    check_writable("--report", arguments.report)
