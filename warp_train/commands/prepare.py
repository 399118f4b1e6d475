"""`prepare`: photos at the size that they are trained on, in shards."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from warp_train.commands.common import add_command, add_workers, chosen_workers
from warp_train.runtime.console import say
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.progress import Progress

if TYPE_CHECKING:
    from warp_train.data import DataConfig
    from warp_train.data.shards.layout import Cache
    from warp_train.data.shards.writing import Outcome
    from warp_train.data.sources.files import Item
    from warp_train.recipe import Chain, Recipe

_HELP = """\
examples:
  warp-train prepare recipes/photos.yaml data.root=photos --out cache
  warp-train train recipes/photos.yaml data.root=cache

Reads the photos that a recipe with data.source photos or pairs names, training and validation
alike, and writes them at the size that it trains on to tar shards in DIR: WebDataset's format. A
recipe that names DIR as data.root is trained from it, and from nothing else. Pairs give exactly
the samples that their files do. Photos that are much larger than data.size are stored smaller, 2.5
photo pixels a pixel of the frame; others as they are.

Started again, the command goes on where it was. The exit code is 1 if a photo could not be read;
a line says which and why, and the cache does without it.
"""
_PHOTOS_PER_WORKER = 100
"""A process takes about as long to start as so many photos to store."""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declares `prepare`."""
    parser = add_command(
        commands, "prepare", _prepare, "store photos in shards that training reads quickly", _HELP
    )
    parser.usage = f"{parser.prog} RECIPE --out DIR [--workers N] [key=value ...]"
    parser.add_argument("recipe", metavar="RECIPE", type=Path, help="YAML file that names them")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="folder to write or go on"
    )
    add_workers(parser)


@dataclass(frozen=True)
class _Shard:
    split: str
    name: str
    first: int
    """Number of its first sample within the split."""
    items: Sequence[Item]


def _prepare(arguments: argparse.Namespace) -> int:
    from warp_train.data import build_sources
    from warp_train.data.shards.layout import Cache, dataset_digest
    from warp_train.data.sources.files import FileSource
    from warp_train.recipe import load_recipe

    out: Path = arguments.out
    recipe = load_recipe(arguments.recipe, arguments.overrides)
    config, seed = _data_section(recipe)
    sources = build_sources(config, seed)
    splits = [source.items for source in sources if isinstance(source, FileSource)]
    try:
        digest = dataset_digest(splits)
    except OSError as error:
        raise WarpTrainError(f"{error.filename}: {error.strerror}") from error
    counts = {"train": len(splits[0]), "val": len(splits[1])}
    cache = Cache.model_validate(
        {"source": config.source, "size": config.size, "dataset": digest, "samples": counts}
    )
    shards = [*_cut("train", splits[0]), *_cut("val", splits[1])]
    try:
        _begin(out, cache)
        _write(out, shards, config, arguments.workers)
        return _finish(out, cache, shards)
    except OSError as error:
        raise WarpTrainError(f"--out {out}: {error.strerror}") from error


def _data_section(recipe: Recipe | Chain) -> tuple[DataConfig, int]:
    """The recipe's photos, and its seed. Raises WarpTrainError where there are none to store."""
    from warp_train.data.shards.layout import is_cache
    from warp_train.recipe import Chain

    stages = recipe.stages if isinstance(recipe, Chain) else (recipe,)
    config = stages[0].data
    if config.source not in ("photos", "pairs") or config.root is None:
        raise WarpTrainError(f"data.source '{config.source}': only photos and pairs are prepared")
    if is_cache(config.root):
        raise WarpTrainError(f"data.root: {config.root}: is what prepare has written")
    for stage in stages:
        for key in ("source", "root", "val_root", "size"):
            if getattr(stage.data, key) != getattr(config, key):
                raise WarpTrainError(
                    f"data.{key} differs between the stages; give the one to prepare for, as in "
                    f"data.{key}={getattr(config, key)}"
                )
    return config, stages[0].seed


def _cut(split: str, items: Sequence[Item]) -> Iterator[_Shard]:
    from warp_train.data.shards.layout import SHARD_ITEMS, shard_name

    for number, first in enumerate(range(0, len(items), SHARD_ITEMS)):
        yield _Shard(split, shard_name(split, number), first, items[first : first + SHARD_ITEMS])


def _begin(out: Path, cache: Cache) -> None:
    """Makes the folder, or checks that what is in it was begun with the same photos.

    Raises WarpTrainError, OSError.
    """
    from warp_train.data.shards.layout import is_cache, read_cache
    from warp_train.data.shards.writing import write_cache_file
    from warp_train.runtime.atomic_files import INCOMING

    out.mkdir(parents=True, exist_ok=True)
    if not is_cache(out):
        if any(not path.name.startswith(INCOMING) for path in out.iterdir()):
            raise WarpTrainError(f"--out {out}: holds other files; give a new or an empty folder")
        write_cache_file(out, cache)
        return
    before = read_cache(out)
    if (before.source, before.size) != (cache.source, cache.size):
        raise WarpTrainError(
            f"--out {out}: holds {before.source} for data.size {list(before.size)}, not "
            f"{cache.source} for {list(cache.size)}; give another folder"
        )
    if before.dataset != cache.dataset:
        raise WarpTrainError(f"--out {out}: was made from other photos; give another folder")


def _write(out: Path, shards: Sequence[_Shard], config: DataConfig, asked: int | None) -> None:
    """Writes the shards that are not there yet. Raises OSError."""
    from warp_train.data.shards.writing import is_written, write_shard

    waiting = [shard for shard in shards if not is_written(out, shard.name)]
    items = [item for shard in waiting for item in shard.items]
    total = sum(len(shard.items) for shard in shards)
    if len(items) < total:
        say(f"{total - len(items)} of {total} {config.source} are in {out} already")
    workers = min(chosen_workers(asked, len(items), _PHOTOS_PER_WORKER), len(items))
    if not items:
        return
    encoded = contextlib.closing(_encoded(items, config.size, workers))
    with encoded as outcomes, contextlib.closing(Progress(len(items), "sample")) as progress:
        told = _told(outcomes, progress)
        for shard in waiting:
            write_shard(out, shard.name, shard.first, list(islice(told, len(shard.items))))
    say(f"{len(items)}/{len(items)} samples, {progress.rate:.1f}/s")


def _told(outcomes: Iterable[Outcome], progress: Progress) -> Iterator[Outcome]:
    """The outcomes, while the user sees how they come along."""
    for outcome in outcomes:
        if isinstance(outcome, str):
            progress.error(outcome)
        progress.advance()
        yield outcome


def _encoded(
    items: Sequence[Item], size: tuple[int, int], workers: int
) -> Generator[Outcome, None, None]:
    """What is to be stored of each item, in their order, from so many processes; 0: this one."""
    from warp_train.runtime.worker_pool import run_jobs
    from warp_train.runtime.worker_process import JobError

    load = partial(_start, size)
    if not workers:
        yield from map(load(), items)
        return
    with contextlib.closing(run_jobs(items, load, workers, in_order=True)) as results:
        for item, result in results:
            if isinstance(result, JobError):
                yield f"{item.target}: the process that worked on it {result.how}"
            else:
                yield result


def _start(size: tuple[int, int]) -> Callable[[Item], Outcome]:
    """What a worker process starts with."""
    import cv2

    cv2.setNumThreads(1)
    return partial(_encode, size)


def _encode(size: tuple[int, int], item: Item) -> Outcome:
    """The item for frames of that size; whatever is wrong with its files becomes one line."""
    from warp_train.data.decoding import BadSample
    from warp_train.data.shards.encoding import encode

    try:
        return encode(item, size)
    except BadSample as bad:
        return str(bad)
    except Exception as error:  # one photo must not end the others' run
        return f"{item.target}: {type(error).__name__}: {error}"


def _finish(out: Path, cache: Cache, shards: Sequence[_Shard]) -> int:
    """Declares the cache whole; returns the exit code.

    Raises WarpTrainError where a split has no photo that can be read, and OSError.
    """
    from warp_train.data.shards.layout import SPLITS
    from warp_train.data.shards.writing import shard_bytes, unreadable, write_cache_file

    bad = {shard.name: len(unreadable(out, shard.name)) for shard in shards}
    stored = dict.fromkeys(SPLITS, 0)
    for shard in shards:
        stored[shard.split] += len(shard.items) - bad[shard.name]
    for split, count in stored.items():
        if not count:
            raise WarpTrainError(f"--out {out}: not one sample to {split} on could be read")
    sizes = {shard.name: shard_bytes(out, shard.name) for shard in shards}
    write_cache_file(out, cache.model_copy(update={"shards": sizes}))
    failed = sum(bad.values())
    counts = f"{stored['train']} to train on, {stored['val']} to validate on"
    could_not = f", {failed} could not be read" if failed else ""
    say(f"{out}: {counts}{could_not}, {sum(sizes.values()) / 1e6:.0f} MB")
    return 1 if failed else 0
