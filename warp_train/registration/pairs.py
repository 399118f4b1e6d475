"""Many pairs, in several processes, and the lines that a file of warps is made of."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warp_train.runtime.worker_pool import Died, run_jobs

if TYPE_CHECKING:
    from warp_train.data.decoding import Photo
    from warp_train.data.samples import Image
    from warp_train.registration.estimate import Recovery

Record = dict[str, Any]
"""A line: `image_id`, `params` [8], `error_px` and `ok`, where it has one also `profile` [33] and
`profile_error_px`; or `image_id` and `error`."""


@dataclass(frozen=True)
class Job:
    image_id: str
    bent: Path
    straight: Path


def recover_pairs(jobs: Sequence[Job], workers: int) -> Generator[Record, None, None]:
    """The line of each pair as it is found, from `workers` processes of one thread each.

    With 0 workers, this process does the work.
    """
    if not workers:
        work = _load()
        for job in jobs:
            yield work(job)
        return
    with contextlib.closing(run_jobs(jobs, _load, workers)) as results:
        for job, result in results:
            if isinstance(result, Died):
                yield failure(job, f"{job.bent}: the process that worked on it {result.how}")
            else:
                yield result


def failure(job: Job, reason: str) -> Record:
    return {"image_id": job.image_id, "error": reason}


def recover_files(job: Job) -> Record:
    """The line of a pair; whatever is wrong with its files becomes the line's `error`."""
    from warp_train.data.decoding import BadSample

    try:
        return _recover(job)
    except BadSample as bad:
        return failure(job, str(bad))
    except Exception as error:  # one pair must not end the others' run
        return failure(job, f"{job.bent}: {type(error).__name__}: {error}")


def _recover(job: Job) -> Record:
    from warp_train.data.decoding import decode_pair
    from warp_train.registration.estimate import WORKING_SIDE, recover_lens

    bent, straight = decode_pair(job.bent, job.straight, WORKING_SIDE)
    # Only JPEGs come back reduced: beside one, another format is brought to its size.
    size = min(bent.pixels.shape[:2], straight.pixels.shape[:2])
    first, second = (_of_size(photo, size) for photo in (bent, straight))
    return _line(job, recover_lens(first, second, bent.full_size))


def _of_size(photo: Photo, size: tuple[int, ...]) -> Image:
    """All of the photo and nothing beside it: a reduction that did not come out even is mended."""
    import numpy as np
    from PIL import Image as Pillow

    height, width = size
    picture = Pillow.fromarray(photo.pixels)
    kernel = Pillow.Resampling.HAMMING
    return np.asarray(picture.resize((width, height), kernel, box=photo.extent))


def _line(job: Job, found: Recovery) -> Record:
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


def _load() -> Callable[[Job], Record]:
    """What a worker process starts with."""
    import cv2

    cv2.setNumThreads(1)
    cv2.utils.logging.setLogLevel(0)  # what is wrong with a file is said once, by name
    return recover_files
