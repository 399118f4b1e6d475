"""`bench`: what a step of training costs on this machine."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from warp_train.commands.common import add_command, check_writable, text, whole_number, write_result
from warp_train.runtime.console import rank
from warp_train.runtime.errors import WarpTrainError

if TYPE_CHECKING:
    from warp_train.recipe import Recipe

_STEPS = 20
_AS_IT_IS = "as it is"
_TARGETS = {
    "tiny 8 × 256 × 256": ("model.backbone=tiny", "train.batch_size=8"),
    "resnet34 4 × 256 × 256": ("model.backbone=resnet34", "train.batch_size=4"),
}
_TARGET_SIZE = "data.size=[256,256]"
_HELP = """\
Times real steps of the recipe, in turn with the same step written by hand and with the bare network
(same input, a dummy loss, backward, clip, optimizer), and takes one step apart. Needs no weights of
an earlier stage, and leaves nothing behind. Under `accelerate launch` all processes take part.

Ratios are medians over the rounds; on a machine that does other work trust them, not the times.
Accumulation is off: a step is one micro-batch. Trackers are left out.

examples:
  warp-train bench recipes/stage2_hybrid.yaml
  warp-train bench recipes/three_stages.yaml --stage stage1_param_only data.source=pairs data.root=D
  warp-train bench recipes/stage2_hybrid.yaml model.backbone=resnet34 train.mixed_precision=bf16
  warp-train bench recipes/stage2_hybrid.yaml --targets train.device=cpu --json targets.json
  warp-train bench recipes/stage2_hybrid.yaml --scale --steps 5
  accelerate launch --config_file launch/multi_gpu.yaml -m warp_train bench RECIPE
"""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declares `bench`."""
    bench = add_command(
        commands, "bench", _bench, "time the steps of a recipe, and say what to change", _HELP
    )
    bench.usage = (
        f"{bench.prog} RECIPE [--stage NAME] [--steps N] [--peer | --targets | --scale] "
        "[--json FILE] [key=value ...]"
    )
    bench.add_argument("recipe", metavar="RECIPE", type=Path, help="YAML file of a stage or chain")
    bench.add_argument(
        "--stage", metavar="NAME", type=text, help="the stage of a chain (default: its last)"
    )
    bench.add_argument(
        "--steps",
        metavar="N",
        type=whole_number(1),
        default=_STEPS,
        help="rounds that are timed (default: %(default)s)",
    )
    bench.add_argument(
        "--json", metavar="FILE", type=Path, help="write the figures to this file as well"
    )
    bench.add_argument(
        "--peer",
        action="store_true",
        help="time a straightforward implementation of the same terms beside it",
    )
    several = bench.add_mutually_exclusive_group()
    several.add_argument(
        "--targets",
        action="store_true",
        help="the two cases of the README's table, with --peer, and their ratios in one table",
    )
    several.add_argument(
        "--scale",
        action="store_true",
        help="how the step grows with four times the batch, the pixels and the drawn samples",
    )


def _bench(arguments: argparse.Namespace) -> int:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as `train` does
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler, which looks at memory, chats
    check_writable("--json", arguments.json)
    recipes = _cases(arguments)
    from warp_train.benchmark.bench import bench
    from warp_train.benchmark.report import as_json, format_result, format_scale, format_targets

    results = {}
    for name, recipe in recipes.items():
        results[name] = bench(
            recipe, steps=arguments.steps, peer=arguments.peer or arguments.targets
        )
        if rank() == 0:
            print(format_result(results[name]), flush=True)
    if rank() == 0 and arguments.targets:
        print(f"\n{format_targets(results)}")
    if rank() == 0 and arguments.scale:
        print(f"\n{format_scale(results)}")
    if rank() == 0 and arguments.json:
        figures = {name: as_json(result) for name, result in results.items()}
        content = figures if len(figures) > 1 else figures[_AS_IT_IS]
        write_result("--json", arguments.json, json.dumps(content, indent=2) + "\n")
    return 0


def _cases(arguments: argparse.Namespace) -> dict[str, Recipe]:
    """What is measured one after the other, by name."""
    if arguments.targets:
        return {name: _stage(arguments, (*more, _TARGET_SIZE)) for name, more in _TARGETS.items()}
    recipe = _stage(arguments)
    cases = {_AS_IT_IS: recipe}
    if arguments.scale:
        height, width = recipe.data.size
        larger = {
            "batch × 4": f"train.batch_size={4 * recipe.train.batch_size}",
            "pixels × 4": f"data.size=[{2 * height},{2 * width}]",
        }
        if recipe.data.source == "scenes":
            larger["samples × 4"] = f"data.train_samples={4 * recipe.data.train_samples}"
        cases |= {name: _stage(arguments, (more,)) for name, more in larger.items()}
    return cases


def _stage(arguments: argparse.Namespace, more: tuple[str, ...] = ()) -> Recipe:
    """The recipe, or the stage of the chain that `--stage` names; `more` overrides the rest."""
    from warp_train.recipe import Recipe, load_recipe

    recipe = load_recipe(arguments.recipe, (*arguments.overrides, *more))
    stages = (recipe,) if isinstance(recipe, Recipe) else recipe.stages
    if arguments.stage is None:
        return stages[-1]
    named = {stage.stage: stage for stage in stages}
    if arguments.stage not in named:
        has = ", ".join(named)
        raise WarpTrainError(f"--stage {arguments.stage}: {arguments.recipe} has {has}")
    return named[arguments.stage]
