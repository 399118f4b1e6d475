"""The run folder: its name, and `metrics.jsonl`."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from warp_train.runtime.atomic_files import write_atomically
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.journal import append_line, read_lines
from warp_train.runtime.json_text import json_line

METRICS_FILE = "metrics.jsonl"


def create_run_folder(output_dir: Path, run_name: str) -> tuple[Path, str | None]:
    """Makes the folder of a new run. Main process only.

    Returns:
        `output_dir/run_name`, or the first free of `<run_name>-2`, `-3` … where earlier runs have
        left files, together with a notice about it.

    Raises:
        WarpTrainError: the folder cannot be made.
    """
    wanted = output_dir / run_name
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        for number in range(1, len(list(output_dir.iterdir())) + 2):
            folder = wanted if number == 1 else output_dir / f"{run_name}-{number}"
            folder.mkdir(parents=True, exist_ok=True)
            if not any(folder.iterdir()):
                break
    except OSError as error:
        raise WarpTrainError(f"{wanted}: cannot make the run folder ({error.strerror})") from error
    notice = f"{wanted} holds an earlier run: this one goes to {folder}"
    return folder, None if folder == wanted else notice


def find_run_folder(output_dir: Path, run_name: str) -> Path | None:
    """The latest of `<run_name>`, `<run_name>-2`, …: what an automatic resume continues."""
    return next(iter(run_folders(output_dir, run_name)), None)


def run_folders(output_dir: Path, run_name: str) -> list[Path]:
    """`<run_name>` and its numbered successors, latest first."""
    numbered = re.compile(re.escape(run_name) + r"(?:-(\d+))?")
    runs = {
        int(match[1] or 1): folder
        for folder in (output_dir.iterdir() if output_dir.is_dir() else ())
        if (match := numbered.fullmatch(folder.name)) and folder.is_dir()
    }
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
