"""Measures a model over photo pairs, at their full resolution, against what it has to beat."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from warp_train.data.decoding import BadSample, decode_image
from warp_train.data.loading import start_worker
from warp_train.data.sources.files import at_most
from warp_train.data.sources.manifest import PairItem, find_pairs
from warp_train.evaluation.measuring import (
    FailedPhoto,
    Measurer,
    PhotoResult,
    Task,
    failed_photo,
    printable,
)
from warp_train.evaluation.statistics import Totals, total
from warp_train.inference.fallback import choose_warp, expected_error_px
from warp_train.inference.predictor import Predictor
from warp_train.runtime.errors import WarpTrainError

_PHOTOS_WORTH_A_WORKER = 12
"""A worker process takes seconds to start: about the time that these take to measure."""


@dataclass(frozen=True)
class Evaluation:
    """What was measured, and what could not be."""

    photos: list[PhotoResult]
    failed: list[FailedPhoto]
    model_hash: str
    totals: Totals
    tiers: dict[str, Totals]
    """By the manifest's `tier`, in the order of the names; empty where it has none."""

    def to_json(self) -> dict[str, Any]:
        """The totals, then the photos one by one."""
        tiers = {"tiers": self.tiers} if self.tiers else {}
        return {
            **self.totals,
            **tiers,
            "images": [_image_json(photo) for photo in self.photos],
            "model_hash": self.model_hash,
            "failed": self.failed,
        }


def pairs_to_evaluate(data: Path, most: int | None) -> list[PairItem]:
    """The pairs of `--data`, a folder or a manifest; where some are marked `val`, those alone.

    Args:
        most: the number to spread over all of them; None for all.

    Raises:
        WarpTrainError: a file is missing or the manifest is wrong; it is named.
    """
    found = find_pairs(data, "--data")
    held_out = [item for item in found if item.split == "val"] or found
    return [
        replace(item, image_id=printable(item.image_id), group=printable(item.group))
        for item in (held_out if most is None else at_most(held_out, most))
    ]


def evaluate(
    predictor: Predictor,
    items: Sequence[PairItem],
    *,
    workers: int | None = None,
    seen: Callable[[PhotoResult | FailedPhoto], object] = lambda result: None,
) -> Evaluation:
    """Measures identity, fixed warp, model and exact warp on every pair.

    Args:
        workers: processes that measure; 0 does it in this one, None as many as have enough to do.
        seen: called with every result as it comes.

    Raises:
        WarpTrainError: not one of the pairs could be read.
    """
    results: list[PhotoResult | FailedPhoto] = []

    def take(result: PhotoResult | FailedPhoto) -> None:
        results.append(result)
        seen(result)

    trained_on = predictor.model.trained_on
    measurer = Measurer(trained_on.fixed_warp if trained_on else None)
    count = _worth_starting(len(items)) if workers is None else min(workers, len(items))
    for result in _spread(measurer, _tasks(predictor, items, take), count):
        take(result)
    photos = [result for result in results if isinstance(result, PhotoResult)]
    failed = [result for result in results if not isinstance(result, PhotoResult)]
    if not photos:
        raise WarpTrainError(f"none of the {len(failed)} pairs could be read")
    return Evaluation(photos, failed, predictor.model_hash, total(photos), _by_tier(photos))


def tier_of(item: PairItem) -> str | None:
    """The pair's `tier`; None where the manifest does not say."""
    tier = item.extra.get("tier", "")
    return (f"{tier:g}" if isinstance(tier, float) else tier) or None


def _tasks(
    predictor: Predictor, items: Sequence[PairItem], failed: Callable[[FailedPhoto], object]
) -> Iterator[Task]:
    """What the model says of each photo that can be read, checked as `rectify` would.

    `failed` is called for the others.
    """
    for item in items:
        try:
            photo = decode_image(item.input).pixels
        except BadSample as bad:
            failed(failed_photo(item, bad))
            continue
        said = predictor.predict(photo)
        safe = choose_warp(said, *photo.shape[:2])
        doubt = None if said.doubt is None else expected_error_px(said.doubt, *photo.shape[:2])
        residual = None if safe.warp.residual is None else safe.warp.residual.numpy()
        yield Task(item, safe.warp.params.numpy(), residual, safe.mode, safe.refused, doubt)


def _spread(
    measurer: Measurer, tasks: Iterable[Task], workers: int
) -> Iterator[PhotoResult | FailedPhoto]:
    """Results in the order of the tasks, which are made as the workers get to them.

    A `DataLoader`, because its workers end when this process does, however it ends. They are
    spawned: a fork of a process whose CUDA or OpenMP has started may hang.
    """
    loader = DataLoader(
        measurer,
        sampler=tasks,  # keys can be anything, so they are the tasks themselves
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=_start_measuring if workers else None,
        multiprocessing_context="spawn" if workers else None,
    )
    with _born_deaf():
        return iter(loader)


def _start_measuring(worker: int) -> None:
    start_worker(worker)
    parent = multiprocessing.parent_process()
    if parent is None or not parent.is_alive():  # a DataLoader's worker would wait for it forever
        raise SystemExit(1)


@contextmanager
def _born_deaf() -> Iterator[None]:
    """Processes started within ignore Ctrl-C from the first: it is this one that ends them.

    It takes them seconds to get to `start_worker`, and an interrupt until then is a traceback.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone may set signals
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _as_it_is(result: Any) -> Any:
    """In place of PyTorch's conversion of all that a worker returns to tensors."""
    return result


def _worth_starting(photos: int) -> int:
    return min(os.cpu_count() or 1, photos // _PHOTOS_WORTH_A_WORKER)


def _by_tier(photos: Sequence[PhotoResult]) -> dict[str, Totals]:
    tiers: dict[str, list[PhotoResult]] = {}
    for photo in photos:
        tier = tier_of(photo.task.item)
        if tier is not None:
            tiers.setdefault(tier, []).append(photo)
    return {tier: total(tiers[tier]) for tier in sorted(tiers)}


def _image_json(photo: PhotoResult) -> dict[str, Any]:
    task = photo.task
    tier = tier_of(task.item)
    return {
        "image_id": task.item.image_id,
        "group": task.item.group,
        **({} if tier is None else {"tier": tier}),
        "size": photo.size,
        "mode_used": task.mode,
        "refused": task.refused,
        "params": np.asarray(task.params).tolist(),
        "doubt_px": task.doubt_px,
        **{str(row): figures for row, figures in photo.rows.items()},
    }
