"""Folders elsewhere: how they are named, listed, read, and tried out before a run begins.

<push_to>/<run name>/    the files of the run folder, in the same layout
    checkpoints/step-…   complete once a pointer names it
    best, last           small text files with the path of a checkpoint, see `runtime.links`
"""

import re
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.urls import Remote, is_url, open_url, reason
from warp_train.training.checkpoints.links import LINKS
from warp_train.training.remote.writers import (
    Changes,
    has_folders,
    is_hub,
    is_local,
    make_hub,
    write,
)

KEY = "checkpoint.push_to"
_POINTER = re.compile(r"(?:\.\./[\w.+-]+/)?checkpoints/step-\d{9,18}")


def open_place(text: str) -> Remote:
    """The place that a URL or a hub id names; nothing is read yet. Raises WarpTrainError."""
    return open_url(text if is_url(text) else f"hf://{text}")


def is_same(one: Remote, other: Remote) -> bool:
    """Whether two places are the same folder."""
    return one.path == other.path and type(one.files) is type(other.files)


def names(place: Remote) -> frozenset[str]:
    """The names in a folder; none where there is no such folder. Errors of the place as they are.

    What was listed before is forgotten: other machines write there, too.
    """
    place.files.invalidate_cache()
    try:
        found = place.files.ls(place.path, detail=False)
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    paths = {path.rstrip("/") for path in found} - {place.path}  # a file is listed as itself
    return frozenset(path.rpartition("/")[2] for path in paths)


def read(place: Remote) -> bytes | None:
    """The contents of a file; None where there is none. Errors of the place as they are."""
    try:
        content: bytes = place.files.cat_file(place.path)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None
    return content


def pointers(run: Remote) -> dict[str, str]:
    """The checkpoints that `best`, `last` and `interrupted` of a run name, relative to the run."""
    texts = {link: read(run / link) for link in LINKS}
    found = {link: text.decode(errors="replace").strip() for link, text in texts.items() if text}
    return {link: path for link, path in found.items() if _POINTER.fullmatch(path)}


def open_targets(texts: Iterable[str | None], output_dir: Path) -> dict[str, Remote]:
    """The places of a recipe's `checkpoint.push_to`, which are tried out: a small file is written
    and removed. Call it before anything is set up, on one process.

    Raises:
        WarpTrainError: a place cannot be written to, or is `output_dir` itself; one line names the
            key and the reason.
    """
    opened: dict[str, Remote] = {}
    for text in dict.fromkeys(text for text in texts if text):
        try:
            place = opened[text] = open_place(text)
            if is_local(place) and Path(place.path).resolve() == output_dir.resolve():
                raise WarpTrainError(f"{text}: the runs themselves lie there: push elsewhere")
            _try_out(place)
        except WarpTrainError as error:
            raise WarpTrainError(f"{KEY}: {error}") from error
        except Exception as error:  # a file system may raise anything
            raise WarpTrainError(
                f"{KEY}: {text}: cannot be written to ({reason(error)})"
            ) from error
    return opened


def _try_out(place: Remote) -> None:
    if is_hub(place):
        make_hub(place)
        return
    probe = f".warp-train-{secrets.token_hex(8)}"
    made = _missing_folders(place)
    try:
        write(place, Changes({probe: b"This place can be written to.\n"}, ()))
        place.files.rm_file((place / probe).path)
    finally:
        for folder in made:
            with suppress(Exception):  # not empty, since another run has begun there
                folder.files.rmdir(folder.path)


def _missing_folders(place: Remote) -> list[Remote]:
    """The folders that writing to `place` makes, innermost first; none in an object store."""
    missing: list[Remote] = []
    while has_folders(place) and place.path.strip("/") and not place.files.exists(place.path):
        missing.append(place)
        place = place.parent
    return missing
