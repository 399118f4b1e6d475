"""A run's state, to and from its checkpoints."""

import logging
from pathlib import Path

from warp_train.models import model_description, read_description
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.links import followed
from warp_train.training.checkpoints.folder import CheckpointError, have_vanished
from warp_train.training.checkpoints.links import run_of
from warp_train.training.checkpoints.saving import restore_checkpoint, save_checkpoint
from warp_train.training.checkpoints.state import RunPosition
from warp_train.training.run import Run
from warp_train.training.run_folder import SUMMARY_FILE

log = logging.getLogger("warp_train")


def restore(run: Run, folder: Path) -> None:
    """Restores a checkpoint. Collective: call on every rank.

    In a run folder other than the checkpoint's the run is a new one, without a best so far.

    Raises:
        WarpTrainError: the checkpoint is damaged, or of more steps than the recipe has.
    """
    state = restore_checkpoint(
        folder,
        accelerator=run.accelerator,
        model=run.model,
        model_config=model_description(run.model),
        optimizer=run.optimizer,
        scheduler=run.scheduler,
        ema=run.ema,
    )
    run.step = run.resumed_at = state.step
    if run.step > run.total_steps:
        raise WarpTrainError(
            f"{folder}: {run.step} steps are done, and the recipe ends after {run.total_steps} "
            "(train.epochs, train.max_steps): nothing to train"
        )
    run.validated_step = state.validated_step
    run.meter.put_back(state.unlogged, run.accelerator.device)
    before = read_description(folder).trained_on
    if run.model.trained_on and before:  # the calibration holds until the next validation
        kept = {"uncertainty_factor": before.uncertainty_factor}
        run.model.trained_on = run.model.trained_on.model_copy(update=kept)
    if followed(run.run_dir / "best").exists():
        run.best, run.stale_validations = state.best, state.stale_validations
        run.best_measured = state.measured
    if run_of(folder) == run.run_dir.resolve() and state.wandb_run_id is not None:
        run.wandb_run_id = state.wandb_run_id


def save(run: Run, *, best: bool = False, interrupted: bool = False) -> bool:
    """Saves a checkpoint and points `last`, `best` or `interrupted` at it.

    Collective: call on every rank.

    Returns:
        False if the write failed and `checkpoint.on_error` is `warn`.

    Raises:
        WarpTrainError: the write failed or earlier checkpoints vanished and `checkpoint.on_error`
            is `raise`, or the last checkpoint of the run could not be written.
    """
    links = ["last", *(["best"] if best else []), *(["interrupted"] if interrupted else [])]
    ends_here = interrupted or run.is_over
    vanished = run.accelerator.is_main_process and have_vanished(run.run_dir)
    try:
        _write_checkpoint(run, links)
    except CheckpointError as error:
        if ends_here or run.recipe.checkpoint.on_error == "raise":
            raise
        if run.accelerator.is_main_process:
            log.warning("step %d: %s; training continues (checkpoint.on_error)", run.step, error)
        return False
    if vanished:  # reported only after these weights are saved
        run.disk.complain(
            run.run_dir,
            f"{run.run_dir}: its checkpoints have vanished; step {run.step} is saved again",
        )
    if run.has_stepped or ends_here:  # a run that ends before its first step leaves nothing behind
        run.pusher.note(run.run_dir, run.recipe.checkpoint.push_to)
    return True


def _write_checkpoint(run: Run, links: list[str]) -> None:
    if run.lock is not None:
        run.lock.require()
    if run.accelerator.is_main_process and not run.is_over:  # a finished run that is prolonged
        with run.disk.writing(run.run_dir / SUMMARY_FILE):
            (run.run_dir / SUMMARY_FILE).unlink(missing_ok=True)
    save_checkpoint(
        run.run_dir,
        accelerator=run.accelerator,
        model=run.model,
        model_config=model_description(run.model),
        optimizer=run.optimizer,
        scheduler=run.scheduler,
        position=RunPosition(
            stage=run.recipe.stage,
            step=run.step,
            epoch=run.epoch,
            samples_seen=run.step * run.feed.global_batch,
            best=run.best,
            measured=run.best_measured,
            validated_step=run.validated_step,
            stale_validations=run.stale_validations,
            world_size=run.accelerator.num_processes,
            global_batch=run.feed.global_batch,
            unlogged=run.meter.unlogged(run.accelerator),
            wandb_run_id=run.wandb_run_id,
            recipe=run.recipe.model_dump(mode="json", by_alias=True),
        ),
        ema=run.ema,
        links=links,  # type: ignore[arg-type]
        keep_last=run.recipe.checkpoint.keep_last,
    )
