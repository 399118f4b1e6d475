"""Names and contents of a cache's files, and what makes two caches the same."""

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
"""Samples a shard: what a killed `prepare` does again at most, for each split."""

SPLITS = ("train", "val")
Kind = Literal["photos", "pairs"]


class Cache(Section):
    """`cache.json`."""

    format: Literal[1] = 1
    source: Kind
    """The recipe's `data.source` that reads the cache."""
    size: tuple[int, int]
    """[height, width] of the largest frames that it is meant for."""
    dataset: str
    """Digest of the files that it was made from, see `dataset_digest`."""
    samples: dict[str, int]
    """Files found, by split."""
    shards: dict[str, int] | None = None
    """Bytes of each shard's tar, by name; None until all are written."""


def is_cache(root: Path) -> bool:
    """Whether `prepare` has made this folder, or begun to."""
    return (root / CACHE_FILE).is_file()


def read_cache(root: Path) -> Cache:
    """`cache.json`. Raises WarpTrainError when it is not one."""
    path = root / CACHE_FILE
    try:
        return Cache.model_validate_json(path.read_bytes())
    except OSError as error:
        raise WarpTrainError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise WarpTrainError(
            f"{path}: is not what warp-train prepare writes: {error.errors()[0]['msg']}"
        ) from error


def shard_name(split: str, number: int) -> str:
    """A shard's name, less its suffix."""
    return f"{split}-{number:06}"


def dataset_digest(splits: Iterable[Iterable[Item]]) -> str:
    """Names the files with their sizes and dates, their splits, and what is known about them.

    Raises OSError where one cannot be looked at.
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
    """The item's photos: the straight one, and after it the distorted one of a pair."""
    return [item.target, item.input] if isinstance(item, PairItem) else [item.target]


def _state(path: Path) -> list[str | int]:
    state = path.stat()
    return [path.name, state.st_size, state.st_mtime_ns]
