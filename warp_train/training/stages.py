"""Runs a stage or a chain of stages, from the first checks to the final table."""

import difflib
import logging
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from accelerate import PartialState
from tqdm.contrib.logging import logging_redirect_tqdm

from warp_train.recipe import Chain, Recipe
from warp_train.runtime.console import rank
from warp_train.runtime.errors import WarpTrainError
from warp_train.training.chain import furthest, run_chain
from warp_train.training.checkpoints.folder import find_checkpoint
from warp_train.training.feeding import Data, open_data
from warp_train.training.given_run import given_run_id
from warp_train.training.interrupts import Interrupts
from warp_train.training.launch_environment import overruled, refuse_other_strategies
from warp_train.training.remote.places import KEY, open_targets
from warp_train.training.remote.pusher import Pusher
from warp_train.training.remote.resuming import fetched, is_elsewhere
from warp_train.training.stage_run import run_stage, validate_stage
from warp_train.training.trackers import tracker_names
from warp_train.weights import model_folder

log = logging.getLogger("warp_train")


@dataclass(frozen=True)
class RunOptions:
    """Options of a run that are not part of the recipe."""

    resume_from: str | None = None
    """`auto`, a run folder or a checkpoint folder, or the URL of one, or of where runs lie."""
    validate_only: bool = False


def run(recipe: Recipe | Chain, options: RunOptions) -> int:
    """Trains a stage or a chain and returns the exit code: 0, or 128 + the signal's number.

    Raises:
        WarpTrainError: one line for the user; whatever was saved before stays.
    """
    logging.basicConfig(format="%(levelname)s: %(message)s", stream=sys.stderr)
    stages = recipe.stages if isinstance(recipe, Chain) else (recipe,)
    # Errors that can be found early are raised here, before a process group or a folder exists.
    refuse_other_strategies()
    if rank() == 0:
        for note in dict.fromkeys(note for stage in stages for note in overruled(stage.train)):
            log.warning(note)
    data = [_preflight(stage, options) for stage in stages]
    wandb_run_id = given_run_id(stages[-1].tracking)
    pusher = _open_pusher(recipe, stages, options)
    resume_from = options.resume_from
    if resume_from is not None and is_elsewhere(recipe, resume_from):
        resume_from = fetched(recipe, resume_from)
    # A warning must not break the progress bar.
    with logging_redirect_tqdm(), Interrupts() as interrupts:
        try:
            code = _run(recipe, data, resume_from, options, interrupts, wandb_run_id, pusher)
        finally:
            with interrupts.waiting() as stopped:
                pusher.finish(stopped)
    return 128 + (interrupts.received or 0) if stopped() and code == 0 else code


def _run(
    recipe: Recipe | Chain,
    data: list[Data],
    resume_from: str | None,
    options: RunOptions,
    interrupts: Interrupts,
    wandb_run_id: str | None,
    pusher: Pusher,
) -> int:
    """Collective: call on every rank."""
    try:
        if options.validate_only:
            number, stage = furthest(recipe)
            return validate_stage(stage, data[number], resume_from, interrupts)
        if isinstance(recipe, Chain):
            return run_chain(recipe, data, resume_from, interrupts, wandb_run_id, pusher)
        return run_stage(recipe, data[0], resume_from, interrupts, wandb_run_id, pusher)
    except RuntimeError as error:
        if _lost_touch(error):
            reason = str(error).partition("\n")[0]
            raise WarpTrainError(
                f"rank {PartialState().process_index} lost the connection to another process, "
                f"which died or hangs ({reason}); resume to continue from the last checkpoint"
            ) from error
        raise
    finally:
        # A process group left open can abort the interpreter after the work is done.
        if PartialState._shared_state:
            PartialState().destroy_process_group()


def _open_pusher(recipe: Recipe | Chain, stages: tuple[Recipe, ...], options: RunOptions) -> Pusher:
    """The copier of the main process; that of the others copies nothing.

    Raises:
        WarpTrainError: a place cannot be written to, the stages of a chain have several, or weights
            elsewhere are only to be measured.
    """
    texts = {stage.checkpoint.push_to for stage in stages}
    if len(texts) > 1:
        raise WarpTrainError(
            f"{KEY}: the stages of {recipe.run_name} have different places "
            f"({', '.join(sorted(map(str, texts)))}): a chain has one, for all of its stages"
        )
    if options.validate_only:
        if is_elsewhere(recipe, options.resume_from):
            raise WarpTrainError(
                f"{options.resume_from}: weights are measured on a disk of this machine: copy the "
                "run, or resume it"
            )
        return Pusher()
    return Pusher(open_targets(texts, recipe.output_dir) if rank() == 0 else {})


def _lost_touch(error: RuntimeError) -> bool:
    """Whether a collective operation failed because another process is gone."""
    if not PartialState._shared_state or PartialState().num_processes == 1:
        return False
    lost = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")
    return any(word in str(error) for word in lost)


def _preflight(recipe: Recipe, options: RunOptions) -> Data:
    tracker_names(recipe.tracking)
    # A run that is resumed no longer needs what it started from.
    resume_from = options.resume_from
    if resume_from is None and recipe.init_from is not None:
        _require_checkpoint("init_from", recipe.init_from, recipe.output_dir)
    elif resume_from not in (None, "auto") and not is_elsewhere(recipe, resume_from):
        _require_checkpoint("--resume-from", str(resume_from), recipe.output_dir)
    return open_data(recipe)


def _require_checkpoint(key: str, place: str, output_dir: Path) -> None:
    """Raises WarpTrainError, with `key` and a similar name, where `place` has no checkpoint."""
    folder = model_folder(place)
    try:
        find_checkpoint(folder, prefer="best")
    except WarpTrainError as error:
        raise WarpTrainError(f"{key}: {error}{_similar(folder, output_dir)}") from error


def _similar(missing: Path, output_dir: Path) -> str:
    """A hint at the run whose name is most similar, in the same folder or in `output_dir`."""
    runs: dict[str, Path] = {}
    for folder in (output_dir, missing.parent):
        with suppress(OSError, ValueError):
            runs |= {path.name: path for path in folder.iterdir() if path != missing}
    near = difflib.get_close_matches(missing.name, runs, 1)
    return f" (did you mean {runs[near[0]]}?)" if near else ""
