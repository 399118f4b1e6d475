"""The parser of `bench`."""

from __future__ import annotations

import argparse

from warp_train.commands.files import check_writable
from warp_train.commands.parsers.options import (
    PASSIVE_OPENMP,
    Subparsers,
    add_command,
    add_recipe,
    path,
    text,
    whole_number,
)

_EXAMPLES = """\
Times real training steps of the recipe, alternating with the same step written by hand and with the
bare network (same input, a dummy loss, backward, clip, optimizer), and then the parts of a step.
It needs no weights of an earlier stage and leaves no files. Under `accelerate launch` all processes
take part.

Ratios are medians over the rounds; on a busy machine they are more reliable than the times.
Gradient accumulation is off: a step is one micro-batch. Trackers are off.

examples:
  warp-train bench recipes/stage2_hybrid.yaml
  warp-train bench recipes/three_stages.yaml --stage stage1_param_only data.source=pairs data.root=D
  warp-train bench recipes/stage2_hybrid.yaml model.backbone=resnet34 train.mixed_precision=bf16
  warp-train bench recipes/stage2_hybrid.yaml --targets train.device=cpu --json targets.json
  warp-train bench recipes/stage2_hybrid.yaml --scale --steps 5
  warp-train bench recipes/stage2_hybrid.yaml --steps 5 --trace trace.json
  accelerate launch --config_file launch/multi_gpu.yaml -m warp_train bench RECIPE
"""
_STEPS = 20
_ENVIRONMENT = {
    **PASSIVE_OPENMP,
    "KINETO_LOG_LEVEL": "99",  # the profiler, which measures memory, logs to standard error
}


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    """Declares `bench`."""
    bench = add_command(
        commands,
        "bench",
        "time the steps of a recipe and suggest what to change",
        _EXAMPLES,
        environment=_ENVIRONMENT,
        check=_check,
    )
    add_recipe(
        bench,
        "[--stage NAME] [--steps N] [--peer | --targets | --scale] [--json FILE] [--trace FILE]",
    )
    bench.add_argument(
        "--stage", metavar="NAME", type=text, help="the stage of a chain (default: its last)"
    )
    bench.add_argument(
        "--steps",
        metavar="N",
        type=whole_number(1),
        default=_STEPS,
        help="number of timed rounds (default: %(default)s)",
    )
    bench.add_argument(
        "--json", metavar="FILE", type=path, help="write the figures to this file as well"
    )
    bench.add_argument(
        "--trace",
        metavar="FILE",
        type=path,
        help="write a trace of a few steps, as JSON for chrome://tracing or Perfetto",
    )
    bench.add_argument(
        "--peer",
        action="store_true",
        help="also time a straightforward implementation of the same terms",
    )
    several = bench.add_mutually_exclusive_group()
    several.add_argument(
        "--targets",
        action="store_true",
        help="the two cases of the table in launch/README.md, with --peer, and their ratios",
    )
    several.add_argument(
        "--scale",
        action="store_true",
        help="measure how the step grows with 4 times the batch, the pixels and the drawn samples",
    )


def _check(arguments: argparse.Namespace) -> None:
    check_writable("--json", arguments.json)
    check_writable("--trace", arguments.trace)
    if arguments.trace and (arguments.targets or arguments.scale):
        arguments.parser.error("--trace: one file holds one case: leave out --targets and --scale")
