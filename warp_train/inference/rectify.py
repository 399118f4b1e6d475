"""Corrects many photos in several processes, after a first look at those that share a lens."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from warp_train.inference.rectify_inputs import Job, Record, Settings, ShootLens, failure
from warp_train.inference.shoot_keys import Frame, Grouping, name_of, read_frame, shoots
from warp_train.runtime.atomic_files import incoming_path
from warp_train.runtime.worker_pool import run_jobs
from warp_train.runtime.worker_process import JobError

if TYPE_CHECKING:  # it imports torch
    from warp_train.inference.straightener import Straightener
    from warp_train.models.heads_parametric import Observation

Result = TypeVar("Result")

_NO_CAMERA = "its EXIF has no camera or no focal length; corrected by itself"


@dataclass(frozen=True)
class Plan:
    """What is done to the photos of a call."""

    jobs: tuple[Job, ...]
    shoots: tuple[tuple[str, tuple[int, ...]], ...]
    """Of each shoot its name, and the indices of its photos in `jobs`."""

    @property
    def looks(self) -> int:
        """Photos that are looked at before any is corrected."""
        return sum(len(indices) for _, indices in self.shoots)


def plan_shoots(jobs: Sequence[Job], grouping: Grouping) -> Plan:
    """Which photos share a lens; see `shoot_keys.shoots`. Reads their EXIF, not their pixels."""
    if grouping == "off" or len(jobs) < 2:
        return Plan(tuple(jobs), ())
    frames = [read_frame(job.input) for job in jobs]
    index = {job.input: number for number, job in enumerate(jobs)}
    groups: list[list[Frame]] = shoots([f for f in frames if f is not None], grouping)
    found = tuple((name_of(g, grouping), tuple(sorted(index[f.path] for f in g))) for g in groups)
    if grouping == "exif":
        jobs = [
            replace(job, warning=_NO_CAMERA) if frame is not None and frame.camera is None else job
            for job, frame in zip(jobs, frames, strict=True)
        ]
    return Plan(tuple(jobs), found)


def rectify(
    plan: Plan,
    model: str,
    settings: Settings,
    *,
    device: str = "auto",
    workers: int = 1,
    on_look: Callable[[], object] = lambda: None,
) -> Generator[Record, None, None]:
    """Corrects photos in `workers` processes and yields the record of each as it ends.

    A job without an output is measured only. `on_look` is called after each first look at a photo
    of a shoot. Raises WarpTrainError if the model cannot be loaded.
    """
    jobs = list(plan.jobs)
    if plan.shoots:
        looking = partial(_load, _look, model, device, settings)
        for index, lens in _shared_lenses(plan, looking, model, workers, on_look):
            jobs[index] = replace(jobs[index], shoot=lens)
    with contextlib.closing(
        run_jobs(jobs, partial(load_rectifier, model, device, settings), workers)
    ) as results:
        for job, result in results:
            if not isinstance(result, JobError):
                yield result
                continue
            if job.output is not None:
                with contextlib.suppress(OSError):
                    incoming_path(job.output, result.process).unlink(missing_ok=True)
            reason = f"the process that worked on it {result.how}"
            yield failure(job, f"{job.input}: {reason}")


def _shared_lenses(
    plan: Plan,
    looking: Callable[[], Callable[[Job], Observation | None]],
    model: str,
    workers: int,
    on_look: Callable[[], object],
) -> Iterable[tuple[int, ShootLens]]:
    """The lens of each photo that shares one."""
    from warp_train.inference.predictor import load_predictor
    from warp_train.inference.shoot import Shoot

    head = load_predictor(model, "cpu").head
    wanted = {plan.jobs[i]: (i, name) for name, indices in plan.shoots for i in indices}
    found = {name: Shoot(head) for name, _ in plan.shoots}
    with contextlib.closing(run_jobs(list(wanted), looking, workers)) as results:
        for job, seen in results:
            if seen is not None and not isinstance(seen, JobError):
                index, name = wanted[job]
                found[name].add(index, seen)
            on_look()
    for name, indices in plan.shoots:
        lens = found[name].solve()
        if lens is not None:
            shared = ShootLens(name, found[name].photos, lens)
            yield from ((index, shared) for index in indices)


def _look(job: Job, straightener: Straightener, settings: Settings) -> Observation | None:
    """What a photo shows of its lens; None if that does not count, or the photo cannot be read."""
    from warp_train.photos.corrected import panorama, why_corrected
    from warp_train.photos.files import read_photo
    from warp_train.photos.pixels import predictor_view

    try:
        photo = read_photo(job.input)
        if panorama(photo.metadata) is not None:
            return None
        if not settings.even_if_corrected and why_corrected(photo.metadata) is not None:
            return None
        return straightener.predictor.see(predictor_view(photo.pixels)).observation
    except Exception:  # reported when it is corrected
        return None


def load_rectifier(model: str, device: str, settings: Settings) -> Callable[[Job], Record]:
    """Loads the model in a worker process; returns the function that corrects one photo."""
    from warp_train.inference.rectify_photo import attempt

    return _load(attempt, model, device, settings)


def _load(
    work: Callable[[Job, Straightener, Settings], Result],
    model: str,
    device: str,
    settings: Settings,
) -> Callable[[Job], Result]:
    import cv2
    import torch
    from PIL import Image

    from warp_train.inference.straightener import Straightener

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    cv2.utils.logging.setLogLevel(0)  # a damaged file is reported once, by its name
    Image.MAX_IMAGE_PIXELS = None  # `read_photo` has a limit of its own
    straightener = Straightener.from_pretrained(model, device)
    return lambda job: work(job, straightener, settings)
