"""Writing of shards. A shard is either complete or does not exist, even after a crash."""

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from warp_train.data.shards.encoding import Encoded
from warp_train.data.shards.layout import CACHE_FILE, Cache
from warp_train.data.shards.members import INDEX_SUFFIX, SHARD_SUFFIX
from warp_train.runtime.atomic_files import appearing, write_atomically

Outcome = Encoded | str
"""A sample, or "path: reason" of a file that cannot be read."""


def write_cache_file(root: Path, cache: Cache) -> None:
    """Writes `cache.json`. Raises OSError."""
    write_atomically(root / CACHE_FILE, cache.model_dump_json(indent=2) + "\n")


def write_shard(root: Path, name: str, first: int, outcomes: Sequence[Outcome]) -> None:
    """Writes a shard's tar, and then its index.

    The samples are named by consecutive numbers that start at `first`. The index also lists the
    unreadable files; a shard without an index is not finished. Raises OSError.
    """
    lines: list[dict[str, Any]] = []
    with (
        appearing(root / f"{name}{SHARD_SUFFIX}") as incoming,
        tarfile.open(incoming, "w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for number, outcome in enumerate(outcomes, start=first):
            if isinstance(outcome, str):
                lines.append({"error": outcome})
            else:
                lines.append({**outcome.about, "files": _add(tar, f"{number:09}", outcome)})
    index = "".join(json.dumps(line) + "\n" for line in lines)
    write_atomically(root / f"{name}{INDEX_SUFFIX}", index)


def _add(tar: tarfile.TarFile, key: str, sample: Encoded) -> list[tuple[str, int, int]]:
    """Appends a sample's files; returns name, start and length of its photos."""
    spans = []
    for suffix, content in {**sample.files, "json": json.dumps(sample.about).encode()}.items():
        entry = tarfile.TarInfo(f"{key}.{suffix}")  # without a date: same photos, same bytes
        entry.size = len(content)
        spans.append((entry.name, tar.offset + tarfile.BLOCKSIZE, entry.size))
        tar.addfile(entry, io.BytesIO(content))
    return spans[: len(sample.files)]


def is_written(root: Path, name: str) -> bool:
    """Whether a shard is finished."""
    return (root / f"{name}{INDEX_SUFFIX}").is_file()


def shard_bytes(root: Path, name: str) -> int:
    """Size of a finished shard's tar in bytes. Raises OSError."""
    return (root / f"{name}{SHARD_SUFFIX}").stat().st_size


def unreadable(root: Path, name: str) -> list[str]:
    """The unreadable files in a finished shard's index, as "path: reason". Raises OSError."""
    rows = map(json.loads, (root / f"{name}{INDEX_SUFFIX}").read_text().splitlines())
    return [row["error"] for row in rows if "error" in row]
