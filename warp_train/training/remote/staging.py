"""What a run is at one instant, kept for as long as it takes to copy it elsewhere.

The files of its checkpoints get hard links in a hidden folder of the run, `.push`, so that
retention may remove them from the run meanwhile. A killed process leaves that folder; the next one
removes it (`clean_interrupted_writes`).
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from warp_train.training.checkpoints.folder import STAGING
from warp_train.training.checkpoints.links import LINKS, checkpoint_folder, link_target
from warp_train.training.checkpoints.state import STATE_FILE, read_trainer_state
from warp_train.training.run_folder import (
    BAD_SAMPLES_FILE,
    METRICS_FILE,
    PICTURE_FILE,
    RECIPE_FILE,
    SUMMARY_FILE,
)

ENDING = (PICTURE_FILE, f"images/{PICTURE_FILE}", SUMMARY_FILE)
"""Files of a finished run or chain. The summary is the last one: it marks a stage as finished."""
_GROWING = (METRICS_FILE, BAD_SAMPLES_FILE)
"""Files that only get longer: a resumed run drops the lines that it will write again."""


@dataclass(frozen=True)
class Snapshot:
    """The run as it was after one of its saves."""

    run_dir: Path
    folder: Path
    """Where the checkpoints' files are kept; removed by `discard`."""
    checkpoints: Mapping[str, Path]
    """Folders with the files of the checkpoints, by their names in the run."""
    links: Mapping[str, str]
    """What `best`, `last` and `interrupted` name, relative to the run folder."""
    recipe: bytes
    ending: Mapping[str, bytes]
    """Contents of `ENDING`, as far as they exist; none while no summary exists."""

    @property
    def what(self) -> str:
        """The run and its newest state, for messages."""
        newest = self.links.get("last", self.links.get("best", ""))
        return f"{self.run_dir} ({newest.rpartition('/')[2] or RECIPE_FILE})"

    def growing(self) -> Iterator[tuple[str, bytes]]:
        """Name and contents of the run's lists as they are now."""
        for name in _GROWING:
            with suppress(FileNotFoundError):
                content = (self.run_dir / name).read_bytes()
                yield name, content[: content.rfind(b"\n") + 1]

    def discard(self) -> None:
        """Removes the links to the files."""
        shutil.rmtree(self.folder, ignore_errors=True)


def take_snapshot(run_dir: Path, number: int) -> Snapshot:
    """Keeps what the links of a run point at now. Fast: nothing is copied where the disk has hard
    links.

    Args:
        number: differs between the snapshots of a run.

    Raises:
        OSError: a file could not be linked or read.
        WarpTrainError: a checkpoint is damaged.
    """
    folder = run_dir / STAGING / str(number)
    here = run_dir.resolve()
    links: dict[str, str] = {}
    checkpoints: dict[str, Path] = {}
    for link in LINKS:
        target = link_target(run_dir / link)
        if target is None:
            continue
        if target.is_relative_to(here):
            # A copy of a run may have a folder in the place of a link.
            name = checkpoint_folder(run_dir, read_trainer_state(target).step).name
            checkpoints[name] = _linked(target, folder / name)
            links[link] = f"checkpoints/{name}"
        else:  # of a chain, whose weights are those of its last stage
            links[link] = os.path.relpath(target, here)
    finished = (run_dir / SUMMARY_FILE).exists()
    return Snapshot(
        run_dir=run_dir,
        folder=folder,
        checkpoints=checkpoints,
        links=links,
        recipe=(run_dir / RECIPE_FILE).read_bytes(),
        ending={
            name: (run_dir / name).read_bytes()
            for name in ENDING
            if finished and (run_dir / name).exists()
        },
    )


def state_last(folder: Path) -> list[Path]:
    """The files of a checkpoint, the one last by which it is complete."""
    return sorted(folder.iterdir(), key=lambda path: (path.name == STATE_FILE, path.name))


def _linked(folder: Path, copy: Path) -> Path:
    copy.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        with suppress(FileExistsError):  # two links to one checkpoint
            _link(file, copy / file.name)
    return copy


def _link(file: Path, copy: Path) -> None:
    try:
        os.link(file, copy)
    except FileExistsError:
        raise
    except OSError:  # a disk without hard links
        shutil.copyfile(file, copy)
