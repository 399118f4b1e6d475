"""A chain of stages: each starts from the best weights of the one before."""

import dataclasses
import itertools
import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from accelerate.utils import broadcast_object_list

from warp_train.recipe import Chain, Recipe, dump_recipe
from warp_train.runtime.atomic_files import write_atomically
from warp_train.runtime.console import rank, tell
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.lock_files import InUseError
from warp_train.runtime.locks import Lock, held
from warp_train.training.acceleration import build_accelerator
from warp_train.training.checkpoints.folder import find_checkpoint, newest_checkpoint
from warp_train.training.checkpoints.links import point_link
from warp_train.training.disk import refusal
from warp_train.training.feeding import Data
from warp_train.training.interrupts import Interrupts
from warp_train.training.placing import locked, require_unlocked
from warp_train.training.remote.ownership import require_ours, run_elsewhere
from warp_train.training.remote.pusher import Pusher
from warp_train.training.resuming import as_ended, differences, may_be_longer
from warp_train.training.run_folder import (
    PICTURE_FILE,
    RECIPE_FILE,
    SUMMARY_FILE,
    clear_run_folder,
    find_run_folder,
    run_folders,
)
from warp_train.training.stage_run import run_stage

log = logging.getLogger("warp_train")


@dataclass(frozen=True)
class ChainPlace:
    """The folder of a chain, locked by the main process."""

    name: str
    lock: Lock
    is_new: bool


def run_chain(
    chain: Chain,
    data: list[Data],
    resume_from: str | None,
    interrupts: Interrupts,
    wandb_run_id: str | None,
    pusher: Pusher,
) -> int:
    """Trains the stages in order. Finished ones are skipped, unless the recipe prolongs them; begun
    ones are resumed.

    Collective: call on every rank.

    Args:
        wandb_run_id: belongs to the last stage, whose metrics are those of the chain; the stages
            before are W&B runs of their own.
    """
    if resume_from not in (None, "auto"):
        raise WarpTrainError(
            f"cannot resume from {resume_from}: a chain that is started again resumes "
            "where it stopped; only a single stage resumes from a folder"
        )
    with _placed(chain, resume_from) as place:
        accelerator = build_accelerator(chain.stages[0].train)
        name: str = broadcast_object_list([place.name if place else None], from_process=0)[0]
        chain_dir, init_from = chain.output_dir / name, chain.stages[0].init_from
        push_to = chain.stages[0].checkpoint.push_to
        pusher.note_later(chain_dir, push_to)
        run_ids = [*(None for _ in data[1:]), wandb_run_id]
        trained_further: Path | None = None
        for stage, stage_data, run_id in zip(_named(chain, name), data, run_ids, strict=True):
            recipe = stage.model_copy(update={"init_from": init_from})
            init_from = str(recipe.run_dir)
            before = newest_checkpoint(recipe.run_dir)
            if accelerator.is_main_process:
                _tell_about(recipe, trained_further)
            if _ended(recipe):
                pusher.note(recipe.run_dir, push_to)
                continue
            code = run_stage(recipe, stage_data, "auto", interrupts, run_id, pusher)
            if code:
                return code
            if before is not None and before != newest_checkpoint(recipe.run_dir):
                trained_further = recipe.run_dir
        if accelerator.is_main_process:
            _close_chain(chain_dir, Path(str(init_from)))
            pusher.note(chain_dir, push_to)
        return 0


def _ended(stage: Recipe) -> Path | None:
    """The last checkpoint of a stage that has ended and that its recipe does not prolong."""
    last = newest_checkpoint(stage.run_dir)
    if last is None or not (stage.run_dir / SUMMARY_FILE).exists():
        return None
    return None if may_be_longer(stage, last) else last


def _tell_about(stage: Recipe, trained_further: Path | None) -> None:
    """Prints what becomes of a stage that was begun before. Main process only.

    Args:
        trained_further: the stage before it, if that has just been prolonged.
    """
    last = _ended(stage)
    if last is not None:
        tell(f"{stage.run_dir}: already finished, skipped")
        for difference in differences(as_ended(stage, last), stage):
            log.warning("%s has no effect: %s is finished", difference, stage.run_dir)
    elif (stage.run_dir / SUMMARY_FILE).exists():
        tell(f"{stage.run_dir}: had finished, and goes on as far as the recipe now allows")
    if trained_further is not None and newest_checkpoint(stage.run_dir) is not None:
        log.warning(
            "%s keeps its own weights: those that it started from have been trained further in %s",
            stage.run_dir,
            trained_further,
        )


def furthest(recipe: Recipe | Chain) -> tuple[int, Recipe]:
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


@contextmanager
def _placed(chain: Chain, resume_from: str | None) -> Iterator[ChainPlace | None]:
    """Chooses and locks the chain's folder on the main process, before any process group exists.

    A chain that ends with an error before the first step of its first stage leaves nothing behind.

    Raises:
        WarpTrainError: another process works in a folder of the chain.
    """
    place: ChainPlace | None = None
    if rank() == 0:
        place = _choose_place(chain, resume_from)
    elif resume_from == "auto":
        for folder in _begun(chain)[:1]:
            require_unlocked(folder)
            _require_unlocked_stages(chain, folder.name)
    with held(place.lock) if place else nullcontext():
        try:
            if place:
                _begin_chain(chain, place)
            yield place
        except BaseException:
            if place and place.is_new and not _any_exists(_named(chain, place.name)):
                with suppress(OSError):  # the first error is reported
                    clear_run_folder(chain.output_dir / place.name)
            raise


def _choose_place(chain: Chain, resume_from: str | None) -> ChainPlace:
    """The folder of this chain if it was started before, otherwise a free one.

    `auto` continues the latest of that name, even if the recipe has changed since. A chain that is
    in use is not continued by another process.
    """
    notice, text = "", dump_recipe(chain)
    for folder in _begun(chain):
        same = (folder / RECIPE_FILE).read_text(encoding="utf-8") == text
        if resume_from == "auto":
            return ChainPlace(folder.name, locked(folder), is_new=False)
        try:
            if same:
                return ChainPlace(folder.name, locked(folder), is_new=False)
        except InUseError as error:
            notice = notice or str(error)
    notice = notice or f"{chain.output_dir / chain.run_name} holds another recipe's run"
    for number in itertools.count(1):
        name = chain.run_name + (f"-{number}" if number > 1 else "")
        if _is_taken(chain, name):
            continue
        try:
            lock = locked(chain.output_dir / name)
        except InUseError:  # it was begun a moment ago
            continue
        if (chain.output_dir / name / RECIPE_FILE).exists():  # and has ended
            lock.release()
            continue
        if name != chain.run_name:
            log.warning("%s; this run goes to %s", notice, chain.output_dir / name)
        return ChainPlace(name, lock, is_new=True)
    raise AssertionError


def _require_unlocked_stages(chain: Chain, name: str) -> None:
    """Raises WarpTrainError if another launch works in the folder of a stage, or if the copy of a
    stage elsewhere is not of this run."""
    for stage in _named(chain, name):
        if stage.run_dir.exists():
            require_unlocked(stage.run_dir)
            require_ours(stage.checkpoint.push_to, stage.run_dir)


def _begun(chain: Chain) -> list[Path]:
    """The folders of chains of this name, latest first."""
    folders = run_folders(chain.output_dir, chain.run_name)
    return [folder for folder in folders if (folder / RECIPE_FILE).exists()]


def _begin_chain(chain: Chain, place: ChainPlace) -> None:
    """Writes the recipe of the chain, where no other process works in a folder of its stages."""
    chain_dir = chain.output_dir / place.name
    _require_unlocked_stages(chain, place.name)
    try:
        write_atomically(chain_dir / RECIPE_FILE, dump_recipe(_as_it_runs(chain, place.name)))
    except OSError as error:
        raise WarpTrainError(refusal(chain_dir, error)) from error


def _as_it_runs(chain: Chain, name: str) -> Chain:
    """The chain, with the recipes that its finished stages have followed."""
    ends = [_ended(stage) for stage in _named(chain, name)]
    stages = [
        as_ended(stage, end) if end else stage
        for stage, end in zip(chain.stages, ends, strict=True)
    ]
    return dataclasses.replace(chain, stages=tuple(stages))


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


def _is_taken(chain: Chain, name: str) -> bool:
    """Whether the chain or one of its stages would get the name of an existing folder."""
    stages = _named(chain, name)
    return (
        (chain.output_dir / name).exists()
        or _any_exists(stages)
        or any(run_elsewhere(stage.checkpoint.push_to, stage.run_name) for stage in stages)
    )


def _any_exists(stages: list[Recipe]) -> bool:
    return any(stage.run_dir.exists() for stage in stages)


def _named(chain: Chain, name: str) -> list[Recipe]:
    """The stages, named after the chain's folder `name`."""
    names = [name + stage.run_name.removeprefix(chain.run_name) for stage in chain.stages]
    return [
        stage.model_copy(update={"run_name": run_name})
        for stage, run_name in zip(chain.stages, names, strict=True)
    ]
