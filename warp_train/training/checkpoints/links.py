"""Links to checkpoints, also in copies of runs whose links have become folders.

A link is symbolic, or a small text file with a path on a disk without symbolic links. Copies that
follow links (`cp -rL`, zip, a sync to a bucket) have folders in their place: each is read as the
checkpoint that it is a copy of, and replaced by a link when it is written.
"""

import logging
import shutil
from functools import lru_cache
from pathlib import Path
from typing import Literal

from warp_train.models.pretrained import MODEL_FILE
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.links import followed, has_links, place_link
from warp_train.training.checkpoints.state import read_trainer_state
from warp_train.training.disk import is_gone, is_there

log = logging.getLogger("warp_train")

Link = Literal["best", "last", "interrupted"]

LINKS: tuple[Link, ...] = ("best", "last", "interrupted")
PINNED = "pinned"
REPLACED = ".replaced-"


@lru_cache(maxsize=1)  # once for the stages of a chain
def warn_without_links(output_dir: Path) -> None:
    """Warns where no symbolic links can be made in a folder, which must exist."""
    if not has_links(output_dir):
        log.warning(
            "%s: this disk has no symbolic links: %s are small text files with the paths of their "
            "checkpoints, which all commands follow",
            output_dir,
            ", ".join(LINKS),
        )


def checkpoint_folder(run_dir: Path, step: int) -> Path:
    """The folder of the checkpoint after `step` optimizer steps."""
    return run_dir / "checkpoints" / f"step-{step:09d}"


def run_of(checkpoint: Path) -> Path:
    """The run folder of a checkpoint, or of a folder in the place of one of its links."""
    return checkpoint.parent if checkpoint.name in LINKS else checkpoint.parent.parent


def real_checkpoint(path: Path) -> Path:
    """The real folder of the checkpoint that a link or a folder in its place stands for.

    Raises:
        OSError, RuntimeError: it is missing, out of reach, or a loop of links.
    """
    folder = followed(path).resolve(strict=True)
    if folder.name not in LINKS and folder.parent.name != PINNED:
        return folder
    try:
        original = checkpoint_folder(run_of(folder), read_trainer_state(folder).step)
    except WarpTrainError:
        return folder
    return original if is_there(original / MODEL_FILE) else folder


def link_target(link: Path) -> Path | None:
    """The real folder of a link; None for a loop or a missing target."""
    try:
        return real_checkpoint(link)
    except (OSError, RuntimeError):
        return None


def is_dangling(link: Path) -> bool:
    """Whether there is a link whose target certainly does not exist."""
    return (link.is_symlink() or followed(link) != link) and is_gone(followed(link))


def point_link(link: Path, target: Path) -> None:
    """Makes a link or switches it in one step. A checkpoint's folder in its place is replaced.

    Raises:
        OSError: the link could not be written, or a folder that is no checkpoint is in the way.
    """
    aside = link.with_name(REPLACED + link.name)
    copied = link.is_dir() and not link.is_symlink() and is_there(link / MODEL_FILE)
    if copied:
        shutil.rmtree(aside, ignore_errors=True)
        link.rename(aside)
    try:
        place_link(link, target)
    except OSError:
        if copied:
            aside.rename(link)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def remove_link(link: Path) -> None:
    """Removes a link, or the checkpoint's folder in its place. OSError if that fails."""
    if link.is_dir() and not link.is_symlink() and is_there(link / MODEL_FILE):
        shutil.rmtree(link)
    else:
        link.unlink(missing_ok=True)
