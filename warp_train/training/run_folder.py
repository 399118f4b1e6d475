"""The run folder: its name, its atomic text files, and `metrics.jsonl`."""

import errno
import json
import math
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from warp_train.runtime.errors import WarpTrainError

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
    """Appends to `metrics.jsonl`, a line an object."""

    def __init__(self, path: Path, *, enabled: bool = True) -> None:
        """`enabled`: False on all but the main process."""
        self._path = path if enabled else None

    def write(self, step: int, epoch: int, split: str, values: Mapping[str, Any]) -> None:
        """OSError if the disk refuses; the file then ends with the line before."""
        if self._path is not None:
            append_line(self._path, {"step": step, "epoch": epoch, "split": split, **values})


def append_line(path: Path, row: Mapping[str, Any]) -> None:
    """Appends a JSON line in one piece, so that several processes may append to one file.

    Opened each time: what is written to a file that someone has removed would be lost silently.

    Raises:
        OSError: from the file system; half a line is taken back.
    """
    line = _line(row).encode()
    with path.open("ab", buffering=0) as file:
        written = file.write(line)
        if written < len(line):
            file.truncate(file.tell() - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file; no file is an empty one, and half a line is none."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return []
    return [row for row in map(_row, lines) if row is not None]


def drop_cut_line(path: Path) -> None:
    """Takes away half a line that a crash has left at the end of a JSON-lines file."""
    if not path.is_file():
        return
    with path.open("rb+") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


def truncate_metrics(path: Path, step: int, validated_step: int | None) -> None:
    """Drops what a run that goes on from `step` will write again, and a line that a crash cut off.

    Args:
        validated_step: the newest validation that the run does not repeat; None: there is none.
    """
    if not path.exists():
        return
    validated = -1 if validated_step is None else validated_step
    until = {"train": step, "val": validated, "proxy": validated}
    kept = [row for row in read_lines(path) if _is_until(row, until)]
    write_atomically(path, "".join(map(_line, kept)))


def is_scored(path: Path, step: int) -> bool:
    """Whether the metrics hold the proxy score of the validation at `step`."""
    return any(row.get("step") == step and "proxy/total_score" in row for row in read_lines(path))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes JSON whole or not at all; numbers that are not finite become null."""
    write_atomically(path, to_json(content, indent=2) + "\n")


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file whole or not at all; text as UTF-8.

    Raises:
        OSError: from the file system; the file that was there before is untouched.
    """
    incoming = path.with_name(f".incoming-{path.name}")
    try:
        with incoming.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        incoming.replace(path)
    except OSError:
        with suppress(OSError):  # such as a folder that is gone: the first error says it
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


def _line(row: Mapping[str, Any]) -> str:
    # ASCII: file names need not be text, and may hold what other readers take for a line's end.
    return json.dumps(_finite(row), allow_nan=False) + "\n"


def _row(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _is_until(row: Mapping[str, Any], until: Mapping[str, int]) -> bool:
    step, split = row.get("step"), row.get("split")
    return isinstance(step, int) and isinstance(split, str) and step <= until.get(split, -1)
