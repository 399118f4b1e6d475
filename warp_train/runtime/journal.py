"""JSON Lines files that grow line by line, and stay readable whatever happens meanwhile."""

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from warp_train.runtime.json_text import json_line


def begin_journal(path: Path) -> None:
    """Makes the file if there is none, and ends a line that a crash has cut off.

    Raises:
        OSError: the file cannot be opened.
    """
    with path.open("ab+") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        if size and file.read(1) != b"\n":
            file.write(b"\n")


def append_line(path: Path, row: Mapping[str, Any]) -> None:
    """Appends a JSON line in one piece, so that several processes may append to one file.

    The file is opened each time: lines written to a file that someone has removed would be lost
    without notice.

    Raises:
        OSError: from the file system; half a line is taken back.
    """
    line = json_line(row)
    with path.open("ab", buffering=0) as file:
        written = file.write(line)
        if written < len(line):
            file.truncate(file.tell() - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of the file. A missing file has none, and an incomplete line is skipped."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return []
    return [row for row in map(_row, lines) if row is not None]


def drop_cut_line(path: Path) -> None:
    """Removes the incomplete line that a crash has left at the end. Raises OSError."""
    if not path.is_file():
        return
    with path.open("rb+") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


def _row(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None
