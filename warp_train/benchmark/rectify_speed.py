"""`rectify` beside what OpenCV takes to decode, remap and encode the same JPEGs.

    python -m warp_train.benchmark.rectify_speed MODEL PHOTO... [--rounds N] [--workers N]

In turn, on one thread: `rectify`'s work on a photo, model and checks included, in a worker process
of its own; and `cv2.imread`, `cv2.remap` and `cv2.imwrite`, with the lens that the model saw, at
the same quality and sampling, once in an ordinary process and once in one that keeps its memory as
the worker does. OpenCV's maps are made beforehand and not timed, as fixed-point or float32 maps, or
made for each photo, as they have to be where each has a lens of its own. Medians of all rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warp_train.photos.formats import Interpolation
from warp_train.runtime.console import say
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.worker_pool import run_jobs
from warp_train.runtime.worker_process import JobError, worker_environment

_KERNELS: tuple[Interpolation, ...] = ("bilinear", "bicubic")
_PEERS = {
    "fixed": "fixed-point maps, made before",
    "float": "float32 maps, made before",
    "built": "float32 maps, made for the photo",
}
_MEMORY = {"ordinary": "ordinary process", "kept": "memory kept"}
_QUALITY = 95  # OpenCV's default; ours would be the photo's own
_PHOTOS_A_WORKER = 6
_MOST_WORKERS = 64


@dataclass(frozen=True)
class Seconds:
    """What a piece of work took."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Correction:
    """What OpenCV is to do to a photo."""

    photo: Path
    params: tuple[float, ...]
    zoom: float
    size: tuple[int, int]
    """(width, height)."""
    sampling: int
    """0: 4:4:4, 1: 4:2:2, 2: 4:2:0."""


def main(arguments: list[str] | None = None) -> int:
    """Measures, and prints the figures."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    if chosen.rounds < 1:
        parser.error("--rounds must be at least 1")
    if chosen.workers is not None and not 2 <= chosen.workers <= _MOST_WORKERS:
        parser.error(f"--workers must be from 2 to {_MOST_WORKERS}")
    try:
        with tempfile.TemporaryDirectory() as folder:
            _print_ratios(_compare(chosen.model, chosen.photos, chosen.rounds, Path(folder)))
            if chosen.workers:
                rate, cpu = _scale(chosen, Path(folder))
                print(
                    f"{chosen.workers} workers: {rate:.2f} x the photos per second of one, "
                    f"{cpu:.2f} x the CPU time a photo"
                )
    except WarpTrainError as error:
        say(f"error: {error}")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m warp_train.benchmark.rectify_speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="run folder, checkpoint folder or hub id")
    parser.add_argument("photos", metavar="PHOTO", type=Path, nargs="+", help="JPEG")
    parser.add_argument("--rounds", metavar="N", type=int, default=7, help="default: %(default)s")
    parser.add_argument(
        "--workers",
        metavar="N",
        type=int,
        help="compare N workers with one, too (default: do not)",
    )
    return parser


Timings = dict[tuple[str, ...], list[Seconds]]
"""By (kernel, "rectify") and (kernel, name in `_PEERS`, name in `_MEMORY`), in the same order."""


def _compare(model: str, photos: list[Path], rounds: int, folder: Path) -> Timings:
    timings: Timings = defaultdict(list)
    with _process() as ordinary, worker_environment(), _process() as kept, _process() as worker:
        for photo in photos:
            first = worker.submit(rectify_once, model, folder, "bilinear", photo).result()[1]
            asked = worker.submit(what_was_done, photo, first).result()
            for number in range(1 + rounds):
                for kernel in _KERNELS:
                    job = worker.submit(rectify_once, model, folder, kernel, photo)
                    took: dict[tuple[str, ...], Seconds] = {(kernel, "rectify"): job.result()[0]}
                    for method in _PEERS:
                        for memory, process in (("ordinary", ordinary), ("kept", kept)):
                            peer = process.submit(opencv_once, folder, kernel, method, asked)
                            took[kernel, method, memory] = peer.result()
                    if number:  # the first round is to warm up
                        for name, seconds in took.items():
                            timings[name].append(seconds)
    return timings


@contextlib.contextmanager
def _process() -> Iterator[ProcessPoolExecutor]:
    """A process, started at once."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        process.submit(os.getpid).result()
        yield process


def _print_ratios(timings: Timings) -> None:
    for kernel in _KERNELS:
        ours = timings[kernel, "rectify"]
        print(f"{kernel}\n  rectify {_milliseconds(ours)}")
        for method, title in _PEERS.items():
            for memory, where in _MEMORY.items():
                theirs = timings[kernel, method, memory]
                pairs = list(zip(ours, theirs, strict=True))
                wall = statistics.median(one.wall / other.wall for one, other in pairs)
                cpu = statistics.median(one.cpu / other.cpu for one, other in pairs)
                print(
                    f"  OpenCV  {_milliseconds(theirs)}; rectify is {wall:.2f} x that, {cpu:.2f} x "
                    f"its CPU time  ({title}; {where})"
                )


def _milliseconds(timings: list[Seconds]) -> str:
    wall = statistics.median(timing.wall for timing in timings)
    cpu = statistics.median(timing.cpu for timing in timings)
    return f"{1e3 * wall:5.0f} ms, {1e3 * cpu:5.0f} ms of CPU"


def _timed(work: Callable[[], Any]) -> tuple[Seconds, Any]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu), result


def rectify_once(
    model: str, folder: Path, kernel: Interpolation, photo: Path
) -> tuple[Seconds, dict[str, Any]]:
    """What `rectify` takes for a photo, and its record of it."""
    from warp_train.inference.rectify_inputs import Job

    work = _rectifier(model, folder, kernel)
    output = folder / f"rectified-{os.getpid()}.jpg"
    took, record = _timed(lambda: work(Job(photo, output)))
    if "error" in record:
        raise WarpTrainError(record["error"])
    return took, record


@functools.cache
def _rectifier(model: str, folder: Path, kernel: Interpolation) -> Callable[[Any], dict[str, Any]]:
    from warp_train.inference.rectify import load_rectifier
    from warp_train.inference.rectify_inputs import Settings

    settings = Settings(folder, interpolation=kernel, quality=_QUALITY, overwrite=True)
    return load_rectifier(model, "cpu", settings)


def what_was_done(photo: Path, record: dict[str, Any]) -> Correction:
    """`rectify`'s record of a photo as OpenCV's task; WarpTrainError where there is none."""
    from warp_train.photos.files import read_photo

    jpeg = read_photo(photo).jpeg
    if jpeg is None or not record["resampled"]:
        reason = "not a JPEG" if jpeg is None else "the model leaves it as it is"
        raise WarpTrainError(f"{photo}: {reason}: there is nothing to compare")
    size = (record["width"], record["height"])
    return Correction(photo, tuple(record["params"]), record["crop"]["zoom"], size, jpeg.sampling)


def opencv_once(folder: Path, kernel: Interpolation, method: str, asked: Correction) -> Seconds:
    """What OpenCV takes for a photo, as a short script would do it on one thread."""
    import cv2

    cv2.setNumThreads(1)
    reading = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}[kernel]
    sampling = {
        0: cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
        1: cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
        2: cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    }[asked.sampling]
    coding = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    output = folder / f"opencv-{os.getpid()}.jpg"
    made_before = None if method == "built" else _maps_kept(asked, method)

    def work() -> None:
        x, y = made_before or _maps(asked, method)
        pixels = cv2.imread(str(asked.photo))
        assert pixels is not None
        cv2.imwrite(str(output), cv2.remap(pixels, x, y, reading), coding)

    return _timed(work)[0]


def _maps(asked: Correction, method: str) -> Any:
    import cv2
    import numpy as np

    width, height = asked.size
    k1, k2, k3, p1, p2, dcx, dcy, s = asked.params
    half = float(np.hypot(width - 1, height - 1)) / 2
    x, y = (width - 1) / 2 + dcx * half, (height - 1) / 2 + dcy * half
    focal = half * s * asked.zoom
    # A zoom is about the frame's centre, not about that of the lens.
    zoomed = ((width - 1) / 2 + asked.zoom * dcx * half, (height - 1) / 2 + asked.zoom * dcy * half)
    camera = np.array([[half, 0, x], [0, half, y], [0, 0, 1]])
    corrected = np.array([[focal, 0, zoomed[0]], [0, focal, zoomed[1]], [0, 0, 1]])
    kind = cv2.CV_16SC2 if method == "fixed" else cv2.CV_32FC1
    terms = np.array([k1, k2, p1, p2, k3])
    return cv2.initUndistortRectifyMap(camera, terms, np.eye(3), corrected, asked.size, kind)


_maps_kept = functools.lru_cache(maxsize=2)(_maps)  # those of a photo: they need more room than it


def _scale(chosen: argparse.Namespace, folder: Path) -> tuple[float, float]:
    """What several workers do a second, and what a photo costs them, relative to one worker."""
    rates, costs = [], []
    for _ in range(chosen.rounds):
        (one, cost), (many, more) = (
            _rate(chosen.model, chosen.photos, workers, folder) for workers in (1, chosen.workers)
        )
        rates.append(many / one)
        costs.append(more / cost)
    return statistics.median(rates), statistics.median(costs)


def _rate(model: str, photos: list[Path], workers: int, folder: Path) -> tuple[float, float]:
    """Photos a second of some workers together, and CPU seconds a photo.

    The first photo of each worker warms it up.
    """
    jobs = [photos[number % len(photos)] for number in range(_PHOTOS_A_WORKER * workers)]
    ended: dict[int, list[float]] = defaultdict(list)
    cpu: list[float] = []
    for photo, result in run_jobs(jobs, functools.partial(_load, model, folder), workers):
        if isinstance(result, JobError):
            raise WarpTrainError(f"{photo}: the process that worked on it {result.how}")
        process, when, seconds = result
        if ended[process]:
            cpu.append(seconds)
        ended[process].append(when)
    spans = [(len(times) - 1, times[-1] - times[0]) for times in ended.values() if times[1:]]
    return sum(count / span for count, span in spans), statistics.median(cpu)


def _load(model: str, folder: Path) -> Callable[[Path], tuple[int, float, float]]:
    def work(photo: Path) -> tuple[int, float, float]:
        took, _ = rectify_once(model, folder, "bicubic", photo)
        return os.getpid(), time.monotonic(), took.cpu

    return work


if __name__ == "__main__":
    sys.exit(main())
