"""A finished cache as the items of `photos` or `pairs`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from warp_train.data.config import DataConfig
from warp_train.data.profiles import Profile
from warp_train.data.samples import UNKNOWN_LENS
from warp_train.data.shards.elsewhere import shards_elsewhere
from warp_train.data.shards.layout import SPLITS, Cache, read_cache
from warp_train.data.shards.members import INDEX_SUFFIX, SHARD_SUFFIX
from warp_train.data.sources.files import AnyItem, Item
from warp_train.data.sources.manifest import PairItem
from warp_train.runtime.errors import WarpTrainError


def cached_photos(root: Path, config: DataConfig) -> tuple[list[Item], list[Item]]:
    """The straight photos to train and to validate on.

    Raises WarpTrainError if the cache is unfinished, damaged, or does not fit the recipe.
    """
    return _cached(root, config, _photo)


def cached_pairs(root: Path, config: DataConfig) -> tuple[list[PairItem], list[PairItem]]:
    """The pairs to train and to validate on. Raises WarpTrainError as `cached_photos`."""
    return _cached(root, config, _pair)


def _cached(
    root: Path, config: DataConfig, item_of: Callable[[Path, dict[str, Any]], AnyItem]
) -> tuple[list[AnyItem], list[AnyItem]]:
    cache = read_cache(root)
    _check(cache, config)
    train, val = (
        [
            item
            for name, size in sorted((cache.shards or {}).items())
            if name.startswith(f"{split}-")
            for item in _shard_items(root / f"{name}{SHARD_SUFFIX}", size, item_of)
        ]
        for split in SPLITS
    )
    return train, val


def _check(cache: Cache, config: DataConfig) -> None:
    root = config.root
    if cache.shards is None:
        raise WarpTrainError(
            f"data.root: {root}: is unfinished; run warp-train prepare again to finish it"
        )
    if cache.source != config.source:
        raise WarpTrainError(
            f"data.root: {root}: contains {cache.source}, but data.source is {config.source}"
        )
    if any(np.greater(sorted(config.size), sorted(cache.size))):
        raise WarpTrainError(
            f"data.size: {list(config.size)} is larger than the {list(cache.size)} that {root} was "
            "prepared for"
        )
    for key in ("val_root", "warps"):
        if getattr(config, key) is not None:
            raise WarpTrainError(
                f"data.{key}: is not allowed with {root}, which warp-train prepare has written; "
                f"set it for warp-train prepare instead"
            )


def _shard_items(
    shard: Path, size: int, item_of: Callable[[Path, dict[str, Any]], AnyItem]
) -> list[AnyItem]:
    try:
        found = shard.stat().st_size
        rows = map(json.loads, shard.with_suffix(INDEX_SUFFIX).read_text().splitlines())
        items = [item_of(shard, row) for row in rows if "error" not in row]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WarpTrainError(f"data.root: {shard}: cannot be read: {error}") from error
    if found != size and shards_elsewhere(shard.parent) is None:
        raise WarpTrainError(f"data.root: {shard}: has {found} bytes, but {size} were written")
    return items


def _photo(shard: Path, row: dict[str, Any]) -> Item:
    ((name, _, _),) = row["files"]
    return Item(row["image_id"], row["group"], shard / name, orig_size=_size(row))


def _pair(shard: Path, row: dict[str, Any]) -> PairItem:
    (source, _, _), (target, _, _) = row["files"]
    values, unit = row.get("profile", (None, 1.0))
    return PairItem(
        row["image_id"],
        row["group"],
        shard / target,
        shard / source,
        UNKNOWN_LENS if row["params"] is None else np.array(row["params"]),
        extra=row["extra"],
        profile=None if values is None else Profile(np.array(values), unit),
        orig_size=_size(row),
    )


def _size(row: dict[str, Any]) -> tuple[int, int]:
    height, width = row["orig_size"]
    return height, width
