"""Files that appear whole or not at all, and never in the place of another one unasked."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from pathlib import Path


def write_whole(path: Path, data: bytes, *, overwrite: bool) -> None:
    """Writes a file beside its place, makes it durable, and moves it there.

    Raises:
        OSError: from the file system; FileExistsError where the place is taken and not to be
            overwritten. Nothing is left behind, and what was there is untouched.
    """
    incoming = incoming_path(path, os.getpid())
    try:
        with incoming.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            incoming.replace(path)
        else:
            _move_to_free_place(incoming, path)
    finally:
        with contextlib.suppress(OSError):
            incoming.unlink(missing_ok=True)


def incoming_path(path: Path, process: int) -> Path:
    """The temporary name of a file that a process writes: as short as any name may have to be."""
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
    return path.with_name(f".{digest}-{process}.part")


def check_free(path: Path) -> None:
    """Raises OSError where a file of this name cannot be made: FileExistsError where there is one,
    whatever it is, or what else is wrong with the name."""
    try:
        path.lstat()
    except FileNotFoundError:
        return
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))


def make_folders(folder: Path, root: Path) -> None:
    """Makes `folder` below `root`, which must be there: a disk that was pulled out stays out."""
    current = root
    if not root.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(root))
    for part in folder.relative_to(root).parts:
        current = current / part
        current.mkdir(exist_ok=True)


def _move_to_free_place(incoming: Path, path: Path) -> None:
    try:
        os.link(incoming, path)  # fails where the name is taken, whoever took it a moment ago
    except FileExistsError:
        raise
    except OSError:  # a file system without links, as on memory cards
        check_free(path)
        incoming.rename(path)
