"""Files that appear whole or not at all, and never in the place of another one unasked."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from warp_train.runtime.json_text import to_json

INCOMING = ".incoming-"
"""How the names of unfinished files start."""
_LONGEST_NAME = 255  # bytes, of most file systems


@contextmanager
def appearing(path: Path, *, overwrite: bool = True, process: int | None = None) -> Iterator[Path]:
    """A temporary path to write to; afterwards the file is made durable and moved to `path`.

    Args:
        overwrite: False: a file that is already at `path` stays, and FileExistsError is raised.
        process: for files that several processes may write at once, see `incoming_path`.

    Raises:
        OSError: from the file system. Nothing is left behind, and what was at `path` is untouched.
    """
    incoming = incoming_path(path, process)
    try:
        yield incoming
        with incoming.open("rb+") as file:
            os.fsync(file.fileno())
        if overwrite:
            incoming.replace(path)
        else:
            _move_to_free_place(incoming, path)
    finally:
        with suppress(OSError):  # such as a folder that is gone: the first error is the cause
            incoming.unlink(missing_ok=True)


def write_atomically(
    path: Path, content: str | bytes, *, overwrite: bool = True, process: int | None = None
) -> None:
    """Writes a file whole or not at all; text as UTF-8. Arguments and errors as of `appearing`."""
    with appearing(path, overwrite=overwrite, process=process) as incoming:
        incoming.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes JSON whole or not at all; numbers that are not finite become null. Raises OSError."""
    write_atomically(path, to_json(content, indent=2) + "\n")


def incoming_path(path: Path, process: int | None = None) -> Path:
    """The temporary name of a file while it is written, in the same folder.

    Args:
        process: number of the writing process. It keeps two writers of one file apart; without
            it, what a killed process has left is overwritten by the next one.
    """
    owner = "" if process is None else f"-{process}"
    if len(os.fsencode(INCOMING + path.name + owner)) > _LONGEST_NAME:
        return path.with_name(INCOMING + hashlib.sha256(os.fsencode(path.name)).hexdigest() + owner)
    return path.with_name(INCOMING + path.name + owner)


def check_free(path: Path) -> None:
    """Raises FileExistsError where `path` exists, whatever it is, and another OSError where no
    file of this name can be made."""
    try:
        path.lstat()
    except FileNotFoundError:
        return
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))


def make_folders(folder: Path, root: Path) -> None:
    """Makes `folder` below `root`, which must exist: a disk that was pulled out stays out."""
    current = root
    if not root.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(root))
    for part in folder.relative_to(root).parts:
        current = current / part
        current.mkdir(exist_ok=True)


def fsync_path(path: Path) -> None:
    """Makes a file's contents, or a folder's entries, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _move_to_free_place(incoming: Path, path: Path) -> None:
    try:
        os.link(incoming, path)  # fails if the name is taken, even since a moment ago
    except FileExistsError:
        raise
    except OSError:  # a file system without links, as on memory cards
        check_free(path)
        incoming.rename(path)
