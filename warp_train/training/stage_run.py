"""One stage of training, from its run folder to its final table."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from pydantic import ValidationError

from warp_train.recipe import Recipe, dump_recipe
from warp_train.runtime.atomic_files import write_atomically
from warp_train.runtime.console import tell
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.section import config_differences
from warp_train.training.acceleration import build_accelerator
from warp_train.training.agreement import require_agreement
from warp_train.training.checkpoints.folder import (
    find_checkpoint,
    pin_checkpoint,
    unpin_checkpoint,
)
from warp_train.training.checkpoints.links import (
    point_link,
    real_checkpoint,
    remove_link,
    warn_without_links,
)
from warp_train.training.checkpoints.state import RunPosition, read_trainer_state
from warp_train.training.disk import refusal
from warp_train.training.engine import train
from warp_train.training.feeding import Data
from warp_train.training.interrupts import Interrupts
from warp_train.training.placing import placement
from warp_train.training.proxy_hooks import ProxyHook
from warp_train.training.registering import warn_of_bounds, with_registered_warps
from warp_train.training.remote.pusher import Pusher
from warp_train.training.report import (
    lineage,
    measure_stages,
    stages_table,
    why_ended,
    write_report,
)
from warp_train.training.run import Run, start_run
from warp_train.training.run_folder import (
    METRICS_FILE,
    RECIPE_FILE,
    find_run_folder,
    truncate_metrics,
)
from warp_train.training.trackers import EVENTS_FOLDER, start_trackers
from warp_train.weights import model_folder

log = logging.getLogger("warp_train")


def run_stage(
    recipe: Recipe,
    data: Data,
    resume_from: str | None,
    interrupts: Interrupts,
    wandb_run_id: str | None,
    pusher: Pusher,
) -> int:
    """Trains one stage and returns the exit code. Collective: call on every rank.

    A run that ends with an error before its first step leaves nothing behind.

    Args:
        wandb_run_id: None: that of the resumed checkpoint, or a new one.
    """
    with placement(recipe, resume_from) as placed:
        run: Run | None = None
        try:
            accelerator = build_accelerator(recipe.train)
            interrupts.join(accelerator)
            require_agreement(recipe, data, accelerator)
            registered = with_registered_warps(recipe, data, accelerator, interrupts)
            if registered is None:
                if placed.place is not None:
                    placed.place.give_back()
                return _interrupted_early(accelerator, interrupts)
            run_dir, resume = placed.share()
            if accelerator.is_main_process:
                warn_without_links(run_dir.parent)
                warn_of_bounds(recipe, registered)
            run = start_run(recipe, registered, accelerator, run_dir, resume)
            run.lock, run.wandb_run_id = placed.lock, wandb_run_id or run.wandb_run_id
            run.pusher = pusher
            return _run(run, resume, interrupts)
        except BaseException:
            if placed.place is not None and not (run and run.has_stepped):
                placed.place.give_back()
                if run and run.start:
                    unpin_checkpoint(run.start, run.run_dir)
            raise


def _run(run: Run, resume: Path | None, interrupts: Interrupts) -> int:
    """Trains a stage that has been set up, with its records. Collective: call on every rank."""
    accelerator, recipe = run.accelerator, run.recipe
    trackers = start_trackers(
        accelerator,
        recipe.tracking,
        run_dir=run.run_dir,
        run_id=run.wandb_run_id,
        recipe=recipe.model_dump(mode="json", by_alias=True),
        step=run.step,
    )
    try:
        if accelerator.is_main_process:
            _write_start(run)
            _announce(run, resume)
        with _proxy(run) as proxy:
            signal = train(run, trackers, proxy, interrupts)
            if signal is None:
                signal = _finish(run, interrupts)
    except BaseException as error:
        with suppress(OSError):  # a consequence of the first error
            trackers.finish(failed=True)
        # The command prints errors of the main process; this one may concern this process alone.
        if isinstance(error, WarpTrainError) and not accelerator.is_main_process:
            log.error("rank %d: %s", accelerator.process_index, error)
        raise
    with run.disk.writing(run.run_dir / EVENTS_FOLDER):
        trackers.finish()
    accelerator.free_memory()
    run.pusher.note(run.run_dir, recipe.checkpoint.push_to)
    if signal is not None and accelerator.is_main_process:
        tell(f"interrupted at step {run.step}; saved as {run.run_dir}/interrupted")
    return 0 if signal is None else 128 + signal


def _interrupted_early(accelerator: Accelerator, interrupts: Interrupts) -> int:
    """The exit code after a signal while pairs were registered. Collective: call on every rank."""
    if accelerator.is_main_process:
        tell("interrupted; the pairs registered so far are kept for the next run")
    return 128 + (interrupts.agreed() or 0)


def _write_start(run: Run) -> None:
    """Writes what exists before the first step: the recipe, and the pin of the initial weights."""
    try:
        truncate_metrics(run.run_dir / METRICS_FILE, run.step, run.validated_step)
        write_atomically(run.run_dir / RECIPE_FILE, dump_recipe(run.recipe))
    except OSError as error:
        raise WarpTrainError(refusal(run.run_dir, error)) from error
    if run.start is not None:
        pin_checkpoint(run.start, run.run_dir)


def validate_stage(
    recipe: Recipe, data: Data, resume_from: str | None, interrupts: Interrupts
) -> int:
    """Measures weights without training: those of `resume_from`, of the run so far, or of
    `init_from`. Writes no run folder. Collective: call on every rank."""
    run_dir = find_run_folder(recipe.output_dir, recipe.run_name)
    if resume_from not in (None, "auto"):
        folder = find_checkpoint(Path(str(resume_from)), prefer="best")
    elif run_dir is not None:
        folder = find_checkpoint(run_dir, prefer="best")
    elif recipe.init_from is not None:
        folder = find_checkpoint(model_folder(recipe.init_from), prefer="best")
    else:
        raise WarpTrainError(
            f"there is no run {recipe.run_dir} to validate: give a run or checkpoint to resume, or "
            "initial weights (init_from)"
        )
    accelerator = build_accelerator(recipe.train)
    interrupts.join(accelerator)
    registered = with_registered_warps(recipe, data, accelerator, interrupts)
    if registered is None:
        return _interrupted_early(accelerator, interrupts)
    data = registered
    from_scratch = recipe.model_copy(update={"init_from": None})  # the weights are `folder`'s
    run = start_run(from_scratch, data, accelerator, recipe.run_dir, None)
    table = measure_stages(run, lineage(folder), interrupts.round)
    if table is None:
        return 128 + (interrupts.agreed() or 0)
    if accelerator.is_main_process:
        print(f"{folder}: the same unseen samples in every row\n{stages_table(table)}")
    return 0


def _finish(run: Run, interrupts: Interrupts) -> int | None:
    """Measures the stage and prints its table; returns the signal that came meanwhile, if any.

    Collective: call on every rank.
    """
    main, best = run.accelerator.is_main_process, find_checkpoint(run.run_dir, prefer="best")
    if interrupts.agreed() is None:
        table = write_report(run, lineage(best), interrupts.round)
        if main and table is not None:
            print(f"\n{run.run_dir.name}: the same unseen samples in every row\n{table}")
            never = run.best is not None and run.best.step == 0 < run.step
            note = ": no validation was better than that of the start" if never else ""
            print(f"best weights: {run.run_dir}/best -> {best.name}{note}")
            print(f"{why_ended(run)}\n", flush=True)
    signal = interrupts.agreed()
    if main:
        link = run.run_dir / "interrupted"
        with run.disk.writing(link):
            if signal is None:
                remove_link(link)
            else:
                point_link(link, real_checkpoint(run.run_dir / "last"))
    return signal


def _announce(run: Run, resume: Path | None) -> None:
    """Prints what is about to be trained, and what differs from before a resume."""
    accelerator, recipe = run.accelerator, run.recipe
    start = f"resumed from {resume}" if resume else f"from {recipe.init_from or 'scratch'}"
    tell(
        f"{run.run_dir}: {recipe.stage}, {recipe.model.backbone} on {accelerator.device}"
        f" ({_processes(accelerator.num_processes)}), "
        f"steps {run.step}…{run.total_steps} of {run.feed.global_batch} samples, {start}"
    )
    if resume:
        state = read_trainer_state(resume)
        now = recipe.model_dump(mode="json", by_alias=True)
        for difference in config_differences(_with_defaults(state.recipe), now):
            log.warning("changed since the checkpoint: %s", difference)
        for change in _world_changes(state, accelerator.num_processes, run.feed.global_batch):
            log.warning(change)


def _with_defaults(saved: Mapping[str, Any]) -> Mapping[str, Any]:
    """The recipe of a checkpoint, with the defaults of keys that later versions have added."""
    try:
        recipe = Recipe.model_validate_json(json.dumps(saved))
    except ValidationError:  # it has a key or a value that this version does not have
        return saved
    return recipe.model_dump(mode="json", by_alias=True)


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


def _proxy(run: Run) -> AbstractContextManager[ProxyHook | None]:
    """The scorer on the main process; None on the others or where none is set."""
    rules = run.recipe.proxy
    if rules.scorer is None or not run.accelerator.is_main_process:
        return nullcontext()
    return ProxyHook(
        rules.scorer, log.warning, workers=rules.workers, max_samples=rules.max_samples
    )
