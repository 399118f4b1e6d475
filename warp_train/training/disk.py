"""Failed writes: the error message, and whether training continues."""

import errno
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from warp_train.runtime.errors import WarpTrainError

log = logging.getLogger("warp_train")

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Disk:
    """Applies `checkpoint.on_error` to logs, lists and pictures that cannot be written.

    `raise` ends the run with one line; `warn` continues without the file and warns once for each
    path. Checkpoints are retried at the next save, see `run.save`.
    """

    def __init__(self, on_error: Literal["raise", "warn"]) -> None:
        self._goes_on = on_error == "warn"
        self._warned: set[Path] = set()

    @contextmanager
    def writing(self, path: Path) -> Iterator[None]:
        """Handles errors of the enclosed code, which writes `path`.

        Raises:
            WarpTrainError: the write failed and `checkpoint.on_error` is `raise`.
        """
        try:
            yield
        except OSError as error:
            self.complain(path, refusal(path, error))

    def complain(self, path: Path, message: str) -> None:
        """Raises `message` as an error, or logs it as a warning once for each `path`."""
        if not self._goes_on:
            raise WarpTrainError(message)
        if path not in self._warned:
            self._warned.add(path)
            log.warning("%s; training continues (checkpoint.on_error)", message)


def refusal(path: Path, error: OSError) -> str:
    """One line: the path that could not be written, why and, for a full disk, the free bytes."""
    reason = error.strerror or str(error)
    free = free_bytes(path)
    room = f"; {free:,} bytes are free there" if error.errno in _FULL and free is not None else ""
    return f"{path}: cannot be written ({reason}{room})"


def free_bytes(path: Path) -> int | None:
    """Free bytes on the disk of `path`, which need not exist; None if they are unknown."""
    for place in (path, *path.parents):
        with suppress(OSError):
            return shutil.disk_usage(place).free
    return None


def is_there(path: Path) -> bool:
    """Whether a path exists; False where permissions do not allow to look."""
    try:
        return path.exists()
    except (OSError, ValueError):  # a loop of links, no permission, an invalid name
        return False


def is_gone(path: Path) -> bool:
    """Whether a path certainly does not exist; False where it is only out of reach."""
    try:
        return not path.exists()
    except OSError:
        return False
