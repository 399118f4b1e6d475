"""Shards, each of which appears whole or not at all."""

import contextlib
import io
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from warp_train.data.shards.encoding import Encoded
from warp_train.data.shards.layout import CACHE_FILE, Cache
from warp_train.data.shards.members import INDEX_SUFFIX, SHARD_SUFFIX

INCOMING = ".incoming-"
"""How the names of unfinished files start."""

Outcome = Encoded | str
"""A sample, or "path: reason" of one that cannot be read."""


def write_cache_file(root: Path, cache: Cache) -> None:
    """Writes `cache.json`. Raises OSError."""
    with _appearing(root / CACHE_FILE) as incoming:
        incoming.write_text(cache.model_dump_json(indent=2) + "\n")


def write_shard(root: Path, name: str, first: int, outcomes: Sequence[Outcome]) -> None:
    """A tar of samples that are named by their numbers from `first` on, and then its index.

    The index is what makes the shard count; it names the unreadable ones too. Raises OSError.
    """
    lines: list[dict[str, Any]] = []
    with (
        _appearing(root / f"{name}{SHARD_SUFFIX}") as incoming,
        tarfile.open(incoming, "w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for number, outcome in enumerate(outcomes, start=first):
            if isinstance(outcome, str):
                lines.append({"error": outcome})
            else:
                lines.append({**outcome.about, "files": _add(tar, f"{number:09}", outcome)})
    with _appearing(root / f"{name}{INDEX_SUFFIX}") as incoming:
        incoming.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _add(tar: tarfile.TarFile, key: str, sample: Encoded) -> list[tuple[str, int, int]]:
    """Appends a sample's files; returns name, start and length of its photos."""
    spans = []
    for suffix, content in {**sample.files, "json": json.dumps(sample.about).encode()}.items():
        entry = tarfile.TarInfo(f"{key}.{suffix}")  # of no date: the same photos, the same bytes
        entry.size = len(content)
        spans.append((entry.name, tar.offset + tarfile.BLOCKSIZE, entry.size))
        tar.addfile(entry, io.BytesIO(content))
    return spans[: len(sample.files)]


def is_written(root: Path, name: str) -> bool:
    """Whether a shard is finished."""
    return (root / f"{name}{INDEX_SUFFIX}").is_file()


def shard_bytes(root: Path, name: str) -> int:
    """Length of a finished shard's tar. Raises OSError."""
    return (root / f"{name}{SHARD_SUFFIX}").stat().st_size


def unreadable(root: Path, name: str) -> list[str]:
    """What a finished shard's index says could not be read. Raises OSError."""
    rows = map(json.loads, (root / f"{name}{INDEX_SUFFIX}").read_text().splitlines())
    return [row["error"] for row in rows if "error" in row]


@contextlib.contextmanager
def _appearing(path: Path) -> Iterator[Path]:
    """A name to write to; the file gets its own, durably, once that has succeeded."""
    incoming = path.with_name(f"{INCOMING}{path.name}")
    try:
        yield incoming
        with incoming.open("rb+") as file:
            os.fsync(file.fileno())
        incoming.replace(path)
    except BaseException:
        incoming.unlink(missing_ok=True)
        raise
