"""Corrects many photos in several processes. Only these import torch and OpenCV."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from functools import partial

from warp_train.inference.rectify_inputs import Job, Record, Settings, failure
from warp_train.runtime.atomic_files import incoming_path
from warp_train.runtime.worker_pool import run_jobs
from warp_train.runtime.worker_process import JobError


def rectify(
    jobs: Sequence[Job], model: str, settings: Settings, *, device: str = "auto", workers: int = 1
) -> Generator[Record, None, None]:
    """Corrects photos in `workers` processes and yields the record of each as it ends.

    A job without an output is measured only. Raises WarpTrainError if the model cannot be loaded.
    """
    load = partial(load_rectifier, model, device, settings)
    with contextlib.closing(run_jobs(jobs, load, workers)) as results:
        for job, result in results:
            if not isinstance(result, JobError):
                yield result
                continue
            if job.output is not None:
                with contextlib.suppress(OSError):
                    incoming_path(job.output, result.process).unlink(missing_ok=True)
            reason = f"the process that worked on it {result.how}"
            yield failure(job, f"{job.input}: {reason}")


def load_rectifier(model: str, device: str, settings: Settings) -> Callable[[Job], Record]:
    """Loads the model in a worker process; returns the function that corrects one photo."""
    import cv2
    import torch
    from PIL import Image

    from warp_train.inference.rectify_photo import attempt
    from warp_train.inference.straightener import Straightener

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    cv2.utils.logging.setLogLevel(0)  # a damaged file is reported once, by its name
    Image.MAX_IMAGE_PIXELS = None  # `read_photo` has a limit of its own
    straightener = Straightener.from_pretrained(model, device)
    return partial(attempt, straightener=straightener, settings=settings)
