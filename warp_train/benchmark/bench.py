"""The measurement: what one stage's steps cost on this machine."""

import itertools
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from warp_train.benchmark.loops import AccelerateLoop, BareLoop, TrainingLoop
from warp_train.benchmark.parts import (
    time_checkpoint,
    time_losses,
    time_parts,
    time_samples,
)
from warp_train.benchmark.peer import EagerPeer
from warp_train.benchmark.probes import host_syncs, peak_bytes
from warp_train.benchmark.stopwatch import Stopwatch, interleave
from warp_train.benchmark.tracing import trace_steps
from warp_train.data import Batch
from warp_train.recipe import Recipe
from warp_train.training.acceleration import build_accelerator
from warp_train.training.feeding import open_data
from warp_train.training.meter import Meter
from warp_train.training.run import Run, start_run

WARM_UP = 3
"""Steps before anything is timed: memory is found, kernels are chosen."""
_HELD = 4
"""Batches that the interleaved loops go round in: none of them waits for data."""
_FEW = 5
"""Rounds of what is only broken down."""


@dataclass(frozen=True)
class Result:
    """What was measured; times are medians in ms, bytes are above what is there before a step."""

    recipe: str
    stage: str
    backbone: str
    batch: tuple[int, int, int]
    """Samples of a process, height, width."""
    device: str
    processes: int
    precision: str
    steps: int
    step_ms: dict[str, float]
    """`ours`, `accelerate`, `bare` and optionally `peer`, interleaved."""
    ratios: dict[str, float]
    """`ours/bare` and so on: medians over the rounds."""
    parts_ms: dict[str, float]
    losses_ms: dict[str, float]
    """Each term alone, forward and backward, with all that it shares with others."""
    samples_per_sec: float
    """Of all processes, in the loop with its loader."""
    data_wait_frac: float
    peak_bytes: dict[str, int]
    """`ours` and `bare`; empty on a device that does not report it."""
    host_syncs_per_step: int | None
    """None without a GPU."""
    log_every: int
    """Steps that share the time of `logging`."""


def bench(recipe: Recipe, *, steps: int, peer: bool, trace: Path | None = None) -> Result:
    """Measures a stage from fresh weights, in a temporary folder. Collective: call on every rank.

    Args:
        steps: rounds to time.
        peer: also time a straightforward implementation of the same terms.
        trace: file for a trace of further steps.

    Raises:
        WarpTrainError: the samples are not there, or the trace cannot be written.
    """
    # Micro-batches cost the same one by one, and the weights do not change the time.
    train = recipe.train.model_copy(update={"grad_accum_steps": 1})
    recipe = recipe.model_copy(update={"init_from": None, "train": train})
    data = open_data(recipe)
    accelerator = build_accelerator(recipe.train)
    with tempfile.TemporaryDirectory() as folder:
        run = start_run(recipe, data, accelerator, _shared_folder(accelerator, folder))
        held, rate, wait = _real_loop(run, steps)
        loops = _loops(run, held, peer=peer)
        watch, parts, losses = (Stopwatch(accelerator.device) for _ in range(3))
        interleave(watch, loops, rounds=steps, warm_up=WARM_UP)
        for _ in range(_FEW):
            time_parts(run, itertools.cycle(held), parts)
            time_losses(run, held[0], losses)
            time_checkpoint(run, parts)
        time_samples(run, data, parts)
        if trace is not None:
            trace_steps(run, trace)
        device = accelerator.device
        peaks = {name: peak_bytes(loops[name], device) for name in ("ours", "bare")}
        return Result(
            recipe=recipe.run_name,
            stage=recipe.stage,
            backbone=recipe.model.backbone,
            batch=(recipe.train.batch_size, *run.feed.size),
            device=_name(device),
            processes=accelerator.num_processes,
            precision=accelerator.mixed_precision,
            steps=steps,
            step_ms=watch.milliseconds(),
            ratios={f"ours/{name}": watch.ratio("ours", name) for name in loops if name != "ours"},
            parts_ms=parts.milliseconds(),
            losses_ms=losses.milliseconds(),
            samples_per_sec=rate,
            data_wait_frac=wait,
            peak_bytes={name: peak for name, peak in peaks.items() if peak is not None},
            host_syncs_per_step=host_syncs(loops["ours"], device),
            log_every=recipe.train.log_every,
        )


def _real_loop(run: Run, steps: int) -> tuple[list[Batch], float, float]:
    """The loop with its loader, undisturbed: batches to keep, samples a second, share waited."""
    batches = run.feed.train(0)
    try:
        held = list(itertools.islice(batches, _HELD))
        loop = TrainingLoop(run, batches)
        for _ in range(WARM_UP):
            loop.step()
        run.meter = Meter()
        watch = Stopwatch(run.accelerator.device)
        began = watch.now()
        for _ in range(steps):
            loop.step()
        seconds = watch.now() - began
        samples = run.meter.samples * run.accelerator.num_processes
        return held, samples / seconds, run.meter.waited / seconds
    finally:
        batches.close()  # type: ignore[attr-defined]  # a generator, whose workers end with it


def _loops(run: Run, held: list[Batch], *, peer: bool) -> dict[str, Callable[[], Any]]:
    def batches() -> Iterator[Batch]:
        return itertools.cycle(held)

    loops: dict[str, Callable[[], Any]] = {
        "ours": TrainingLoop(run, batches()).step,
        "accelerate": AccelerateLoop(run, batches()).step,
        "bare": BareLoop(run, batches()).step,
    }
    if peer:
        loops["peer"] = EagerPeer(run.recipe, batches(), run.accelerator.device).step
    return loops


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"


def _shared_folder(accelerator: Accelerator, folder: str) -> Path:
    """The main process's: a checkpoint has a part of every process's."""
    return Path(broadcast_object_list([folder], from_process=0)[0])
