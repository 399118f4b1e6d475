"""The folder that a run works in: found or made, and locked, before any process group starts."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from warp_train.recipe import Recipe
from warp_train.runtime.atomic_files import write_atomically
from warp_train.runtime.console import rank
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.journal import drop_cut_line
from warp_train.runtime.locks import Lock, held, lock_folder, require_free
from warp_train.training.checkpoints.folder import (
    STAGING,
    clean_interrupted_writes,
    find_checkpoint,
    newest_checkpoint,
)
from warp_train.training.checkpoints.links import run_of
from warp_train.training.disk import refusal
from warp_train.training.remote.ownership import require_not_elsewhere, require_ours, run_elsewhere
from warp_train.training.run_folder import (
    BAD_SAMPLES_FILE,
    METRICS_FILE,
    RECIPE_FILE,
    claim_run_folder,
    clear_run_folder,
    find_run_folder,
)

log = logging.getLogger("warp_train")


@dataclass(frozen=True)
class Place:
    """Where a run works. The main process holds the lock of the folder."""

    run_dir: Path
    resume: Path | None
    """The checkpoint to resume; None: the run starts at step 0."""
    lock: Lock
    is_new: bool
    """Whether the folder held nothing before this run."""
    recipe_before: bytes | None
    """`recipe.yaml` as the run before has left it."""

    def give_back(self) -> None:
        """Leaves the folder as it was before a run that has not taken a single step."""
        try:
            if self.is_new:
                clear_run_folder(self.run_dir)
            elif self.recipe_before is not None:
                write_atomically(self.run_dir / RECIPE_FILE, self.recipe_before)
        except OSError as error:  # the error that ended the run is reported
            log.warning(refusal(self.run_dir, error))


@dataclass(frozen=True)
class Placement:
    """The run's place as one process has found it, before it meets the others."""

    place: Place | None
    """None on all processes but the main one, or after a failure."""
    failure: WarpTrainError | None

    @property
    def lock(self) -> Lock | None:
        """The lock of the folder, on the main process."""
        return self.place.lock if self.place else None

    def share(self) -> tuple[Path, Path | None]:
        """The run folder and the checkpoint to resume. Collective: call on every rank.

        Raises:
            WarpTrainError: on every rank, if the main one has found no place.
        """
        place = self.place
        ours = self.failure or (place and (place.run_dir, place.resume))
        shared = broadcast_object_list([ours], from_process=0)[0]
        if isinstance(shared, WarpTrainError):
            raise shared
        run_dir, resume = shared
        return run_dir, resume


@contextmanager
def placement(recipe: Recipe, resume_from: str | None) -> Iterator[Placement]:
    """Chooses and locks the run's folder on the main process; the lock is released at the end.

    Call it on every rank. Where no process group exists yet, all ranks find out for themselves that
    another process works in the folder: none has to wait for one that has ended.

    Raises:
        WarpTrainError: another process works in the folder, or it cannot be written to. In a
            process group, `Placement.share` raises it.
    """
    place, failure = None, None
    alone = not PartialState._shared_state
    try:
        if rank() == 0:
            place = choose_place(recipe, resume_from)
        elif alone:
            _require_free(recipe, resume_from)
    except WarpTrainError as error:
        if alone:
            raise
        failure = error
    with held(place.lock) if place else nullcontext():
        yield Placement(place, failure)


def choose_place(recipe: Recipe, resume_from: str | None) -> Place:
    """Finds or makes the run folder, and locks it. Main process only.

    Raises:
        WarpTrainError: another process works in the folder, or it cannot be written to.
    """
    if resume_from is not None and resume_from != "auto":
        checkpoint = find_checkpoint(Path(resume_from), prefer="last")
        run_dir = run_of(checkpoint)
        if checkpoint == newest_checkpoint(run_dir):
            return _earlier(recipe, run_dir, checkpoint)
        return _branch(recipe, checkpoint)
    earlier = find_run_folder(recipe.output_dir, recipe.run_name)
    if resume_from == "auto" and earlier is not None:
        return _earlier(recipe, earlier, None)
    if resume_from == "auto":
        require_not_elsewhere(recipe.checkpoint.push_to, recipe.run_dir)
    run_dir, lock, notice = claim_run_folder(
        recipe.output_dir, recipe.run_name, partial(run_elsewhere, recipe.checkpoint.push_to)
    )
    if notice:
        log.warning(notice)
    return Place(run_dir, None, lock, is_new=True, recipe_before=None)


def locked(folder: Path) -> Lock:
    """Takes the lock of a folder; WarpTrainError if it is in use or cannot be written to."""
    try:
        return lock_folder(folder)
    except OSError as error:
        raise WarpTrainError(refusal(folder, error)) from error


def require_unlocked(folder: Path) -> None:
    """Raises WarpTrainError if a process of another launch works in the folder."""
    try:
        require_free(folder)
    except OSError as error:
        raise WarpTrainError(refusal(folder, error)) from error


def _earlier(recipe: Recipe, run_dir: Path, checkpoint: Path | None) -> Place:
    """The place of a run that goes on, from `checkpoint` or from its newest one."""
    if (run_dir / STAGING).is_dir():
        require_unlocked(run_dir / STAGING)
    require_ours(recipe.checkpoint.push_to, run_dir)
    lock = locked(run_dir)
    try:
        clean_interrupted_writes(run_dir)
        drop_cut_line(run_dir / BAD_SAMPLES_FILE)
        file = run_dir / RECIPE_FILE
        before = file.read_bytes() if file.exists() else None
    except OSError as error:
        lock.release()
        raise WarpTrainError(refusal(run_dir, error)) from error
    resume = checkpoint or newest_checkpoint(run_dir)
    return Place(run_dir, resume, lock, is_new=False, recipe_before=before)


def _branch(recipe: Recipe, checkpoint: Path) -> Place:
    """A new run folder, for a checkpoint whose own run continued after it."""
    run_dir, lock, _ = claim_run_folder(
        recipe.output_dir, recipe.run_name, partial(run_elsewhere, recipe.checkpoint.push_to)
    )
    log.warning(
        "%s is not the newest checkpoint of its run: training continues in %s", checkpoint, run_dir
    )
    metrics = run_of(checkpoint) / METRICS_FILE
    try:
        if metrics.is_file():
            shutil.copy(metrics, run_dir)
    except OSError as error:
        lock.release()
        raise WarpTrainError(refusal(run_dir / METRICS_FILE, error)) from error
    return Place(run_dir, checkpoint, lock, is_new=True, recipe_before=None)


def _require_free(recipe: Recipe, resume_from: str | None) -> None:
    """What `choose_place` would find in use when it resumes, without taking anything."""
    run_dir: Path | None = None
    if resume_from == "auto":
        run_dir = find_run_folder(recipe.output_dir, recipe.run_name)
    elif resume_from is not None:
        checkpoint = find_checkpoint(Path(resume_from), prefer="last")
        newest = newest_checkpoint(run_of(checkpoint))
        run_dir = run_of(checkpoint) if checkpoint == newest else None
    if run_dir is not None:
        require_unlocked(run_dir)
