"""Many photos corrected, in several processes. What is heavy is imported by these alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from warp_train.inference.rectify_inputs import Job
from warp_train.photos.formats import Crop, Format, Interpolation
from warp_train.runtime.atomic_files import incoming_path
from warp_train.runtime.worker_pool import Died, run_jobs

Record = dict[str, Any]
"""A line of `rectify.jsonl`: `input` and `error`, or what `rectify_photo` says."""


@dataclass(frozen=True)
class Settings:
    """What is asked of every photo."""

    out: Path
    """Folder that the outputs are in or below; it has to be there."""
    crop: Crop = "fill"
    interpolation: Interpolation = "bicubic"
    format: Format | None = None
    """None: that of the input."""
    quality: int | None = None
    """Of JPEG and WebP, 1..100; None: that of the input."""
    overwrite: bool = False


def rectify(
    jobs: Sequence[Job], model: str, settings: Settings, *, device: str = "auto", workers: int = 1
) -> Generator[Record, None, None]:
    """Corrects photos in `workers` processes and yields the record of each as it ends.

    A job without an output is measured only. Raises WarpTrainError if the model cannot be loaded.
    """
    load = partial(start_worker, model, device, settings)
    with contextlib.closing(run_jobs(jobs, load, workers)) as results:
        for job, result in results:
            if not isinstance(result, Died):
                yield result
                continue
            if job.output is not None:
                with contextlib.suppress(OSError):
                    incoming_path(job.output, result.process).unlink(missing_ok=True)
            reason = f"the process that worked on it {result.how}"
            yield failure(job, f"{job.input}: {reason}")


def failure(job: Job, reason: str) -> Record:
    return {"input": str(job.input), "error": reason}


def start_worker(model: str, device: str, settings: Settings) -> Callable[[Job], Record]:
    """What a worker process starts with."""
    import cv2
    import torch
    from PIL import Image

    from warp_train.inference.predictor import load_predictor
    from warp_train.inference.rectify_photo import attempt

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    cv2.utils.logging.setLogLevel(0)  # what is wrong with a file is said once, by name
    Image.MAX_IMAGE_PIXELS = None  # `read_photo` has a limit of its own
    return partial(attempt, predictor=load_predictor(model, device), settings=settings)
