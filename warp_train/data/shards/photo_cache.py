"""Copies of photos that lie elsewhere, on a disk of this machine, up to a number of bytes.

All processes of a machine share them, and runs may. A copy is written whole or not at all, and the
least recently used ones are removed. Every process looks at the total after each 1/256 of the limit
that it has written itself, so `n` processes exceed the limit by n/256 of it at most.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from warp_train.runtime.atomic_files import write_atomically

log = logging.getLogger("warp_train")

_SHARE = 256
_KEPT = 0.9
"""Share of the limit that is left after a removal, so that the next one is not due at once."""


class PhotoCache:
    """The copies below a folder. An error of the disk is a warning: photos are fetched again."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        """`most_bytes`: 0 keeps no copies."""
        self._folder, self._most_bytes = folder, most_bytes
        self._written: int | None = None
        """Bytes written since this process looked at the total; None: it never has."""
        self._warned = False

    def get(self, name: str, length: int) -> bytes | None:
        """The copy of a photo; None if there is none, or none of this length."""
        path = self._folder / name
        try:
            content = path.read_bytes()
            os.utime(path)  # the time of its last use
        except OSError:
            return None
        return content if len(content) == length else None

    def put(self, name: str, content: bytes) -> None:
        """Keeps a copy of a photo."""
        if not self._most_bytes:
            return
        path = self._folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content, process=os.getpid())
            self._note(len(content))
        except OSError as error:
            if not self._warned:
                self._warned = True
                log.warning(
                    "data.cache_dir: %s cannot be written to (%s): each photo is fetched again "
                    "whenever it is used",
                    self._folder,
                    error.strerror,
                )

    def _note(self, written: int) -> None:
        before = self._written
        self._written = (before or 0) + written
        if before is None or self._written * _SHARE > self._most_bytes:
            self._written = 0
            self._shrink()

    def _shrink(self) -> None:
        found = sorted(_files(self._folder))
        total = sum(size for _, size, _ in found)
        if total <= self._most_bytes:
            return
        for _, size, path in found:
            if total <= _KEPT * self._most_bytes:
                return
            with suppress(FileNotFoundError):  # another process removes too
                path.unlink()
            total -= size


def _files(folder: Path) -> Iterator[tuple[int, int, Path]]:
    """Time of the last use, size and path of each copy, also of those that were never finished."""
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            found = path.stat()
            if path.is_file():
                yield found.st_mtime_ns, found.st_size, path
