"""One stage of training, from its run folder to its final table."""

import logging
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

from accelerate import Accelerator

from warp_train.recipe import Recipe, dump_recipe
from warp_train.runtime.atomic_files import write_atomically
from warp_train.runtime.console import tell
from warp_train.runtime.errors import WarpTrainError
from warp_train.training.acceleration import build_accelerator
from warp_train.training.agreement import require_agreement
from warp_train.training.announcing import announce, warn_of_changes, warn_of_start
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
from warp_train.training.checkpoints.state import STATE_FILE, read_trainer_state
from warp_train.training.disk import is_there, refusal
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
from warp_train.training.resuming import as_resumed, recorded_recipe
from warp_train.training.run import Run, initial_weights, start_run
from warp_train.training.run_folder import (
    METRICS_FILE,
    RECIPE_FILE,
    find_run_folder,
    truncate_metrics,
)
from warp_train.training.run_state import restore
from warp_train.training.trackers import EVENTS_FOLDER, Trackers, start_trackers
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
            if resume is None:
                start = initial_weights(recipe)
                run = start_run(recipe, registered, accelerator, run_dir, start)
                if accelerator.is_main_process:
                    warn_of_start(run)
            else:
                resumed = as_resumed(recipe, resume, run_dir)
                run = start_run(resumed, registered, accelerator, run_dir)
                restore(run, resume)
                if accelerator.is_main_process:
                    warn_of_changes(recipe, run, resume)
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
            _record_start(run, trackers)
            _write_start(run)
            announce(run, resume)
        with _proxy(run) as proxy:
            signal = train(run, trackers, proxy, interrupts)
            if signal is None:
                signal = _finish(run, interrupts)
            if signal is None:
                _record_best(run, trackers)
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


def _record_start(run: Run, trackers: Trackers) -> None:
    """Names the tracked run that this one starts from, if there is one."""
    if run.start is None or not is_there(run.start / STATE_FILE):
        return
    state = read_trainer_state(run.start)
    before = recorded_recipe(state)
    tracked = before is not None and before.tracking.uses_wandb
    if tracked and state.wandb_run_id is not None and run.recipe.tracking.artifacts:
        trackers.record_start(state.wandb_run_id)


def _record_best(run: Run, trackers: Trackers) -> None:
    """Hands the best weights of a finished stage to the trackers."""
    if run.recipe.tracking.artifacts and run.accelerator.is_main_process:
        about = {"stage": run.recipe.stage, **(run.best.model_dump() if run.best else {})}
        with run.disk.writing(run.run_dir / EVENTS_FOLDER):
            trackers.record_best(find_checkpoint(run.run_dir, prefer="best"), about)


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
    run = start_run(recipe, data, accelerator, recipe.run_dir)  # the weights are those of `folder`
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


def _proxy(run: Run) -> AbstractContextManager[ProxyHook | None]:
    """The scorer on the main process; None on the others or where none is set."""
    rules = run.recipe.proxy
    if rules.scorer is None or not run.accelerator.is_main_process:
        return nullcontext()
    return ProxyHook(
        rules.scorer, log.warning, workers=rules.workers, max_samples=rules.max_samples
    )
