"""`prepare`: photos at the size that they are trained on, in shards."""

from __future__ import annotations

import argparse
import time
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path

from warp_train.commands.workers import chosen_workers
from warp_train.data import DataConfig
from warp_train.data.shards import preparing
from warp_train.data.shards.layout import is_cache
from warp_train.recipe import Chain, Recipe, load_recipe
from warp_train.runtime.console import say
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.locks import held, lock_folder
from warp_train.runtime.progress import Progress
from warp_train.runtime.team import Team, together

_PHOTOS_PER_WORKER = 100
"""Starting a process takes about as long as storing so many photos."""


def run(arguments: argparse.Namespace) -> int:
    """Writes the shards that are missing; 1 if a photo could not be read.

    Each process of a launch writes its share of the shards.
    """
    config, seed = _data_section(load_recipe(arguments.recipe, arguments.overrides))
    try:
        with (
            together(arguments.out) as team,
            held(lock_folder(arguments.out)) if team.first else nullcontext(),
        ):
            return _prepare(arguments, config, seed, team)
    except OSError as error:
        raise WarpTrainError(f"--out {arguments.out}: {error.strerror}") from error


def _prepare(arguments: argparse.Namespace, config: DataConfig, seed: int, team: Team) -> int:
    """The exit code. Raises OSError."""
    out: Path = arguments.out
    if not team.first:
        team.get("begun", 0)  # rank 0 makes the folder, and the others find it made
    work = preparing.begin(config, seed, out)
    done = work.samples - work.missing_samples
    if team.first:
        if not team.alone:
            team.put("begun", None)
        if done:
            say(f"{done} of {work.samples} {config.source} are in {out} already")
    began = time.monotonic()
    missing = {shard.name for shard in work.missing}
    # A share of all shards: those of others may have been written meanwhile.
    mine = [shard for shard in team.share(work.shards) if shard.name in missing]
    if mine:
        _write(replace(work, missing=mine), arguments, team)
    if team.finish() is None:
        return 0
    if work.missing:
        total = work.missing_samples
        say(f"{total}/{total} samples, {total / max(time.monotonic() - began, 1e-9):.1f}/s")
    stored = preparing.finish(work)
    counts = f"{stored.samples['train']} to train on, {stored.samples['val']} to validate on"
    failed = f", {stored.unreadable} could not be read" if stored.unreadable else ""
    say(f"{out}: {counts}{failed}, {stored.bytes / 1e6:.0f} MB")
    return 1 if stored.unreadable else 0


def _write(work: preparing.Preparation, arguments: argparse.Namespace, team: Team) -> None:
    """Writes the missing shards and shows progress. Raises OSError."""
    total = work.missing_samples
    workers = chosen_workers(arguments.worker_rule, arguments.workers, total, _PHOTOS_PER_WORKER)
    with (
        closing(Progress(total, "sample", enabled=team.first)) as progress,
        closing(preparing.write(work, workers)) as outcomes,
    ):
        for outcome in outcomes:
            if isinstance(outcome, str):
                progress.error(outcome)
            progress.advance()


def _data_section(recipe: Recipe | Chain) -> tuple[DataConfig, int]:
    """The `data` section and the seed. Raises WarpTrainError where there are no photos to store."""
    stages = recipe.stages if isinstance(recipe, Chain) else (recipe,)
    config = stages[0].data
    if config.source not in ("photos", "pairs") or config.root is None:
        raise WarpTrainError(f"data.source '{config.source}': only photos and pairs are prepared")
    if not isinstance(config.root, Path):
        raise WarpTrainError(f"data.root: {config.root}: prepare reads photos from a disk only")
    if is_cache(config.root):
        raise WarpTrainError(f"data.root: {config.root}: was written by prepare itself")
    for stage in stages:
        for key in ("source", "root", "val_root", "size"):
            if getattr(stage.data, key) != getattr(config, key):
                raise WarpTrainError(
                    f"data.{key} differs between the stages; set it for all of them, as in "
                    f"data.{key}={getattr(config, key)}"
                )
    return config, stages[0].seed
