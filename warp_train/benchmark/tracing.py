"""A trace of training steps for chrome://tracing or Perfetto: every operation on its time line."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from warp_train.benchmark.loops import TrainingLoop
from warp_train.data import Batch
from warp_train.runtime.atomic_files import appearing
from warp_train.runtime.errors import WarpTrainError
from warp_train.training.disk import refusal
from warp_train.training.run import Run

TRACED_STEPS = 3
_UNTRACED = 1
"""Steps in which the profiler starts up."""


def trace_steps(run: Run, path: Path) -> None:
    """Writes a Chrome trace (JSON) of a few steps with their loader: `step`, and `data` within it.

    Collective: call on every rank. The main process writes its own trace.

    Raises:
        WarpTrainError: `path` cannot be written.
    """
    batches = run.feed.train(run.step)
    loop = TrainingLoop(run, _recorded(batches))
    activities = [ProfilerActivity.CPU]
    if run.accelerator.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    try:
        for _ in range(_UNTRACED):
            loop.step()
        with profile(activities=activities) as recorded:
            for _ in range(TRACED_STEPS):
                with record_function("step"):
                    loop.step()
            if run.accelerator.device.type == "cuda":
                torch.cuda.synchronize(run.accelerator.device)
    finally:
        batches.close()  # type: ignore[attr-defined]  # a generator, whose workers end with it
    if run.accelerator.is_main_process:
        try:
            with appearing(path) as incoming:
                recorded.export_chrome_trace(str(incoming))
        except OSError as error:
            raise WarpTrainError(refusal(path, error)) from error


def _recorded(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The batches; the wait for each is marked in the trace."""
    while True:
        with record_function("data"):
            batch = next(batches)
        yield batch
