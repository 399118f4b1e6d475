"""What is printed about a run before its first step: what it is, what changed, what looks wrong."""

import logging
import math
from collections.abc import Iterator
from pathlib import Path

from warp_train.models import read_description
from warp_train.recipe import Recipe
from warp_train.runtime.console import tell
from warp_train.runtime.section import config_differences
from warp_train.training.checkpoints.state import RunPosition, read_trainer_state
from warp_train.training.resuming import describe_changes, saved_rate
from warp_train.training.run import Run

log = logging.getLogger("warp_train")

_OF_TRAINING = {"pretrained", "sync_batch_norm"}
"""Keys of `model` that do not change what its weights mean."""


def announce(run: Run, resume: Path | None) -> None:
    """Prints what is about to be trained."""
    accelerator, recipe = run.accelerator, run.recipe
    start = f"resumed from {resume}" if resume else f"from {recipe.init_from or 'scratch'}"
    tell(
        f"{run.run_dir}: {recipe.stage}, {recipe.model.backbone} on {accelerator.device}"
        f" ({_processes(accelerator.num_processes)}), "
        f"steps {run.step}…{run.total_steps} of {run.feed.global_batch} samples, {start}"
    )


def warn_of_start(run: Run) -> None:
    """Prints what a new run should probably not do. Main process only."""
    if run.start is not None:
        before = read_description(run.start).model.model_dump(exclude=_OF_TRAINING)
        now = run.recipe.model.model_dump(exclude=_OF_TRAINING)
        differences = "; ".join(config_differences({"model": before}, {"model": now}))
        if differences:
            log.warning(
                "init_from: the same weights predict other lenses here, where %s", differences
            )
    rules = run.recipe.scheduler
    if rules.name != "onecycle" and rules.warmup_steps >= run.total_steps:
        log.warning(
            "scheduler.warmup_steps: %d, and the stage has %d steps: the learning rate rises to "
            "the end and never reaches optim.lr",
            rules.warmup_steps,
            run.total_steps,
        )


def warn_of_changes(asked: Recipe, run: Run, resume: Path) -> None:
    """Prints how a resumed run differs from before. Main process only."""
    for change in describe_changes(asked, run.recipe, resume):
        log.warning(change)
    state = read_trainer_state(resume)
    for change in _world_changes(state, run.accelerator.num_processes, run.feed.global_batch):
        log.warning(change)
    before, now = saved_rate(state), run.optimizer.param_groups[0]["lr"]
    if before is not None and not math.isclose(before, now, rel_tol=1e-6):
        log.warning(
            "the learning rate goes on at %.3g, after %.3g before: %s over %d steps, of which %d "
            "are done",
            now,
            before,
            run.recipe.scheduler.name,
            run.total_steps,
            run.step,
        )


def _world_changes(before: RunPosition, processes: int, global_batch: int) -> Iterator[str]:
    """The effects of another number of processes or global batch on a resumed run."""
    kept = before.global_batch == global_batch
    if before.world_size != processes:
        yield (
            f"{_processes(before.world_size)} before, {processes} now"
            + ("; the same global batch gives the same samples" if kept else "")
        )
    if not kept:
        yield (
            f"global batch {before.global_batch} before, {global_batch} now: from step "
            f"{before.step} on, samples are taken in the order of the new one, and some may come "
            "again in this epoch or not at all"
        )


def _processes(count: int) -> str:
    return f"{count} process{'es' * (count > 1)}"
