"""Fetches runs from elsewhere into folders here, where they resume as if they had been here."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from warp_train.runtime.atomic_files import INCOMING, write_atomically
from warp_train.runtime.console import tell
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.links import place_link
from warp_train.runtime.locks import held, lock_file, lock_folder
from warp_train.runtime.urls import Remote
from warp_train.training.checkpoints.folder import (
    is_complete,
    move_into_place,
    newest_checkpoint,
)
from warp_train.training.checkpoints.links import point_link, remove_link
from warp_train.training.checkpoints.state import read_trainer_state
from warp_train.training.disk import refusal
from warp_train.training.remote.ownership import newest_state
from warp_train.training.remote.places import names, pointers, read
from warp_train.training.remote.staging import ENDING
from warp_train.training.run_folder import (
    BAD_SAMPLES_FILE,
    METRICS_FILE,
    RECIPE_FILE,
    SUMMARY_FILE,
)

_TEXTS = (METRICS_FILE, BAD_SAMPLES_FILE, RECIPE_FILE)
_ORDER = ("best", "last", "interrupted")
"""As they are copied there: the newest state names the best one."""


def fetch_run(run: Remote, run_dir: Path) -> None:
    """Brings a run to `run_dir`, unless that holds the same run at the same step or a later one.

    A process that dies meanwhile leaves what was there before. Errors of either side are raised as
    they are.

    Raises:
        WarpTrainError: another run is in `run_dir`, another process works or fetches there, or the
            run elsewhere is damaged.
    """
    with _alone(run_dir):
        there = newest_state(run)
        if there is None:
            raise WarpTrainError(f"{run.url}: holds no complete checkpoint")
        if _is_here(run, run_dir, *there):
            return
        tell(f"fetching {run.url} (step {there[0]}) to {run_dir}")
        incoming = run_dir.with_name(INCOMING + run_dir.name)
        shutil.rmtree(incoming, ignore_errors=True)
        try:
            _download(run, incoming)
            if run_dir.exists():
                _move_in(incoming, run_dir)
            else:
                incoming.rename(run_dir)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)


def fetch_files(folder: Remote, target: Path) -> None:
    """Brings the small files of a chain's own folder, if there is no such folder here."""
    if target.exists():
        return
    with _alone(target):
        incoming = target.with_name(INCOMING + target.name)
        shutil.rmtree(incoming, ignore_errors=True)
        incoming.mkdir()
        try:
            for name in (RECIPE_FILE, *ENDING):
                if (content := read(folder / name)) is not None:
                    (incoming / name).parent.mkdir(exist_ok=True)
                    write_atomically(incoming / name, content)
            for link, checkpoint in pointers(folder).items():
                place_link(incoming / link, incoming.resolve() / checkpoint)
            incoming.rename(target)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)


def _is_here(run: Remote, run_dir: Path, step: int, identity: str | None) -> bool:
    newest = newest_checkpoint(run_dir)
    if newest is None:
        return False
    state = read_trainer_state(newest)
    if state.wandb_run_id != identity:
        raise WarpTrainError(
            f"{run_dir} holds another run than {run.url}: set another output_dir, or rename one"
        )
    if state.step >= step:
        tell(f"{run_dir} is at step {state.step}, {run.url} at {step}: nothing is fetched")
    return state.step >= step


def _download(run: Remote, incoming: Path) -> None:
    incoming.mkdir(parents=True)
    links = pointers(run)
    for checkpoint in dict.fromkeys(links.values()):
        folder = incoming / checkpoint
        folder.mkdir(parents=True)
        for name in sorted(names(run / checkpoint)):
            if re.fullmatch(r"\w[\w.-]*", name):
                file = run / checkpoint / name
                file.files.get_file(file.path, str(folder / name))
        if not is_complete(folder):
            raise WarpTrainError(f"{(run / checkpoint).url}: not a complete checkpoint")
    for name in (*_TEXTS, *ENDING):
        if (content := read(run / name)) is not None:
            (incoming / name).parent.mkdir(exist_ok=True)
            write_atomically(incoming / name, content)
    for link in _ORDER:
        if link in links:
            place_link(incoming / link, incoming.resolve() / links[link])


def _move_in(incoming: Path, run_dir: Path) -> None:
    """Moves a newer state of a run into its older folder: its lists first, which may be longer than
    the checkpoints, then each checkpoint before the link that names it."""
    present = [name for name in _ORDER if (incoming / name).exists()]
    links = {name: (incoming / name).resolve().name for name in present}
    with held(lock_folder(run_dir)):
        for name in _TEXTS:
            _move_file(incoming / name, run_dir / name)
        (run_dir / SUMMARY_FILE).unlink(missing_ok=True)  # of a stage that was prolonged elsewhere
        (run_dir / "checkpoints").mkdir(exist_ok=True)
        for link, checkpoint in links.items():
            fetched, folder = (place / "checkpoints" / checkpoint for place in (incoming, run_dir))
            if fetched.exists():  # two links may name one checkpoint
                move_into_place(fetched, folder)
            point_link(run_dir / link, folder)
        if "interrupted" not in links:
            remove_link(run_dir / "interrupted")
        for name in ENDING:
            _move_file(incoming / name, run_dir / name)


def _move_file(file: Path, target: Path) -> None:
    if file.exists():
        target.parent.mkdir(exist_ok=True)
        file.replace(target)


@contextmanager
def _alone(run_dir: Path) -> Iterator[None]:
    """No other process fetches to `run_dir` meanwhile. WarpTrainError if one does already, or the
    folder around cannot be made."""
    try:
        run_dir.parent.mkdir(parents=True, exist_ok=True)
        lock = lock_file(run_dir)
    except OSError as error:
        raise WarpTrainError(refusal(run_dir, error)) from error
    with held(lock):
        yield
