"""The file of warps as a run finds it, and leaves it to be gone on with."""

from __future__ import annotations

import json
from pathlib import Path

from warp_train.runtime.atomic_files import write_atomically
from warp_train.runtime.errors import WarpTrainError


def resume(path: Path) -> set[str]:
    """The image ids that an earlier run has finished with.

    What it failed at is to be tried again, and a last line that it did not finish is no line: both
    are taken out of the file.

    Raises:
        WarpTrainError: the file cannot be read, or is not of `recover`'s making; it stays as it is.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise WarpTrainError(f"--out {path}: {error.strerror}") from error
    whole, _, _ = content.rpartition(b"\n")
    lines = whole.split(b"\n") if whole else []
    if content and not lines and not content.lstrip().startswith(b"{"):
        raise WarpTrainError(f"--out {path}, line 1: not a line of `recover`")
    rows = [_row(path, number, line) for number, line in enumerate(lines, start=1)]
    finished = [(row, line) for row, line in zip(rows, lines, strict=True) if "params" in row]
    kept = b"".join(line + b"\n" for _, line in finished)
    if kept != content:
        try:
            write_atomically(path, kept.decode())
        except OSError as error:
            raise WarpTrainError(f"--out {path}: {error.strerror}") from error
    return {str(row["image_id"]) for row, _ in finished}


def _row(path: Path, number: int, line: bytes) -> dict[str, object]:
    try:
        row = json.loads(line.decode())
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict) or "image_id" not in row or not row.keys() & {"params", "error"}:
        raise WarpTrainError(f"--out {path}, line {number}: not a line of `recover`")
    return row
