"""From photos to shards, in three steps that a later run can continue.

work = begin(config, seed, out)
for outcome in write(work, workers): ...
stored = finish(work)
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import cv2

from warp_train.data.config import DataConfig
from warp_train.data.decoding import BadSample
from warp_train.data.shards import layout
from warp_train.data.shards.encoding import encode
from warp_train.data.shards.layout import (
    SPLITS,
    Cache,
    dataset_digest,
    is_cache,
    read_cache,
    shard_name,
)
from warp_train.data.shards.writing import (
    Outcome,
    is_written,
    shard_bytes,
    unreadable,
    write_cache_file,
    write_shard,
)
from warp_train.data.sources import build_sources
from warp_train.data.sources.files import FileSource, Item
from warp_train.runtime.atomic_files import INCOMING
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.lock_files import LOCK_FILE
from warp_train.runtime.worker_pool import run_jobs
from warp_train.runtime.worker_process import JobError


@dataclass(frozen=True)
class Shard:
    """A part of a split's items that share a tar."""

    split: str
    name: str
    first: int
    """Number of its first sample within the split."""
    items: Sequence[Item]


@dataclass(frozen=True)
class Preparation:
    """A folder of shards under way."""

    out: Path
    cache: Cache
    shards: Sequence[Shard]
    missing: Sequence[Shard]
    """Shards that an earlier run has not written."""

    @property
    def samples(self) -> int:
        """Number of samples in all shards."""
        return sum(len(shard.items) for shard in self.shards)

    @property
    def missing_samples(self) -> int:
        """Number of samples in the missing shards."""
        return sum(len(shard.items) for shard in self.missing)


@dataclass(frozen=True)
class Stored:
    """The contents of a complete folder."""

    samples: dict[str, int]
    """By split."""
    unreadable: int
    """Photos that could not be read; the shards' indexes name them."""
    bytes: int


def begin(config: DataConfig, seed: int, out: Path) -> Preparation:
    """Finds the photos, and makes the folder or checks that it was begun with the same photos.

    Raises:
        WarpTrainError: a photo is missing, or the folder contains other files.
        OSError: the folder cannot be made.
    """
    sources = build_sources(config, seed)
    splits = [source.items for source in sources if isinstance(source, FileSource)]
    try:
        digest = dataset_digest(splits)
    except OSError as error:
        raise WarpTrainError(f"{error.filename}: {error.strerror}") from error
    counts = dict(zip(SPLITS, map(len, splits), strict=True))
    cache = Cache.model_validate(
        {"source": config.source, "size": config.size, "dataset": digest, "samples": counts}
    )
    shards = [
        shard for split, items in zip(SPLITS, splits, strict=True) for shard in _cut(split, items)
    ]
    _begin_folder(out, cache)
    missing = [shard for shard in shards if not is_written(out, shard.name)]
    return Preparation(out, cache, shards, missing)


def write(work: Preparation, workers: int) -> Generator[Outcome, None, None]:
    """Writes the missing shards; yields the outcome of each sample as it is encoded.

    Args:
        workers: processes that read and encode; 0: this one.

    Raises:
        OSError: a shard cannot be written; the complete ones stay.
    """
    items = [item for shard in work.missing for item in shard.items]
    with closing(_encoded(items, work.cache.size, workers)) as encoded:
        for shard in work.missing:
            outcomes = []
            for outcome in islice(encoded, len(shard.items)):
                outcomes.append(outcome)
                yield outcome
            write_shard(work.out, shard.name, shard.first, outcomes)


def finish(work: Preparation) -> Stored:
    """Declares the folder complete: from now on, recipes can train from it.

    Raises:
        WarpTrainError: no photo of a split could be read.
        OSError: the folder cannot be read or written.
    """
    bad = {shard.name: len(unreadable(work.out, shard.name)) for shard in work.shards}
    samples = dict.fromkeys(SPLITS, 0)
    for shard in work.shards:
        samples[shard.split] += len(shard.items) - bad[shard.name]
    for split, count in samples.items():
        if not count:
            raise WarpTrainError(f"{work.out}: no sample of the split '{split}' could be read")
    sizes = {shard.name: shard_bytes(work.out, shard.name) for shard in work.shards}
    write_cache_file(work.out, work.cache.model_copy(update={"shards": sizes}))
    return Stored(samples, sum(bad.values()), sum(sizes.values()))


def _cut(split: str, items: Sequence[Item]) -> Iterator[Shard]:
    count = layout.SHARD_ITEMS
    for number, first in enumerate(range(0, len(items), count)):
        yield Shard(split, shard_name(split, number), first, items[first : first + count])


def _begin_folder(out: Path, cache: Cache) -> None:
    out.mkdir(parents=True, exist_ok=True)
    if not is_cache(out):
        if any(not path.name.startswith((INCOMING, LOCK_FILE)) for path in out.iterdir()):
            raise WarpTrainError(f"{out}: contains other files; give a new or an empty folder")
        write_cache_file(out, cache)
        return
    before = read_cache(out)
    if (before.source, before.size) != (cache.source, cache.size):
        raise WarpTrainError(
            f"{out}: contains {before.source} for data.size {list(before.size)}, not "
            f"{cache.source} for {list(cache.size)}; give another folder"
        )
    if before.dataset != cache.dataset:
        raise WarpTrainError(f"{out}: was made from other photos; give another folder")


def _encoded(
    items: Sequence[Item], size: tuple[int, int], workers: int
) -> Generator[Outcome, None, None]:
    """The encoded items, in their order."""
    load = partial(_load_encoder, size)
    if not workers:
        yield from map(load(), items)
        return
    with closing(run_jobs(items, load, workers, in_order=True)) as results:
        for item, result in results:
            if isinstance(result, JobError):
                yield f"{item.target}: the process that worked on it {result.how}"
            else:
                yield result


def _load_encoder(size: tuple[int, int]) -> Callable[[Item], Outcome]:
    """The work of a worker process."""
    cv2.setNumThreads(1)
    return partial(_encode, size)


def _encode(size: tuple[int, int], item: Item) -> Outcome:
    """The encoded item; an error in its files becomes one line."""
    try:
        return encode(item, size)
    except BadSample as bad:
        return str(bad)
    except Exception as error:  # one photo must not end the run
        return f"{item.target}: {type(error).__name__}: {error}"
