"""Names and contents of a cache's files, and the digest that identifies its data set."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from warp_train.data.sources.files import Item
from warp_train.data.sources.manifest import PairItem
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.section import Section

CACHE_FILE = "cache.json"
SHARD_ITEMS = 256
"""Samples per shard. A `prepare` that was killed repeats at most so many, for each split."""

SPLITS = ("train", "val")
Kind = Literal["photos", "pairs"]


class Cache(Section):
    """The contents of `cache.json`."""

    format: Literal[1] = 1
    source: Kind
    """The `data.source` of recipes that use the cache."""
    size: tuple[int, int]
    """[height, width] of the largest frames that can be read from the cache."""
    dataset: str
    """Digest of the files that the cache was made from, see `dataset_digest`."""
    samples: dict[str, int]
    """Number of samples found, by split."""
    shards: dict[str, int] | None = None
    """Size of each shard's tar in bytes, by name; None until all are written."""


def is_cache(root: Path) -> bool:
    """Whether the folder was written by `prepare`, completely or in part."""
    return (root / CACHE_FILE).is_file()


def read_cache(root: Path) -> Cache:
    """Reads `cache.json`. Raises WarpTrainError if it is missing or invalid."""
    path = root / CACHE_FILE
    try:
        return parse_cache(path.read_bytes(), str(path))
    except OSError as error:
        raise WarpTrainError(f"{path}: cannot be read: {error.strerror}") from error


def parse_cache(content: bytes, where: str) -> Cache:
    """The contents of `cache.json`; WarpTrainError, which names `where`, if they are invalid."""
    try:
        return Cache.model_validate_json(content)
    except ValidationError as error:
        raise WarpTrainError(
            f"{where}: is not a valid file of warp-train prepare: {error.errors()[0]['msg']}"
        ) from error


def shard_name(split: str, number: int) -> str:
    """A shard's name without suffix, such as `train-000003`."""
    return f"{split}-{number:06}"


def dataset_digest(splits: Iterable[Iterable[Item]]) -> str:
    """A digest of the files' names, sizes and dates, their splits, ids, groups and lenses.

    Raises OSError if a file's size or date cannot be read.
    """
    digest = hashlib.sha256()
    for items in splits:
        digest.update(b"split\n")
        for item in items:
            known: list[Any] = [item.image_id, item.group, list(map(_state, files_of(item)))]
            if isinstance(item, PairItem):
                known += [item.params.tolist(), dict(item.extra)]
                known += [item.profile.values.tolist()] if item.profile else []
            digest.update(json.dumps(known).encode() + b"\n")
    return digest.hexdigest()


def files_of(item: Item) -> list[Path]:
    """The item's photos: the straight one and, for a pair, the distorted one after it."""
    return [item.target, item.input] if isinstance(item, PairItem) else [item.target]


def _state(path: Path) -> list[str | int]:
    state = path.stat()
    return [path.name, state.st_size, state.st_mtime_ns]
