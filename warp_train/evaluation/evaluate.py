"""Measures a model on photo pairs at full resolution, beside identity and a fixed warp."""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from warp_train.data.decoding import BadSample, decode_image
from warp_train.data.lenses import Array
from warp_train.data.sources.files import at_most
from warp_train.data.sources.manifest import PairItem, find_pairs
from warp_train.evaluation.measuring import (
    AppliedWarp,
    FailedPhoto,
    OneLens,
    PhotoResult,
    Task,
    failed_photo,
    printable,
    start_measuring,
)
from warp_train.evaluation.statistics import Totals, total
from warp_train.inference.look import Look
from warp_train.inference.photo_warp import PhotoWarp
from warp_train.inference.shoot import Shoot
from warp_train.inference.straightener import Straightener
from warp_train.photos.pixels import Image
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.worker_pool import run_jobs
from warp_train.runtime.worker_process import JobError


@dataclass(frozen=True)
class Evaluation:
    """The measured pairs, the pairs that could not be read, and the totals."""

    photos: list[PhotoResult]
    failed: list[FailedPhoto]
    model_hash: str
    totals: Totals
    tiers: dict[str, Totals]
    """By the manifest's `tier`, in the order of the names; empty if it has none."""

    def to_json(self) -> dict[str, Any]:
        """The totals, then the photos one by one."""
        by_tier = {name: _with_shoots_only(totals) for name, totals in self.tiers.items()}
        tiers = {"tiers": by_tier} if by_tier else {}
        return {
            **_with_shoots_only(self.totals),
            **tiers,
            "images": [_image_json(photo) for photo in self.photos],
            "model_hash": self.model_hash,
            "failed": self.failed,
        }


def pairs_to_evaluate(data: Path, most: int | None, name: str = "data") -> list[PairItem]:
    """The pairs of a folder or a manifest; where some are marked `val`, those alone.

    Args:
        most: number of pairs, spread over all of them; None for all.
        name: of `data`, for error messages.

    Raises:
        WarpTrainError: a file is missing or the manifest is wrong; it is named.
    """
    found = find_pairs(data, name)
    held_out = [item for item in found if item.split == "val"] or found
    return [
        replace(item, image_id=printable(item.image_id), group=printable(item.group))
        for item in (held_out if most is None else at_most(held_out, most))
    ]


def evaluate(
    straightener: Straightener,
    items: Sequence[PairItem],
    *,
    workers: int = 0,
    on_result: Callable[[PhotoResult | FailedPhoto], object] = lambda result: None,
) -> Evaluation:
    """Measures identity, fixed warp, model and exact warp on every pair.

    The target of each pair, which is straight already, is also an input of the model. Photos of one
    `shoot` in the manifest are measured also by the lens that they agree on.

    Args:
        workers: processes that measure; 0: this one.
        on_result: called with each result as it arrives.

    Raises:
        WarpTrainError: not one of the pairs could be read.
    """
    results = measure_pairs(straightener, items, workers=workers, on_result=on_result)
    return summarised(results, straightener.model_hash)


def measure_pairs(
    straightener: Straightener,
    items: Sequence[PairItem],
    *,
    workers: int = 0,
    on_result: Callable[[PhotoResult | FailedPhoto], object] = lambda result: None,
) -> list[PhotoResult | FailedPhoto]:
    """The results of `evaluate`, a pair each."""
    results: list[PhotoResult | FailedPhoto] = []

    def take(result: PhotoResult | FailedPhoto) -> None:
        results.append(result)
        on_result(result)

    trained_on = straightener.predictor.model.trained_on
    fixed_warp = trained_on.fixed_warp if trained_on else None
    count = min(workers, len(items))
    with closing(_measured(_tasks(straightener, items, take), fixed_warp, count)) as measured:
        for result in measured:
            take(result)
    place = {(item.input, item.target): number for number, item in enumerate(items)}
    photos = sorted(
        (result for result in results if isinstance(result, PhotoResult)),
        key=lambda photo: place[photo.task.item.input, photo.task.item.target],
    )
    return [*photos, *(result for result in results if not isinstance(result, PhotoResult))]


def summarised(results: Sequence[PhotoResult | FailedPhoto], model_hash: str) -> Evaluation:
    """The totals of all pairs. Raises WarpTrainError if not one of them could be read."""
    photos = [result for result in results if isinstance(result, PhotoResult)]
    failed = [result for result in results if not isinstance(result, PhotoResult)]
    if not photos:
        raise WarpTrainError(f"none of the {len(failed)} pairs could be read")
    return Evaluation(photos, failed, model_hash, total(photos), _by_tier(photos))


def tier_of(item: PairItem) -> str | None:
    """The pair's `tier`; None if the manifest has none."""
    return _column(item, "tier")


def shoot_of(item: PairItem) -> str | None:
    """The pair's `shoot`; None if the manifest has none."""
    return _column(item, "shoot")


def _column(item: PairItem, name: str) -> str | None:
    value = item.extra.get(name, "")
    return (f"{value:g}" if isinstance(value, float) else value) or None


def _tasks(
    straightener: Straightener, items: Sequence[PairItem], failed: Callable[[FailedPhoto], object]
) -> Iterator[Task]:
    """A task for each photo that can be read, with the warps that `rectify` would apply.

    Photos of a shoot come together. `failed` is called for photos that cannot be read.
    """
    for together in _by_shoot(items):
        if len(together) == 1:
            for item, photo in _readable(together, failed):
                own = straightener.look(photo)
                yield _task(straightener, item, own, own)
            continue
        shoot, head = Shoot(straightener.head), straightener.head
        seen = [
            (item, straightener.see(photo, shoot)) for item, photo in _readable(together, failed)
        ]
        common = shoot.solve()
        for item, one in seen:
            yield _task(straightener, item, one.look(None, head), one.look(common, head))


def _by_shoot(items: Iterable[PairItem]) -> list[list[PairItem]]:
    """The photos of each shoot, and each photo without a shoot."""
    found: dict[Hashable, list[PairItem]] = {}
    for number, item in enumerate(items):
        found.setdefault(shoot_of(item) or number, []).append(item)
    return list(found.values())


def _readable(
    items: Iterable[PairItem], failed: Callable[[FailedPhoto], object]
) -> Iterator[tuple[PairItem, Image]]:
    for item in items:
        try:
            photo = decode_image(item.input).pixels
        except BadSample as bad:
            failed(failed_photo(item, str(bad)))
        else:
            yield item, photo


def _task(straightener: Straightener, item: PairItem, own: Look, by_shoot: Look) -> Task:
    return Task(
        item,
        *_arrays(own.chosen.warp),
        own.chosen.mode,
        own.chosen.refused,
        own.expected_error_px,
        _target_warp(straightener, item),
        _one_lens(by_shoot),
    )


def _one_lens(look: Look) -> OneLens | None:
    fit = look.shoot
    if fit is None:
        return None
    return OneLens(
        _applied(look),
        fit.common.params.numpy(),
        fit.expected_error_px,
        fit.own_lens_differs_px,
        fit.disagrees,
    )


def _target_warp(straightener: Straightener, item: PairItem) -> AppliedWarp | None:
    """What `rectify` would apply to the target; None if it cannot be read, as measuring reports."""
    try:
        target = decode_image(item.target).pixels
    except BadSample:
        return None
    return _applied(straightener.look(target))


def _applied(look: Look) -> AppliedWarp:
    return AppliedWarp(*_arrays(look.chosen.warp), look.chosen.mode, look.expected_error_px)


def _arrays(warp: PhotoWarp) -> tuple[Array, Array | None]:
    """Lens and residual."""
    return warp.params.numpy(), None if warp.residual is None else warp.residual.numpy()


def _measured(
    tasks: Iterable[Task], fixed_warp: tuple[float, ...] | None, workers: int
) -> Generator[PhotoResult | FailedPhoto, None, None]:
    """Results in the order of the tasks, which are made as the workers get to them."""
    load = partial(start_measuring, fixed_warp)
    if not workers:
        yield from map(load(), tasks)
        return
    # Measuring leaves nothing half done, so the processes may be killed at once.
    with closing(run_jobs(tasks, load, workers, in_order=True, patience=0)) as results:
        for task, result in results:
            if isinstance(result, JobError):
                reason = f"{task.item.input}: the process that measured it {result.how}"
                yield failed_photo(task.item, reason)
            else:
                yield result


def _by_tier(photos: Sequence[PhotoResult]) -> dict[str, Totals]:
    tiers: dict[str, list[PhotoResult]] = {}
    for photo in photos:
        tier = tier_of(photo.task.item)
        if tier is not None:
            tiers.setdefault(tier, []).append(photo)
    return {tier: total(tiers[tier]) for tier in sorted(tiers)}


def _with_shoots_only(totals: Totals) -> dict[str, Any]:
    """The totals, without the row of a shoot's lens where no photo has a shoot."""
    return {k: v for k, v in totals.items() if k != "one_lens" or v is not None}


def _image_json(photo: PhotoResult) -> dict[str, Any]:
    task = photo.task
    tier = tier_of(task.item)
    return {
        "image_id": task.item.image_id,
        "group": task.item.group,
        **({} if tier is None else {"tier": tier}),
        **({} if (shoot := shoot_of(task.item)) is None else {"shoot": shoot}),
        "size": photo.size,
        "mode_used": task.mode,
        "refused": task.refused,
        "params": np.asarray(task.params).tolist(),
        "expected_error_px": task.expected_error_px,
        **{str(row): figures for row, figures in photo.rows.items()},
        "already_straight": photo.straight,
    }
