"""How changes to a run elsewhere are written: file by file in a fixed order, or as one commit."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.utils.tqdm import disable_progress_bars

from warp_train.runtime.atomic_files import INCOMING
from warp_train.runtime.urls import Remote

_HUB = "hf"
_OBJECT_STORES = frozenset(
    {"s3", "s3a", "gs", "gcs", "az", "abfs", "adl", "oci", "ocilake", "oss", "tos", _HUB}
)
"""Schemes whose files appear whole or not at all, and whose folders exist by their files."""
_REPO_TYPES = {"models": "model", "datasets": "dataset", "spaces": "space"}

Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class Changes:
    """Changes to a folder elsewhere, by paths relative to it."""

    puts: Mapping[str, Path | bytes]
    """Files to write, in this order."""
    removes: Collection[str]
    """What to remove afterwards; folders end with `/`."""
    outdated: Collection[str] = ()
    """Files to remove before anything is written."""


def has_folders(place: Remote) -> bool:
    """Whether folders exist by themselves there, and a file may be seen half written."""
    return _OBJECT_STORES.isdisjoint(_schemes(place))


def is_hub(place: Remote) -> bool:
    """Whether the place is a repository of the Hugging Face hub."""
    return _HUB in _schemes(place)


def is_local(place: Remote) -> bool:
    """Whether the place is a folder on a disk of this machine."""
    return "file" in _schemes(place)


def write(place: Remote, changes: Changes, sent: dict[str, Stamp] | None = None) -> None:
    """Applies changes below a folder elsewhere. Errors of the file system are raised as they are.

    A process that dies meanwhile leaves whole files, in the order of `changes`; on the hub, all or
    nothing. What is to be removed must be there.

    Args:
        sent: files that an attempt before has sent, which are not sent twice; it is added to.
    """
    if is_hub(place):
        _commit(place, changes)
        return
    sent = {} if sent is None else sent
    for name in changes.outdated:
        place.files.rm_file((place / name).path)
    for name, content in changes.puts.items():
        if isinstance(content, bytes):
            _put(place / name, content)
        elif sent.get(name) != _stamp(content):
            _put(place / name, content)
            sent[name] = _stamp(content)
    for name in changes.removes:
        place.files.rm((place / name.rstrip("/")).path, recursive=name.endswith("/"))


def _put(target: Remote, content: Path | bytes) -> None:
    files, path = target.files, target.path
    if has_folders(target):
        files.makedirs(target.parent.path, exist_ok=True)
        path = (target.parent / (INCOMING + target.name)).path
    if isinstance(content, bytes):
        files.pipe_file(path, content)
    else:
        files.put_file(str(content), path)
    if path != target.path:
        files.mv(path, target.path)


def _stamp(path: Path) -> Stamp:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _schemes(place: Remote) -> frozenset[str]:
    protocol = place.files.protocol
    return frozenset((protocol,) if isinstance(protocol, str) else protocol)


def make_hub(place: Remote) -> None:
    """Makes the repository of a place if there is none, private, and makes sure that this user may
    write to it: a branch is made and removed, which leaves no commit behind.

    The hub's own bars and warnings are turned off: they would break the progress of training.
    """
    disable_progress_bars()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    kind, repository, _ = _repository(place)
    api, branch = HfApi(), "warp-train-probe"
    api.create_repo(repository, repo_type=kind, private=True, exist_ok=True)
    api.create_branch(repository, repo_type=kind, branch=branch, exist_ok=True)
    api.delete_branch(repository, repo_type=kind, branch=branch)


def _commit(place: Remote, changes: Changes) -> None:
    kind, repository, folder = _repository(place)
    added = [
        CommitOperationAdd(folder + name, content if isinstance(content, bytes) else str(content))
        for name, content in changes.puts.items()
    ]
    gone = (*changes.outdated, *changes.removes)
    removed = [CommitOperationDelete(folder + name) for name in gone]
    message = f"{place.name}: {len(added)} files"
    HfApi().create_commit(repository, [*added, *removed], commit_message=message, repo_type=kind)


def _repository(place: Remote) -> tuple[str, str, str]:
    """Type and id of a repository, and the folder in it, which ends with `/` unless it is empty."""
    parts = place.path.split("/")
    kind = _REPO_TYPES.get(parts[0])
    if kind is not None:
        parts = parts[1:]
    folder = "".join(f"{part}/" for part in parts[2:])
    return kind or "model", "/".join(parts[:2]), folder
