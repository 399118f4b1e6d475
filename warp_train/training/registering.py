"""At the start of a run: the warps of pairs that have none, by registration of their photos."""

import dataclasses
import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object

from warp_train.data.sources.manifest import PairItem
from warp_train.data.sources.pairs import Pairs
from warp_train.data.sources.warps import warp_of
from warp_train.geometry import IDENTITY_PARAMS, PARAM_NAMES
from warp_train.recipe import Recipe
from warp_train.registration.pairs import PairJob, Record
from warp_train.registration.store import Store
from warp_train.runtime.console import tell
from warp_train.runtime.cores import usable_cores
from warp_train.runtime.progress import Progress
from warp_train.training.feeding import Data
from warp_train.training.interrupts import Interrupts

log = logging.getLogger("warp_train")

FOLDER = "recovered"
"""In `output_dir`: the journals of registered pairs."""
_PAIRS_PER_WORKER = 32
"""A process takes about as long to start as so many pairs to register."""
_SHOWN = 3
_FEW = 0.01
"""Share of pairs beyond a bound that is not worth a warning."""


def with_registered_warps(
    recipe: Recipe, data: Data, accelerator: Accelerator, interrupts: Interrupts
) -> Data | None:
    """The data, with the warps of pairs that had none; None after a signal.

    Pairs whose warp cannot be found are left out, for the photos of a pair that was mismatched or
    retouched teach nothing; if they are the majority, all pairs stay.

    Collective: call on every rank. Each registers its share.

    Raises:
        WarpTrainError: the journal cannot be written.
    """
    if not isinstance(data.train, Pairs) or not isinstance(data.val, Pairs):
        return data
    if recipe.data.recover == "off" or recipe.data.warps is not None:
        return data
    train, val = list(data.train.items), list(data.val.items)
    unknown = [item for item in (*train, *val) if not item.warp_known]
    if not unknown:
        return data
    records = _registered(unknown, recipe, accelerator, interrupts)
    if records is None:
        return None
    found = {id(item): _with(item, record) for item, record in zip(unknown, records, strict=True)}
    train, val = ([found.get(id(item), item) for item in items] for items in (train, val))
    sure = [[item for item in items if item.warp_known] for items in (train, val)]
    missing = len(train) + len(val) - sum(map(len, sure))
    few = all(sure) and 2 * missing <= len(train) + len(val)
    if accelerator.is_main_process:
        tell(_report(unknown, records, missing, few))
    if few:
        train, val = sure
    return dataclasses.replace(data, train=data.train.of(train), val=data.val.of(val))


def warn_of_bounds(recipe: Recipe, data: Data) -> None:
    """Warns where lenses of the pairs exceed `model.param_bounds`: they cannot be learned."""
    if not isinstance(data.train, Pairs):
        return
    known = np.array([item.params for item in data.train.items if item.warp_known])
    if not len(known):
        return
    for name, values, neutral in zip(PARAM_NAMES, known.T, IDENTITY_PARAMS, strict=True):
        bound = getattr(recipe.model.param_bounds, name)
        size = np.abs(values - neutral)
        share = float((size > bound).mean())
        if share > _FEW:
            log.warning(
                "model.param_bounds.%s is %g, but %.0f %% of the pairs have more: %.2g would be "
                "enough for all",
                *(name, bound, 100 * share, 1.25 * size.max()),
            )


def _registered(
    items: Sequence[PairItem], recipe: Recipe, accelerator: Accelerator, interrupts: Interrupts
) -> list[Record] | None:
    """A record for each item, on every rank; None after a signal."""
    store = Store(recipe.output_dir / FOLDER)
    jobs = [PairJob(item.image_id, item.input, item.target) for item in items]
    mine: dict[int, Record] = {}
    if accelerator.is_main_process:  # the processes may see different states of a shared disk
        mine = {number: record for number, job in enumerate(jobs) if (record := store.find(job))}
    known = {number for numbers in gather_object([sorted(mine)]) for number in numbers}
    waiting = [number for number in range(len(jobs)) if number not in known]
    share = waiting[accelerator.process_index :: accelerator.num_processes]
    index = {id(jobs[number]): number for number in share}
    results = store.register([jobs[number] for number in share], _workers(len(share), accelerator))
    stop = False
    with Progress(
        len(share), "pair", title="registering pairs", enabled=accelerator.is_main_process
    ) as progress:
        for job, record in results:
            mine[index[id(job)]] = record
            progress.advance()
            stop, _ = interrupts.round(working=True)
            if stop:
                break
        results.close()  # ends the processes
        while not stop:
            stop, anyone_works = interrupts.round(working=False)
            if not anyone_works:
                break
    if stop:
        return None
    merged = dict(pair for part in gather_object([sorted(mine.items())]) for pair in part)
    return [merged[number] for number in range(len(jobs))]


def _workers(pairs: int, accelerator: Accelerator) -> int:
    """Processes beside this one, which does the work alone where they would not pay."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", accelerator.num_processes))
    workers = min(max(1, usable_cores() // local), pairs // _PAIRS_PER_WORKER)
    return workers if workers > 1 else 0


def _with(item: PairItem, record: Record) -> PairItem:
    warp = warp_of(record, str(item.input))
    return dataclasses.replace(item, params=warp.params, profile=warp.profile)


def _report(items: Sequence[PairItem], records: Sequence[Record], missing: int, few: bool) -> str:
    line = f"pairs: registered {len(items)}, of {len(items) - missing} the warp is known"
    if not missing:
        return line
    named = sorted(zip(map(_doubt, records), (item.image_id for item in items), strict=True))
    worst = ", ".join(name for _, name in named[: -_SHOWN - 1 : -1][:missing])
    what = "are left out" if few else "are trained on by the image terms alone"
    return f"{line}; {missing} {what} (retouched, cropped or mismatched? the worst: {worst})"


def _doubt(record: Record) -> float:
    """Estimated error in px; infinite for a pair that could not be read."""
    known: Any = record.get("error_px")
    return float("inf") if known is None else float(known)
