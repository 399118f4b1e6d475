"""`train`: a stage of training, or a chain of stages."""

from __future__ import annotations

import argparse

from warp_train import training
from warp_train.recipe import Chain, load_recipe, recipe_warnings
from warp_train.runtime.console import rank, say

_INTERRUPTED = (130, 143)


def run(arguments: argparse.Namespace) -> int:
    """Trains, and returns the exit code: 0, or 130 or 143 after an interruption."""
    recipe = load_recipe(
        arguments.recipe,
        arguments.overrides,
        run_name=arguments.run_name,
        init_from=arguments.init_from,
    )
    if rank() == 0 and not arguments.resume_from:
        for warning in recipe_warnings(recipe):
            say(f"warning: {warning}")
    stages = training.stages  # imports torch, which errors in the recipe need not wait for
    code = stages.run(recipe, stages.RunOptions(arguments.resume_from, arguments.validate_only))
    if rank() == 0 and code in _INTERRUPTED and not arguments.validate_only:
        stage = recipe.stages[-1] if isinstance(recipe, Chain) else recipe
        place = stage.checkpoint.push_to or "auto"
        say(f"to continue this run, repeat the command with --resume-from {place}")
    return code
