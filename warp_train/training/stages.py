"""Runs a stage or a chain of stages, from the first checks to the final table."""

import itertools
import logging
import sys
from dataclasses import dataclass
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from tqdm.contrib.logging import logging_redirect_tqdm

from warp_train.recipe import Chain, Recipe, dump_recipe
from warp_train.runtime.atomic_files import write_atomically
from warp_train.runtime.console import tell
from warp_train.runtime.errors import WarpTrainError
from warp_train.training.acceleration import build_accelerator
from warp_train.training.checkpoints.folder import (
    find_checkpoint,
    newest_checkpoint,
)
from warp_train.training.checkpoints.links import point_link
from warp_train.training.disk import refusal
from warp_train.training.feeding import Data, open_data
from warp_train.training.given_run import given_run_id
from warp_train.training.interrupts import Interrupts
from warp_train.training.report import PICTURE_FILE, SUMMARY_FILE
from warp_train.training.run_folder import find_run_folder, run_folders
from warp_train.training.stage_run import RECIPE_FILE, run_stage, validate_stage
from warp_train.training.trackers import tracker_names
from warp_train.weights import model_folder

log = logging.getLogger("warp_train")


@dataclass(frozen=True)
class RunOptions:
    """Options of a run that are not part of the recipe."""

    resume_from: str | None = None
    """`auto`, a run folder or a checkpoint folder."""
    validate_only: bool = False


def run(recipe: Recipe | Chain, options: RunOptions) -> int:
    """Trains a stage or a chain and returns the exit code: 0, or 128 + the signal's number.

    Raises:
        WarpTrainError: one line for the user; whatever was saved before stays.
    """
    logging.basicConfig(format="%(levelname)s: %(message)s", stream=sys.stderr)
    stages = recipe.stages if isinstance(recipe, Chain) else (recipe,)
    # Errors that can be found early are raised here, before a process group or a folder exists.
    data = [_preflight(stage, options) for stage in stages]
    wandb_run_id = given_run_id(stages[-1].tracking)
    try:
        # A warning must not break the progress bar.
        with logging_redirect_tqdm(), Interrupts() as interrupts:
            if options.validate_only:
                number, stage = _furthest(recipe)
                return validate_stage(stage, data[number], options.resume_from, interrupts)
            if isinstance(recipe, Chain):
                return _run_chain(recipe, data, options, interrupts, wandb_run_id)
            return run_stage(recipe, data[0], options.resume_from, interrupts, wandb_run_id)
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


def _lost_touch(error: RuntimeError) -> bool:
    """Whether a collective operation failed because another process is gone."""
    if not PartialState._shared_state or PartialState().num_processes == 1:
        return False
    lost = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")
    return any(word in str(error) for word in lost)


def _preflight(recipe: Recipe, options: RunOptions) -> Data:
    tracker_names(recipe.tracking)
    # A run that is resumed no longer needs what it started from.
    start = options.resume_from or recipe.init_from
    if start is not None and start != "auto":
        find_checkpoint(model_folder(start), prefer="best")
    return open_data(recipe)


def _run_chain(
    chain: Chain,
    data: list[Data],
    options: RunOptions,
    interrupts: Interrupts,
    wandb_run_id: str | None,
) -> int:
    """Trains the stages in order; finished ones are skipped, an interrupted one is resumed.

    Collective: call on every rank.

    Args:
        wandb_run_id: belongs to the last stage, whose metrics are those of the chain; the stages
            before are W&B runs of their own.
    """
    if options.resume_from not in (None, "auto"):
        raise WarpTrainError(
            f"cannot resume from {options.resume_from}: a chain that is started again resumes "
            "where it stopped; only a single stage resumes from a folder"
        )
    accelerator = build_accelerator(chain.stages[0].train)
    name: str = broadcast_object_list(
        [_chain_name(chain, options.resume_from) if accelerator.is_main_process else None],
        from_process=0,
    )[0]
    chain_dir = chain.output_dir / name
    if accelerator.is_main_process:
        _begin_chain(chain, chain_dir)
    init_from = chain.stages[0].init_from
    run_ids = [*(None for _ in data[1:]), wandb_run_id]
    for stage, stage_data, run_id in zip(_named(chain, name), data, run_ids, strict=True):
        recipe = stage.model_copy(update={"init_from": init_from})
        init_from = str(recipe.run_dir)
        if (recipe.run_dir / SUMMARY_FILE).exists():
            if accelerator.is_main_process:
                tell(f"{recipe.run_dir}: already finished, skipped")
            continue
        code = run_stage(recipe, stage_data, "auto", interrupts, run_id)
        if code:
            return code
    if accelerator.is_main_process:
        _close_chain(chain_dir, Path(str(init_from)))
    return 0


def _begin_chain(chain: Chain, chain_dir: Path) -> None:
    try:
        chain_dir.mkdir(parents=True, exist_ok=True)
        write_atomically(chain_dir / RECIPE_FILE, dump_recipe(chain))
    except OSError as error:
        raise WarpTrainError(refusal(chain_dir, error)) from error


def _close_chain(chain_dir: Path, last: Path) -> None:
    """Puts the last stage's results and a link to its weights into the chain's own folder."""
    try:
        for file in (last / SUMMARY_FILE, last / "images" / PICTURE_FILE):
            if file.exists():  # the picture may be missing after a full disk
                write_atomically(chain_dir / file.name, file.read_bytes())
        point_link(chain_dir / "best", find_checkpoint(last, prefer="best"))
    except OSError as error:
        raise WarpTrainError(refusal(chain_dir, error)) from error
    print(f"done; weights: {chain_dir}/best; before | after | truth: {chain_dir}/{PICTURE_FILE}")


def _chain_name(chain: Chain, resume_from: str | None) -> str:
    """The folder of this chain if it was started before, otherwise a free one.

    `auto` continues the latest of that name, even if the recipe has changed since.
    """
    begun = [
        folder
        for folder in run_folders(chain.output_dir, chain.run_name)
        if (folder / RECIPE_FILE).exists()
    ]
    text = dump_recipe(chain)
    for folder in begun:
        if resume_from == "auto" or (folder / RECIPE_FILE).read_text(encoding="utf-8") == text:
            return folder.name
    names = (chain.run_name + (f"-{n}" if n > 1 else "") for n in itertools.count(1))
    name = next(name for name in names if not _is_taken(chain, name))
    if name != chain.run_name:
        log.warning(
            "%s holds another recipe's run: this one goes to %s",
            chain.output_dir / chain.run_name,
            chain.output_dir / name,
        )
    return name


def _is_taken(chain: Chain, name: str) -> bool:
    """Whether the chain or one of its stages would get the name of an existing folder."""
    folders = (chain.output_dir / name, *(stage.run_dir for stage in _named(chain, name)))
    return any(folder.exists() for folder in folders)


def _named(chain: Chain, name: str) -> list[Recipe]:
    """The stages, named after the chain's folder `name`."""
    names = [name + stage.run_name.removeprefix(chain.run_name) for stage in chain.stages]
    return [
        stage.model_copy(update={"run_name": run_name})
        for stage, run_name in zip(chain.stages, names, strict=True)
    ]


def _furthest(recipe: Recipe | Chain) -> tuple[int, Recipe]:
    """The furthest stage that has a checkpoint (or the first stage), and its number from 0."""
    if isinstance(recipe, Recipe):
        return 0, recipe
    begun = find_run_folder(recipe.output_dir, recipe.run_name)
    stages = _named(recipe, begun.name if begun else recipe.run_name)
    return next(
        (
            (number, stage)
            for number, stage in reversed(list(enumerate(stages)))
            if newest_checkpoint(stage.run_dir)
        ),
        (0, stages[0]),
    )
