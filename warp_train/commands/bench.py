"""`bench`: what a step of training costs on this machine."""

from __future__ import annotations

import argparse
import json

from warp_train.benchmark.bench import bench
from warp_train.benchmark.report import as_json, format_result, format_scale, format_targets
from warp_train.commands.files import write_result
from warp_train.recipe import Recipe, load_recipe
from warp_train.runtime.console import rank
from warp_train.runtime.errors import WarpTrainError

_AS_IT_IS = "as it is"
_TARGETS = {
    "tiny 8 × 256 × 256": ("model.backbone=tiny", "train.batch_size=8"),
    "resnet34 4 × 256 × 256": ("model.backbone=resnet34", "train.batch_size=4"),
}
_TARGET_SIZE = "data.size=[256,256]"


def run(arguments: argparse.Namespace) -> int:
    """Measures the cases of the command line and prints their tables."""
    recipes = _cases(arguments)
    results = {}
    for name, recipe in recipes.items():
        results[name] = bench(
            recipe,
            steps=arguments.steps,
            peer=arguments.peer or arguments.targets,
            trace=arguments.trace,
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
    """The recipes to measure, by the name of the case."""
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
    recipe = load_recipe(arguments.recipe, (*arguments.overrides, *more))
    stages = (recipe,) if isinstance(recipe, Recipe) else recipe.stages
    if arguments.stage is None:
        return stages[-1]
    named = {stage.stage: stage for stage in stages}
    if arguments.stage not in named:
        has = ", ".join(named)
        raise WarpTrainError(f"--stage {arguments.stage}: {arguments.recipe} has {has}")
    return named[arguments.stage]
