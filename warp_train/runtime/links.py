"""Links to folders: symbolic ones, or small text files on disks that have none."""

import errno
import os
import re
from contextlib import suppress
from pathlib import Path

from warp_train.runtime.atomic_files import write_atomically

_TEXT = re.compile(r"[^\0\n]*[^\0\n/]\n?")
_LONGEST_TEXT = 4096
_REFUSES_ALL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENOENT)
"""Errors that another file would meet too: the next write reports them."""


def followed(path: Path) -> Path:
    """`path`, or, where it is a small text file in place of a link, the path that the file holds.

    A symbolic link is returned as it is: the system follows it.
    """
    with suppress(OSError, ValueError):  # missing, out of reach, or not a text: left to the caller
        if path.is_file() and path.stat().st_size <= _LONGEST_TEXT:
            text = path.read_text(encoding="utf-8")
            if _TEXT.fullmatch(text):
                return path.parent / text.rstrip("\n")
    return path


def place_link(link: Path, target: Path) -> None:
    """Makes or switches a relative link in one step: a symbolic link, or a text file with the path
    of `target` where the disk has no symbolic links.

    Raises:
        OSError: neither could be written, or a folder is in the way.
    """
    relative = os.path.relpath(target, link.parent.resolve())
    temporary = link.with_name(f".{link.name}-{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        temporary.symlink_to(relative, target_is_directory=True)
    except OSError:
        write_atomically(link, relative + "\n")
        return
    try:
        temporary.replace(link)
    except OSError:
        temporary.unlink()
        raise


def has_links(folder: Path) -> bool:
    """Whether symbolic links can be made in `folder`, if anything can."""
    probe = folder / f".link-{os.getpid()}"
    try:
        probe.unlink(missing_ok=True)
        probe.symlink_to(".", target_is_directory=True)
        probe.unlink()
    except OSError as error:
        return error.errno in _REFUSES_ALL
    return True
