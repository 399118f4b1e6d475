"""Photos in a shard. In paths, its tar is a folder: `cache/train-000003.tar/17.target.jpg`."""

import json
import os
from functools import cache
from pathlib import Path

from warp_train.data.shards.elsewhere import shards_elsewhere

SHARD_SUFFIX = ".tar"
INDEX_SUFFIX = ".jsonl"


def read_member(path: Path) -> bytes | None:
    """The bytes of a photo in a shard; None if the path is not inside a shard.

    Raises OSError, ValueError or KeyError if the shard or its index is damaged, and WarpTrainError
    if the shard lies elsewhere and cannot be read now.
    """
    shard = container_of(path)
    if shard == path:
        return None
    start, length = _spans(shard)[path.name]
    elsewhere = shards_elsewhere(shard.parent)
    if elsewhere is not None:
        return elsewhere.read(shard.name, path.name, start, length)
    handle = os.open(shard, os.O_RDONLY)
    try:
        content = os.pread(handle, length, start)
    finally:
        os.close(handle)
    if len(content) < length:
        raise ValueError(f"{shard.name} is truncated")
    return content


def container_of(path: Path) -> Path:
    """The file on disk that holds a photo: the shard, or the photo's own file."""
    shard = path.parent
    return shard if shard.suffix == SHARD_SUFFIX and shard.is_file() else path


@cache
def _spans(shard: Path) -> dict[str, tuple[int, int]]:
    """Start and length in bytes of each photo in a shard, by name."""
    lines = shard.with_suffix(INDEX_SUFFIX).read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return {name: (start, length) for row in rows for name, start, length in row.get("files", ())}
