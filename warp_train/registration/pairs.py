"""Recovers the lenses of many pairs in several processes; each pair gives one JSON record."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warp_train.runtime.worker_pool import run_jobs
from warp_train.runtime.worker_process import JobError

if TYPE_CHECKING:
    from warp_train.data.decoding import Photo
    from warp_train.photos.pixels import Image
    from warp_train.registration.estimate import Recovery

Record = dict[str, Any]
"""A line of the results file: `image_id`, `params` [8], `error_px` and `ok`, and with a profile
also `profile` [33] and `profile_error_px`. For a pair that failed: `image_id` and `error`."""


@dataclass(frozen=True)
class PairJob:
    """A pair: its id, the distorted photo and the straight photo."""

    image_id: str
    bent: Path
    straight: Path


def recover_pairs(jobs: Sequence[PairJob], workers: int) -> Generator[Record, None, None]:
    """The record of each pair as it finishes, see `spread`."""
    for _, record in spread(jobs, load_recovery, workers):
        yield record


def spread(
    jobs: Sequence[PairJob], load: Callable[[], Callable[[PairJob], Record]], workers: int
) -> Generator[tuple[PairJob, Record], None, None]:
    """Each pair with its record as it finishes, from `workers` processes of one thread each.

    With 0 workers, this process does the work.

    Args:
        load: prepares a process and returns the function that it runs; see `run_jobs`.
    """
    if not workers:
        work = load()
        for job in jobs:
            yield job, work(job)
        return
    with contextlib.closing(run_jobs(jobs, load, workers)) as results:
        for job, result in results:
            if isinstance(result, JobError):
                reason = f"{job.bent}: the process that worked on it {result.how}"
                yield job, failure(job, reason)
            else:
                yield job, result


def failure(job: PairJob, reason: str) -> Record:
    """The record of a pair that failed."""
    return {"image_id": job.image_id, "error": reason}


def recover_files(job: PairJob) -> Record:
    """The record of a pair; an error in its files becomes the record's `error`."""
    from warp_train.data.decoding import BadSample

    try:
        return _recover(job)
    except BadSample as bad:
        return failure(job, str(bad))
    except Exception as error:  # one pair must not end the others' run
        return failure(job, f"{job.bent}: {type(error).__name__}: {error}")


def _recover(job: PairJob) -> Record:
    from warp_train.data.decoding import decode_pair
    from warp_train.registration.estimate import WORKING_SIDE, recover_lens

    bent, straight = decode_pair(job.bent, job.straight, WORKING_SIDE)
    # Only JPEGs are reduced while decoding: a photo of another format is reduced to their size.
    size = min(bent.pixels.shape[:2], straight.pixels.shape[:2])
    first, second = (_of_size(photo, size) for photo in (bent, straight))
    return _line(job, recover_lens(first, second, bent.full_size))


def _of_size(photo: Photo, size: tuple[int, ...]) -> Image:
    """The photo at `size` (height, width), without the padding that an uneven reduction adds."""
    import numpy as np
    from PIL import Image as Pillow

    height, width = size
    picture = Pillow.fromarray(photo.pixels)
    kernel = Pillow.Resampling.HAMMING
    return np.asarray(picture.resize((width, height), kernel, box=photo.extent))


def _line(job: PairJob, found: Recovery) -> Record:
    line = {
        "image_id": job.image_id,
        "params": [float(f"{value:.9g}") for value in found.params],
        "error_px": round(found.error_px, 4),
        "ok": found.ok,
    }
    if found.profile is not None:
        line["profile"] = [round(float(value), 7) for value in found.profile.values]
        line["profile_error_px"] = round(found.profile.error_px, 4)
    return line


def load_recovery() -> Callable[[PairJob], Record]:
    """Prepares a worker process and returns the function that it runs."""
    import cv2

    cv2.setNumThreads(1)
    cv2.utils.logging.setLogLevel(0)  # an error in a file is reported once, with its name
    return recover_files
