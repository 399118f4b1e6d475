"""A disk that refuses: in one place, what is said of it and whether training goes on."""

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
    """What `checkpoint.on_error` makes of logs, lists and pictures that cannot be written.

    `raise` ends the run with one line. With `warn` it goes on without them, and says so once for
    each path. Checkpoints are retried rather than forgone, see `run.save`.
    """

    def __init__(self, on_error: Literal["raise", "warn"]) -> None:
        self._goes_on = on_error == "warn"
        self._warned: set[Path] = set()

    @contextmanager
    def writing(self, path: Path) -> Iterator[None]:
        """Guards what writes `path`.

        Raises:
            WarpTrainError: the disk refused, and the recipe has it that the run ends.
        """
        try:
            yield
        except OSError as error:
            self.complain(path, refusal(path, error))

    def complain(self, path: Path, message: str) -> None:
        """Raises `message`, or warns of `path` once."""
        if not self._goes_on:
            raise WarpTrainError(message)
        if path not in self._warned:
            self._warned.add(path)
            log.warning("%s; training goes on (checkpoint.on_error)", message)


def refusal(path: Path, error: OSError) -> str:
    """One line: which path could not be written, why and, of a full disk, how full it is."""
    reason = error.strerror or str(error)
    free = free_bytes(path)
    room = f"; {free:,} bytes are free there" if error.errno in _FULL and free is not None else ""
    return f"{path}: cannot be written ({reason}{room})"


def free_bytes(path: Path) -> int | None:
    """Bytes that are free where `path` lies or would lie; None if even that cannot be asked."""
    for place in (path, *path.parents):
        with suppress(OSError):
            return shutil.disk_usage(place).free
    return None


def is_there(path: Path) -> bool:
    """Whether a path leads to something; a folder that may not be looked into holds nothing."""
    try:
        return path.exists()
    except (OSError, ValueError):  # a loop, no permission, a name that none can have
        return False


def is_gone(path: Path) -> bool:
    """Whether a path certainly leads nowhere, and is not only out of reach."""
    try:
        return not path.exists()
    except OSError:
        return False
