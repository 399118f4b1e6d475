"""Lock files: made, read, replaced, and judged by whether their owner is alive.

A lock file names its owner. It appears complete and in one step, by a hard link, which also holds
on NFS. An owner on this machine is dead when its process is gone, or when the process of that
number was started at another time. An owner elsewhere is dead when its lock was not renewed for
`STALE_S`; that age is measured by the clock of the file server alone.
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from warp_train.runtime.console import say
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.process_identity import launch_id, machine_id, start_time
from warp_train.runtime.section import Section

LOCK_FILE = ".lock"
"""The lock of a folder, within it. Names that begin with it belong to the lock as well."""
STALE_S = 180.0
"""A lock that another machine has not renewed for so many seconds has no owner any more."""
_LARGEST = 4096  # bytes of a lock file
_TRIES = 20
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EACCES)
"""Errors of file systems without hard links, such as those of memory cards."""


class Owner(Section):
    """The contents of a lock file."""

    host: str
    pid: int
    machine: str
    """Of whose processes `pid` is one, see `machine_id`."""
    started: str
    """When the process was started, see `start_time`."""
    launch: str
    """See `launch_id`."""
    token: str
    """Differs between any two locks."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@dataclass(frozen=True)
class LockFile:
    """A lock file as it was read."""

    content: bytes
    owner: Owner | None
    """None: not written completely yet, or by another version."""
    renewed: float
    """Time of the last renewal, by the clock of the file system."""

    @property
    def who(self) -> str:
        """The owner, for messages."""
        return str(self.owner or "another process")

    @property
    def is_of_this_launch(self) -> bool:
        """Whether the owner trains together with this process."""
        return self.owner is not None and self.owner.launch == launch_id() != ""


class InUseError(WarpTrainError):
    """Another process works in this folder or on this file; the message names it."""


def take_lock(lock: Path) -> bytes:
    """Makes the lock file and returns its content.

    Raises:
        InUseError: its owner is alive.
        OSError: the folder is missing, or cannot be written to.
    """
    owner = Owner(
        host=socket.gethostname(),
        pid=os.getpid(),
        machine=machine_id(),
        started=start_time(os.getpid()),
        launch=launch_id(),
        token=secrets.token_hex(8),
    )
    mine = owner.model_dump_json().encode()
    for _ in range(_TRIES):
        if create_lock(lock, mine):
            return mine
        found = read_lock(lock)
        if found is None:  # released since a moment ago
            continue
        require_dead(lock, found)
        if _replace(lock, found, mine):
            say(f"{subject(lock)}: its lock is taken over from {found.who}, which has died")
            return mine
    raise InUseError(f"{subject(lock)}: in use by changing processes")


def _replace(lock: Path, dead: LockFile, mine: bytes) -> bool:
    """Puts `mine` in the place of a lock whose owner is dead; False if that is gone already.

    A second lock guards the first one meanwhile. Without it, a process that has found the dead
    owner could replace the lock of another one that was quicker.
    """
    guard = lock.with_name(f"{lock.name}-next")
    take_lock(guard)
    try:
        found = read_lock(lock)
        if found is None or found.content != dead.content:
            return False
        with _draft(lock, mine) as draft:
            draft.replace(lock)
    finally:
        guard.unlink(missing_ok=True)
    return True


def create_lock(lock: Path, content: bytes) -> bool:
    """Makes the lock file; False if there is one. Raises OSError."""
    with _draft(lock, content) as draft:
        try:
            os.link(draft, lock)
        except FileExistsError:
            # NFS repeats a request whose answer was lost: the link may be this one's.
            return draft.stat().st_nlink == 2
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return _create_exclusively(lock, content)
    return True


def _create_exclusively(lock: Path, content: bytes) -> bool:
    try:
        with lock.open("xb") as file:
            file.write(content)
    except FileExistsError:
        return False
    except OSError:
        lock.unlink(missing_ok=True)  # a full disk leaves an empty file
        raise
    return True


@contextmanager
def _draft(lock: Path, content: bytes) -> Iterator[Path]:
    """A file beside the lock, for as long as nothing renames it; its time is now."""
    path = lock.with_name(f"{lock.name}-draft-{secrets.token_hex(8)}")
    try:
        path.write_bytes(content)
        yield path
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def read_lock(lock: Path) -> LockFile | None:
    """The lock file; None if there is none. Raises OSError where it cannot be read."""
    try:
        with lock.open("rb") as file:
            content, renewed = file.read(_LARGEST), os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return None
    try:
        return LockFile(content, Owner.model_validate_json(content), renewed)
    except ValidationError:
        return LockFile(content, None, renewed)


def require_dead(lock: Path, found: LockFile) -> None:
    """Raises InUseError if the owner of a lock is alive, and OSError if the folder is read-only."""
    in_use, owner = f"{subject(lock)}: in use by {found.who}", found.owner
    if owner is not None and owner.machine == machine_id() != "":
        if owner.started == start_time(owner.pid):
            raise InUseError(f"{in_use}; wait for its end, or end it")
        return
    with _draft(lock, found.content) as now:
        age = now.stat().st_mtime - found.renewed
    if age < STALE_S:
        raise InUseError(
            f"{in_use}, which was alive {max(age, 0):.0f} s ago; if it is dead, repeat the command "
            f"{STALE_S:.0f} s after its death"
        )


def subject(lock: Path) -> Path:
    """The folder or the file that a lock belongs to."""
    if lock.name.startswith(LOCK_FILE):
        return lock.parent
    return lock.with_name(lock.name[1:].rpartition(LOCK_FILE)[0])
