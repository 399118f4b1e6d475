"""Checkpoints on disk: each appears whole or not at all, in safetensors and JSON alone.

<run>/checkpoints/step-000001200/
    model.safetensors      the weights to use (their moving average where `Ema` is on)
    config.json            the model's configuration
    raw.safetensors        the weights under training, only where `Ema` is on
    optimizer.safetensors  state.<parameter name>.<exp_avg|exp_avg_sq|step>
    trainer_state.json     `TrainerState`
    rng-<rank>.safetensors random generators of each process
<run>/best, last, interrupted -> checkpoints/step-…
"""

import errno
import json
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from warp_train.errors import WarpTrainError
from warp_train.models.pretrained import MODEL_FILE, read_json
from warp_train.training.checkpoint_state import TrainerState
from warp_train.training.run_folder import fsync_path, write_atomically

Link = Literal["best", "last", "interrupted"]

RAW_FILE = "raw.safetensors"
OPTIMIZER_FILE = "optimizer.safetensors"
STATE_FILE = "trainer_state.json"
LINKS: tuple[Link, ...] = ("best", "last", "interrupted")
INCOMING = ".incoming-"
REPLACED = ".replaced-"


def checkpoint_folder(run_dir: Path, step: int) -> Path:
    """Where the checkpoint after `step` optimizer steps lies."""
    return run_dir / "checkpoints" / f"step-{step:09d}"


def rng_file(rank: int) -> str:
    """Name of the file that holds the random generators of process `rank`."""
    return f"rng-{rank}.safetensors"


def find_checkpoint(path: Path, prefer: Literal["best", "last"]) -> Path:
    """The checkpoint that MODEL means: a checkpoint folder, or a run folder's `best` or newest.

    Raises:
        WarpTrainError: `path` does not exist, or is neither.
    """
    if not path.exists():
        raise WarpTrainError(f"{path}: no such file or folder; expected a run or checkpoint folder")
    if (path / MODEL_FILE).is_file():
        return path.resolve()
    best = path / "best"
    if prefer == "best" and (best / MODEL_FILE).is_file():
        return best.resolve()
    newest = newest_checkpoint(path)
    if newest is None:
        raise WarpTrainError(
            f"{path}: neither a checkpoint folder (no {MODEL_FILE}) nor a run folder with a "
            "complete checkpoint"
        )
    return newest


def find_resume(run_dir: Path, resume_from: str) -> Path | None:
    """Where to resume: `auto` is the newest complete checkpoint of `run_dir`, None if it has none.

    Raises:
        WarpTrainError: `resume_from` names a folder that is no run and no checkpoint.
    """
    if resume_from == "auto":
        return newest_checkpoint(run_dir)
    return find_checkpoint(Path(resume_from), prefer="last")


def newest_checkpoint(run_dir: Path) -> Path | None:
    """The complete checkpoint of the highest step, damaged and unfinished ones left out."""
    folders = sorted((run_dir / "checkpoints").glob("step-*"), reverse=True)
    return next((folder.resolve() for folder in folders if _is_complete(folder)), None)


def prune_checkpoints(run_dir: Path, keep_last: int) -> None:
    """Removes all but the `keep_last` newest checkpoints and those that a link points at."""
    folders = sorted((run_dir / "checkpoints").glob("step-*"), reverse=True)
    pointed_at = {(run_dir / link).resolve() for link in LINKS if (run_dir / link).is_symlink()}
    for folder in folders[keep_last:]:
        if folder.resolve() not in pointed_at:
            shutil.rmtree(folder, ignore_errors=True)


def clean_interrupted_writes(run_dir: Path) -> None:
    """Clears up after a process that was killed while saving. Main process only, at start."""
    for leftover in (run_dir / "checkpoints").glob(f"{REPLACED}*"):
        original = leftover.with_name(leftover.name.removeprefix(REPLACED))
        if original.exists():
            shutil.rmtree(leftover)
        else:
            leftover.rename(original)
    for leftover in (run_dir / "checkpoints").glob(f"{INCOMING}*"):
        shutil.rmtree(leftover)


def read_trainer_state(folder: Path) -> TrainerState:
    """Reads `trainer_state.json` of a checkpoint folder.

    Raises:
        WarpTrainError: the file is missing, is not JSON, or lacks a field.
    """
    path = folder / STATE_FILE
    try:
        return TrainerState.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise WarpTrainError(f"{path}: {key}: {first['msg']}") from error


class CheckpointError(WarpTrainError):
    """The disk refused a checkpoint; those before it, and all links, are as they were."""


def write_folder(
    folder: Path, files: Mapping[str, Mapping[str, Tensor]], texts: Mapping[str, Any]
) -> None:
    """Writes a checkpoint beside its place and moves it there once it is complete.

    Raises:
        CheckpointError: the disk refused; it says what was missing.
    """
    incoming = folder.with_name(INCOMING + folder.name)
    try:
        shutil.rmtree(incoming, ignore_errors=True)
        incoming.mkdir(parents=True)
        for name, tensors in files.items():
            contiguous = {key: value.detach().contiguous() for key, value in tensors.items()}
            save_file(contiguous, incoming / name, metadata={"format": "pt"})
            fsync_path(incoming / name)
        for name, content in texts.items():
            write_atomically(incoming / name, json.dumps(content, indent=2, allow_nan=False) + "\n")
        fsync_path(incoming)
        _move_into_place(incoming, folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(incoming, ignore_errors=True)
        raise CheckpointError(_why_not_written(folder, files, error)) from error


def _why_not_written(
    folder: Path, files: Mapping[str, Mapping[str, Tensor]], error: Exception
) -> str:
    needed = sum(value.nbytes for tensors in files.values() for value in tensors.values())
    disk = next(parent for parent in folder.parents if parent.exists())
    free = shutil.disk_usage(disk).free
    missing = f", {needed - free:,} too few" if needed > free else ""
    return (
        f"{folder}: the checkpoint could not be written ({error}); it takes {needed:,} bytes, and "
        f"{free:,} are free there{missing}"
    )


def _move_into_place(incoming: Path, folder: Path) -> None:
    """A folder cannot be renamed over a full one: the old one steps aside and back if killed."""
    aside = folder.with_name(REPLACED + folder.name)
    if folder.exists():
        folder.rename(aside)
    incoming.rename(folder)
    fsync_path(folder.parent)
    shutil.rmtree(aside, ignore_errors=True)


def point_links(run_dir: Path, folder: Path, links: Collection[Link]) -> None:
    """Points `links` at a checkpoint; a `last` that is not `interrupted` ends the latter.

    Raises:
        CheckpointError: the disk refused, or the file system has no symbolic links.
    """
    try:
        for link in links:
            point_link(run_dir / link, folder)
        if "last" in links and "interrupted" not in links:
            (run_dir / "interrupted").unlink(missing_ok=True)
        fsync_path(run_dir)
    except OSError as error:
        hint = "; this file system has no symbolic links" if error.errno == errno.EPERM else ""
        raise CheckpointError(
            f"{run_dir}: cannot point a link at {folder} ({error}){hint}"
        ) from error


def point_link(link: Path, target: Path) -> None:
    """Makes or switches a relative symbolic link in one step."""
    temporary = link.with_name(f".{link.name}-{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(os.path.relpath(target, link.parent.resolve()), target_is_directory=True)
    temporary.replace(link)


def _is_complete(folder: Path) -> bool:
    try:
        read_trainer_state(folder)
        for name in (MODEL_FILE, OPTIMIZER_FILE):
            with safe_open(folder / name, framework="pt"):  # checks the header against the size
                pass
    except (WarpTrainError, SafetensorError, OSError):
        return False
    return True
