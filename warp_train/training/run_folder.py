"""The run folder: its name, and `metrics.jsonl`."""

import itertools
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from warp_train.runtime.atomic_files import write_atomically
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.journal import append_line, read_lines
from warp_train.runtime.json_text import json_line
from warp_train.runtime.lock_files import LOCK_FILE
from warp_train.runtime.locks import Lock, lock_folder, require_free

METRICS_FILE = "metrics.jsonl"
RECIPE_FILE = "recipe.yaml"
SUMMARY_FILE = "summary.json"
"""Its existence marks a stage as finished."""
PICTURE_FILE = "before_after.png"
BAD_SAMPLES_FILE = "bad_samples.jsonl"


def claim_run_folder(
    output_dir: Path, run_name: str, taken: Callable[[str], str | None] = lambda name: None
) -> tuple[Path, Lock, str | None]:
    """Makes and locks the folder of a new run. Main process only.

    Args:
        taken: the place where a run elsewhere has a name; None where none has it.

    Returns:
        `output_dir/run_name`, or the first free of `<run_name>-2`, `-3` … where earlier runs have
        left files or other processes are training, its lock, and a notice about that.

    Raises:
        WarpTrainError: the folder cannot be made.
    """
    wanted, notice = output_dir / run_name, None
    try:
        for number in itertools.count(1):
            folder = wanted if number == 1 else output_dir / f"{run_name}-{number}"
            try:
                if there := taken(folder.name):
                    raise WarpTrainError(f"{there}: holds a run, which can be resumed")
                lock = _claim(folder)
            except WarpTrainError as error:
                notice = notice or str(error)
            else:
                return folder, lock, notice and f"{notice}; this run goes to {folder}"
    except OSError as error:
        raise WarpTrainError(f"{wanted}: cannot make the run folder ({error.strerror})") from error
    raise AssertionError


def _claim(folder: Path) -> Lock:
    """Locks a folder without results of earlier runs; WarpTrainError if it is not free."""
    taken = WarpTrainError(f"{folder}: holds an earlier run, which can be resumed")
    if _holds_results(folder):
        require_free(folder)
        raise taken
    lock = lock_folder(folder)
    if _holds_results(folder):  # of a run that began and ended since a moment ago
        lock.release()
        raise taken
    (folder / BAD_SAMPLES_FILE).unlink(missing_ok=True)
    return lock


def clear_run_folder(run_dir: Path) -> None:
    """Removes what a run without any step has left in its own new folder, except the list of
    unreadable files. Raises OSError."""
    for path in run_dir.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != BAD_SAMPLES_FILE and not path.name.startswith(LOCK_FILE):
            path.unlink()


def _holds_results(folder: Path) -> bool:
    """Whether an earlier run has left more than a list of unreadable files. Raises OSError."""
    if not folder.exists():
        return False
    names = {path.name for path in folder.iterdir()} - {BAD_SAMPLES_FILE}
    return any(not name.startswith(LOCK_FILE) for name in names)


def find_run_folder(output_dir: Path, run_name: str) -> Path | None:
    """The latest of `<run_name>`, `<run_name>-2`, …: what an automatic resume continues."""
    return next(iter(run_folders(output_dir, run_name)), None)


def run_folders(output_dir: Path, run_name: str) -> list[Path]:
    """`<run_name>` and its numbered successors, latest first."""
    folders = output_dir.iterdir() if output_dir.is_dir() else ()
    found = latest_first((path.name for path in folders if path.is_dir()), run_name)
    return [output_dir / name for name in found]


def latest_first(names: Iterable[str], run_name: str) -> list[str]:
    """Those of `names` that are `<run_name>`, `<run_name>-2`, …, the highest number first."""
    numbered = re.compile(re.escape(run_name) + r"(?:-(\d+))?")
    runs = {int(match[1] or 1): name for name in names if (match := numbered.fullmatch(name))}
    return [runs[number] for number in sorted(runs, reverse=True)]


class MetricsWriter:
    """Appends to `metrics.jsonl`, a line an object."""

    def __init__(self, path: Path, *, enabled: bool = True) -> None:
        """`enabled`: False on all but the main process."""
        self._path = path if enabled else None

    def write(self, step: int, epoch: int, split: str, values: Mapping[str, Any]) -> None:
        """OSError if the disk refuses; the file then ends with the line before."""
        if self._path is not None:
            append_line(self._path, {"step": step, "epoch": epoch, "split": split, **values})


def truncate_metrics(path: Path, step: int, validated_step: int | None) -> None:
    """Drops the lines that a run resumed at `step` will write again, and an incomplete last line.

    Args:
        validated_step: the newest validation that the run does not repeat; None: there is none.
    """
    if not path.exists():
        return
    validated = -1 if validated_step is None else validated_step
    until = {"train": step, "val": validated, "proxy": validated}
    kept = [row for row in read_lines(path) if _is_until(row, until)]
    write_atomically(path, b"".join(map(json_line, kept)))


def is_scored(path: Path, step: int) -> bool:
    """Whether the metrics hold the proxy score of the validation at `step`."""
    return any(row.get("step") == step and "proxy/total_score" in row for row in read_lines(path))


def _is_until(row: Mapping[str, Any], until: Mapping[str, int]) -> bool:
    step, split = row.get("step"), row.get("split")
    return isinstance(step, int) and isinstance(split, str) and step <= until.get(split, -1)
