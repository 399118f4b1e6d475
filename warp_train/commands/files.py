"""Result files of commands: checked before the work, written whole after it."""

import os
import sys
from pathlib import Path

from warp_train.runtime.atomic_files import write_atomically
from warp_train.runtime.errors import WarpTrainError


def check_writable(option: str, path: Path | None) -> None:
    """Finds out before the work whether its result can be written.

    Raises:
        WarpTrainError: `path` cannot be written to; the message names the option.
    """
    if path is None:
        return
    if path.is_dir():
        raise WarpTrainError(f"{option} {path}: is a folder")
    if not path.absolute().parent.is_dir():
        raise WarpTrainError(f"{option} {path}: there is no folder {path.parent}")
    if not os.access(path.absolute().parent, os.W_OK):
        raise WarpTrainError(f"{option} {path}: its folder cannot be written to")


def is_folder(path: Path) -> bool:
    """Whether an output that may be a file or a folder is a folder: one that exists, or a name
    without a suffix that is free."""
    return path.is_dir() or (not path.suffix and not path.exists())


def meeting_place(command: str, result: Path | None) -> Path:
    """What the processes of a launch meet beside: the result, or without one a name in the working
    directory, which launches at the same time do not share."""
    return result or Path(f"{command}-{os.environ.get('MASTER_PORT', '0')}")


def write_result(option: str, path: Path, content: str) -> None:
    """Writes a result whole or not at all.

    Raises:
        WarpTrainError: `path` cannot be written to; the message names the option.
    """
    try:
        write_atomically(path, content)
    except OSError as error:
        raise WarpTrainError(f"{option} {path}: {error.strerror}") from error


def print_document(text: str) -> None:
    """Prints the text of a file in UTF-8, also where the terminal has another encoding: `>` may put
    it into a file."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()
