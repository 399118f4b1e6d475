"""`rectify.jsonl`: one line a photo, as each ends."""

from __future__ import annotations

import os
from pathlib import Path

JOURNAL_FILE = "rectify.jsonl"


class Journal:
    """Appends lines; a line is there whole or not at all, also on a full disk."""

    def __init__(self, path: Path) -> None:
        """Raises OSError where the file cannot be opened."""
        self._handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        size = os.lseek(self._handle, 0, os.SEEK_END)
        if size and os.pread(self._handle, 1, size - 1) != b"\n":
            os.write(self._handle, b"\n")  # behind a line that a crash cut off

    def write(self, line: str) -> None:
        """Appends a line of JSON. Raises OSError."""
        # File names may hold bytes that are no UTF-8; Python's escape for them is also JSON's.
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        size = os.lseek(self._handle, 0, os.SEEK_END)
        try:
            written = os.write(self._handle, data)
            while written < len(data):  # the next attempt says why
                written += os.write(self._handle, data[written:])
        except OSError:
            os.ftruncate(self._handle, size)
            raise

    def close(self) -> None:
        os.close(self._handle)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
