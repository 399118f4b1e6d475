"""One process at a time works in a folder or on a file: locks that end with their process.

A lock is a small hidden file that names its owner; a thread renews its time while the owner lives.
A lock whose owner is dead is taken over; `lock_files` decides about that.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.lock_files import (
    LOCK_FILE,
    InUseError,
    create_lock,
    read_lock,
    require_dead,
    subject,
    take_lock,
)

RENEWAL_S = 20.0
"""Seconds between two renewals of a lock."""
_TRIES = 20


class Lock:
    """A lock that this process holds; a thread renews it until it is released."""

    def __init__(self, path: Path, content: bytes, made: Sequence[Path]) -> None:
        """`made`: folders made for this lock, outermost first; `release` removes empty ones."""
        self.path = path
        self._content, self._made, self._process = content, made, os.getpid()
        self._released = threading.Event()
        threading.Thread(target=self._renew, name="lock", daemon=True).start()
        _HELD.add(self)

    def require(self) -> None:
        """Raises WarpTrainError if another process has taken this lock over meanwhile."""
        found = read_lock(self.path)
        if found is not None and found.content != self._content:
            raise WarpTrainError(
                f"{subject(self.path)}: taken over by {found.who}, since this process did not "
                "respond for minutes; it writes nothing more there"
            )

    def release(self) -> None:
        """Removes the lock, and the folders that were made for it if they are empty."""
        if self._released.is_set() or os.getpid() != self._process:  # a fork holds nothing
            return
        self._released.set()
        _HELD.discard(self)
        with suppress(OSError):
            found = read_lock(self.path)
            if found is not None and found.content == self._content:
                self.path.unlink()
        _remove_empty(self._made)

    def _renew(self) -> None:
        while not self._released.wait(RENEWAL_S):
            with suppress(OSError):  # a disk that cannot be reached for a while
                if self.path.exists():
                    os.utime(self.path)
                elif self.path.parent.is_dir():  # someone has removed it
                    create_lock(self.path, self._content)


_HELD: set[Lock] = set()


def release_all() -> None:
    """Releases all locks of this process, which is about to end at once."""
    for lock in list(_HELD):
        lock.release()


def lock_folder(folder: Path) -> Lock:
    """Takes the lock of a folder, which is made if need be.

    Raises:
        InUseError: a living process works there.
        OSError: the folder cannot be made, or written to.
    """
    for _ in range(_TRIES):
        made = [path for path in (*reversed(folder.parents), folder) if not path.exists()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return Lock(folder / LOCK_FILE, take_lock(folder / LOCK_FILE), made)
        except FileNotFoundError:  # another process has removed the folder, which was empty
            continue
        except BaseException:
            _remove_empty(made)
            raise
    raise InUseError(f"{folder}: removed by another process again and again")


def lock_file(path: Path) -> Lock:
    """Takes the lock of a file, whether that exists or not. Raises as `lock_folder` does."""
    place = path.resolve()
    lock = place.with_name(f".{place.name}{LOCK_FILE}")
    return Lock(lock, take_lock(lock), ())


def require_free(folder: Path) -> None:
    """Raises InUseError if a living process of another launch works in the folder.

    Raises:
        OSError: the folder cannot be written to; a file is made there and removed.
    """
    lock = folder / LOCK_FILE
    found = read_lock(lock)
    if found is not None and not found.is_of_this_launch:
        require_dead(lock, found)


@contextmanager
def held(lock: Lock) -> Iterator[Lock]:
    """Releases the lock at the end. Where nothing handles SIGTERM, it raises SystemExit meanwhile
    in place of ending the process at once."""
    before = signal.getsignal(signal.SIGTERM)
    ours = before == signal.SIG_DFL and threading.current_thread() is threading.main_thread()
    if ours:
        signal.signal(signal.SIGTERM, _leave)
    try:
        yield lock
    finally:
        lock.release()
        if ours:
            signal.signal(signal.SIGTERM, before)


def _leave(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one must not interrupt the clearing up
    raise SystemExit(128 + number)


def _remove_empty(folders: Sequence[Path]) -> None:
    """Removes the folders that are empty, the last one first."""
    with suppress(OSError):
        for folder in reversed(folders):
            folder.rmdir()
