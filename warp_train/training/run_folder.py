"""The run folder: its name, its atomic text files, and `metrics.jsonl`."""

import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from warp_train.errors import WarpTrainError

METRICS_FILE = "metrics.jsonl"


def create_run_folder(output_dir: Path, run_name: str) -> tuple[Path, str | None]:
    """Makes the folder of a new run. Main process only.

    Returns:
        `output_dir/run_name`, or the first free of `<run_name>-2`, `-3` … where earlier runs have
        left files, together with a notice that says so.

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
    """Appends to `metrics.jsonl`, a flushed line an object, so that a crash loses no more than one.

    A number that is not finite is written as null: JSON has no other way to say it.
    """

    def __init__(self, path: Path, *, enabled: bool = True) -> None:
        """`enabled`: False on all but the main process."""
        self._file = path.open("a", encoding="utf-8", buffering=1) if enabled else None

    def write(self, step: int, epoch: int, split: str, values: Mapping[str, Any]) -> None:
        if self._file is not None:
            row = {"step": step, "epoch": epoch, "split": split, **values}
            self._file.write(to_json(row) + "\n")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def truncate_metrics(path: Path, step: int, validated_step: int | None) -> None:
    """Drops what a run that goes on from `step` will write again, and a line that a crash cut off.

    Args:
        validated_step: the newest validation that the run does not repeat; None: there is none.
    """
    if not path.exists():
        return
    validated = -1 if validated_step is None else validated_step
    until = {"train": step, "val": validated, "proxy": validated}
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if _is_until(line, until)]
    write_atomically(path, "".join(line + "\n" for line in kept))


def is_scored(path: Path, step: int) -> bool:
    """Whether the metrics hold the proxy score of the validation at `step`."""
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return any(row["step"] == step and "proxy/total_score" in row for row in rows)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes JSON whole or not at all; numbers that are not finite become null."""
    write_atomically(path, to_json(content, indent=2) + "\n")


def write_atomically(path: Path, text: str) -> None:
    """Writes a text file whole or not at all.

    Raises:
        OSError: from the file system; the file that was there before is untouched.
    """
    incoming = path.with_name(f".incoming-{path.name}")
    try:
        with incoming.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        incoming.replace(path)
    except OSError:
        incoming.unlink(missing_ok=True)
        raise


def fsync_path(path: Path) -> None:
    """Makes a file's contents, or a folder's entries, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON text in which numbers that are not finite are null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False, ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _is_until(line: str, until: Mapping[str, int]) -> bool:
    try:
        row = json.loads(line)
    except ValueError:
        return False
    return bool(row["step"] <= until[row["split"]])
