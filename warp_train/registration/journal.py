"""Reads the results file of an interrupted `recover`, so that the run can be resumed."""

from __future__ import annotations

import json
from pathlib import Path

from warp_train.runtime.atomic_files import write_atomically
from warp_train.runtime.errors import WarpTrainError


def resume(path: Path) -> set[str]:
    """The image ids that an earlier run has finished.

    Lines of failed pairs and an incomplete last line are removed from the file, so that these pairs
    are tried again, and so are lines that repeat a pair.

    Raises:
        WarpTrainError: the file cannot be read or written, or was not written by `recover`. It is
            left unchanged.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise WarpTrainError(f"{path}: {error.strerror}") from error
    complete, _, _ = content.rpartition(b"\n")
    lines = complete.split(b"\n") if complete else []
    if content and not lines and not content.lstrip().startswith(b"{"):
        raise _foreign(path, 1)
    rows = [_row(path, number, line) for number, line in enumerate(lines, start=1)]
    finished: dict[str, bytes] = {}
    for row, line in zip(rows, lines, strict=True):
        if "params" in row:
            finished.setdefault(str(row["image_id"]), line + b"\n")
    kept = b"".join(finished.values())
    if kept != content:
        try:
            write_atomically(path, kept.decode())
        except OSError as error:
            raise WarpTrainError(f"{path}: {error.strerror}") from error
    return set(finished)


def _row(path: Path, number: int, line: bytes) -> dict[str, object]:
    try:
        row = json.loads(line.decode())
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict) or "image_id" not in row or not row.keys() & {"params", "error"}:
        raise _foreign(path, number)
    return row


def _foreign(path: Path, number: int) -> WarpTrainError:
    return WarpTrainError(
        f"{path}, line {number}: not written by `recover`; choose another output file"
    )
