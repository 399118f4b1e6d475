"""Checkpoints on disk: each appears whole or not at all, in safetensors and JSON alone.

<run>/checkpoints/step-000001200/
    model.safetensors      the weights to use (their moving average where `Ema` is on)
    config.json            the model's configuration
    raw.safetensors        the weights under training, only where `Ema` is on
    optimizer.safetensors  state.<parameter name>.<exp_avg|exp_avg_sq|step>
    trainer_state.json     `TrainerState`
    rng-<rank>.safetensors random generators of each process
<run>/best, last, interrupted -> checkpoints/step-…
<run>/pinned/<other run> -> ../checkpoints/step-…    what another run has started from

What a link is on disks without symbolic links, and in copies, is in `links`.
Retention keeps checkpoints that a link points at. A run that starts from another run's checkpoint
pins it there, so that it stays when `best` moves on. Remove the pin to free it.
"""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from warp_train.models.pretrained import (
    CONFIG_FILE,
    MODEL_FILE,
    plain,
    tensor_shapes,
)
from warp_train.runtime.atomic_files import INCOMING, fsync_path, write_atomically
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.links import followed
from warp_train.training.checkpoints.links import (
    LINKS,
    PINNED,
    REPLACED,
    Link,
    is_dangling,
    link_target,
    point_link,
    real_checkpoint,
    remove_link,
    run_of,
)
from warp_train.training.checkpoints.state import read_trainer_state
from warp_train.training.disk import free_bytes, is_gone, is_there, refusal

log = logging.getLogger("warp_train")

STAGING = ".push"
"""What is being copied elsewhere, within the run folder; see `remote.staging`."""
RAW_FILE = "raw.safetensors"
OPTIMIZER_FILE = "optimizer.safetensors"
_STEP = re.compile(r"step-(\d{9,18})")


def rng_file(rank: int) -> str:
    """Name of the file with the states of the random generators of process `rank`."""
    return f"rng-{rank}.safetensors"


def find_checkpoint(path: Path, prefer: Literal["best", "last"]) -> Path:
    """The checkpoint at `path`: a checkpoint folder, or a run folder's `best` or newest.

    Raises:
        WarpTrainError: `path` does not exist, or is neither.
    """
    place = followed(path)
    if not is_there(place):
        raise WarpTrainError(
            f"{plain(path)}: no such file or folder; expected a run or checkpoint folder"
        )
    if is_there(place / MODEL_FILE):
        return real_checkpoint(place)
    best = followed(place / "best")
    if prefer == "best" and is_there(best / MODEL_FILE):
        return real_checkpoint(best)
    newest = newest_checkpoint(place)
    if newest is None:
        raise WarpTrainError(
            f"{path}: neither a checkpoint folder (no {MODEL_FILE}) nor a run folder with a "
            "complete checkpoint"
        )
    return newest


def newest_checkpoint(run_dir: Path) -> Path | None:
    """The complete checkpoint of the highest step; damaged and unfinished ones are skipped."""
    return next((place.resolve() for place in _newest_first(run_dir) if is_complete(place)), None)


def find_start(init_from: Path, run_dir: Path) -> Path:
    """The checkpoint that the run in `run_dir` started from: the one it pinned, or the best.

    Raises:
        WarpTrainError: `init_from` is neither a run nor a checkpoint folder.
    """
    found = find_checkpoint(init_from, prefer="best")
    pin = followed(_pin(found, run_dir))
    chosen = (
        init_from.name == found.name
    )  # named itself, and not through a run or a link that may have moved on
    return real_checkpoint(pin) if is_there(pin / MODEL_FILE) and not chosen else found


def pin_checkpoint(folder: Path, run_dir: Path) -> None:
    """Protects a checkpoint that the run in `run_dir` starts from against retention."""
    if folder.parent.name != "checkpoints" or folder.parent.parent == run_dir.resolve():
        return
    pin = _pin(folder, run_dir)
    try:
        pin.parent.mkdir(exist_ok=True)
        point_link(pin, folder)
    except OSError as error:  # such as a run of another user
        log.warning("%s may be removed by its own run's retention: %s", folder, refusal(pin, error))


def unpin_checkpoint(folder: Path, run_dir: Path) -> None:
    """Takes back what `pin_checkpoint` has done, for a run that did not begin."""
    pin = _pin(folder, run_dir)
    with suppress(OSError):
        pin.unlink(missing_ok=True)
        pin.parent.rmdir()  # if it was the only pin


def _pin(folder: Path, run_dir: Path) -> Path:
    here = run_dir.resolve()
    tag = hashlib.sha256(os.fsencode(here)).hexdigest()[:8]
    return run_of(folder) / PINNED / f"{here.name}-{tag}"


def prune_checkpoints(run_dir: Path, keep_last: int) -> None:
    """Removes all but the `keep_last` newest checkpoints and those that a link points at."""
    links = [*(run_dir / link for link in LINKS), *(run_dir / PINNED).glob("*")]
    pointed_at = {target for link in links if (target := link_target(link))}
    for folder in _newest_first(run_dir)[keep_last:]:
        if link_target(folder) not in pointed_at:
            shutil.rmtree(folder, ignore_errors=True)


def _newest_first(run_dir: Path) -> list[Path]:
    """Folders that are named like a checkpoint; copies under other names are ignored."""
    try:
        found = [p for p in (run_dir / "checkpoints").iterdir() if _STEP.fullmatch(p.name)]
    except (OSError, ValueError):
        return []
    return sorted(found, key=lambda place: int(place.name.partition("-")[2]), reverse=True)


def have_vanished(run_dir: Path) -> bool:
    """Whether the run's folder, or the checkpoint that `last` points at, has been removed."""
    with suppress(OSError):  # no permission: the next write reports it
        return is_gone(run_dir) or is_dangling(run_dir / "last")
    return False


def clean_interrupted_writes(run_dir: Path) -> None:
    """Removes what a process that was killed while saving has left. Main process, at start."""
    places = (run_dir, run_dir / PINNED, run_dir / "checkpoints")
    for leftover in (found for place in places for found in place.glob(f"{REPLACED}*")):
        original = leftover.with_name(leftover.name.removeprefix(REPLACED))
        if os.path.lexists(original):
            shutil.rmtree(leftover)
        else:
            leftover.rename(original)
    staged = [run_dir / STAGING] if (run_dir / STAGING).is_dir() else []
    for leftover in (*(run_dir / "checkpoints").glob(f"{INCOMING}*"), *staged):
        shutil.rmtree(leftover)


class CheckpointError(WarpTrainError):
    """A checkpoint could not be written; earlier checkpoints and all links are unchanged."""


def write_folder(
    folder: Path, files: Mapping[str, Mapping[str, Tensor]], texts: Mapping[str, Any]
) -> None:
    """Writes a checkpoint under a temporary name and renames it when it is complete.

    Raises:
        CheckpointError: the write failed; the message gives the needed and the free bytes.
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
        move_into_place(incoming, folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(incoming, ignore_errors=True)
        raise CheckpointError(_why_not_written(folder, files, error)) from error


def _why_not_written(
    folder: Path, files: Mapping[str, Mapping[str, Tensor]], error: Exception
) -> str:
    needed = sum(value.nbytes for tensors in files.values() for value in tensors.values())
    free = free_bytes(folder)
    room = "the free bytes are unknown" if free is None else f"{free:,} are free there"
    missing = f", {needed - free:,} too few" if free is not None and needed > free else ""
    return (
        f"{folder}: the checkpoint could not be written ({error}); it takes {needed:,} bytes, and "
        f"{room}{missing}"
    )


def move_into_place(incoming: Path, folder: Path) -> None:
    """Replaces `folder`; the old one is renamed first (it cannot be overwritten), and restored on
    failure."""
    aside = folder.with_name(REPLACED + folder.name)
    if folder.exists():
        folder.rename(aside)
    try:
        incoming.rename(folder)
        fsync_path(folder.parent)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        if aside.exists():
            aside.rename(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def point_links(run_dir: Path, folder: Path, links: Collection[Link]) -> None:
    """Points `links` at a checkpoint; `last` without `interrupted` removes `interrupted`.

    Raises:
        CheckpointError: the write failed.
    """
    try:
        for link in links:
            point_link(run_dir / link, folder)
        if "last" in links and "interrupted" not in links:
            remove_link(run_dir / "interrupted")
        fsync_path(run_dir)
    except OSError as error:
        raise CheckpointError(f"{run_dir}: cannot point a link at {folder} ({error})") from error


def is_complete(folder: Path) -> bool:
    """Whether a checkpoint has all of its files, each of the size that its header states."""
    try:
        processes = read_trainer_state(folder).world_size
        found = {path.name for path in folder.iterdir()}
        if processes > len(found) or CONFIG_FILE not in found:
            return False
        optional = {RAW_FILE} & found
        for name in (MODEL_FILE, OPTIMIZER_FILE, *map(rng_file, range(processes)), *optional):
            tensor_shapes(folder / name)  # checks the header against the size
    except (WarpTrainError, OSError):
        return False
    return True
