"""Corrects many photos in several processes, after a first look at those that share a lens."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from warp_train.inference.rectify_inputs import Job, Record, Settings, ShootLens, failure
from warp_train.inference.shoot_keys import (
    Frame,
    Grouping,
    by_zoom,
    focal_of,
    name_of,
    read_frame,
    shoots,
    zoom_of,
)
from warp_train.runtime.atomic_files import incoming_path
from warp_train.runtime.team import Team, alone
from warp_train.runtime.worker_pool import run_jobs
from warp_train.runtime.worker_process import JobError

if TYPE_CHECKING:  # it imports torch
    from warp_train.inference.by_value import Arrays
    from warp_train.inference.shoot import Shoot
    from warp_train.inference.straightener import Straightener

Result = TypeVar("Result")

_NO_CAMERA = "its EXIF has no camera or no focal length; corrected by itself"


@dataclass(frozen=True)
class PlannedShoot:
    """Photos that share a lens."""

    name: str
    photos: tuple[int, ...]
    """Their indices in `Plan.jobs`."""
    zoom: Hashable = None
    """The same for shoots through one zoom at different focal lengths; None: no other."""
    focal: float = 1.0
    """In mm."""


@dataclass(frozen=True)
class Plan:
    """What is done to the photos of a call."""

    jobs: tuple[Job, ...]
    shoots: tuple[PlannedShoot, ...]

    @property
    def looks(self) -> int:
        """Photos that are looked at before any is corrected."""
        return sum(len(shoot.photos) for shoot in self.shoots)


def plan_shoots(jobs: Sequence[Job], grouping: Grouping) -> Plan:
    """Which photos share a lens; see `shoot_keys.shoots`. Reads their EXIF, not their pixels."""
    if grouping == "off" or len(jobs) < 2:
        return Plan(tuple(jobs), ())
    frames = [read_frame(job.input) for job in jobs]
    index = {job.input: number for number, job in enumerate(jobs)}
    groups: list[list[Frame]] = shoots([f for f in frames if f is not None], grouping)
    found = tuple(_planned(group, grouping, index) for group in groups)
    if grouping == "exif":
        jobs = [
            replace(job, warning=_NO_CAMERA) if frame is not None and frame.camera is None else job
            for job, frame in zip(jobs, frames, strict=True)
        ]
    return Plan(tuple(jobs), found)


def _planned(group: list[Frame], grouping: Grouping, index: Mapping[Path, int]) -> PlannedShoot:
    return PlannedShoot(
        name_of(group, grouping),
        tuple(sorted(index[frame.path] for frame in group)),
        zoom_of(group, grouping),
        focal_of(group),
    )


def rectify(
    plan: Plan,
    model: str,
    settings: Settings,
    *,
    device: str = "auto",
    workers: int = 1,
    on_look: Callable[[], object] = lambda: None,
    team: Team | None = None,
) -> Generator[Record, None, None]:
    """Corrects photos in `workers` processes and yields the record of each as it ends.

    A job without an output is measured only. `on_look` is called after each first look at a photo
    of a shoot. Of a team, each process corrects its share of the photos.

    Raises:
        WarpTrainError: the model cannot be loaded, or another process of the team has failed.
        OSError: the team's files cannot be written.
    """
    jobs, team = list(plan.jobs), team or alone()
    if plan.shoots:
        looking = partial(_load, _look, model, device, settings)
        for index, lens in _shared_lenses(plan, looking, model, workers, on_look, team):
            jobs[index] = replace(jobs[index], shoot=lens)
    with contextlib.closing(
        run_jobs(team.share(jobs), partial(load_rectifier, model, device, settings), workers)
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
    looking: Callable[[], Callable[[Job], Arrays | None]],
    model: str,
    workers: int,
    on_look: Callable[[], object],
    team: Team,
) -> Iterator[tuple[int, ShootLens]]:
    """The lens of each photo that shares one. What was seen of a zoom is freed with its lenses."""
    from warp_train.inference.by_value import unpacked
    from warp_train.inference.predictor import load_predictor
    from warp_train.inference.shoot import Shoot
    from warp_train.inference.shoot_exchange import everyones, pooled

    head = load_predictor(model, "cpu").head
    zooms = by_zoom(plan.shoots, lambda shoot: shoot.zoom)
    found = [[Shoot(head) for _ in zoom] for zoom in zooms]
    left = [sum(len(shoot.photos) for shoot in zoom) for zoom in zooms]
    place = {
        plan.jobs[index]: (z, s)
        for z, zoom in enumerate(zooms)
        for s, shoot in enumerate(zoom)
        for index in shoot.photos
    }
    with contextlib.closing(run_jobs(team.share(list(place)), looking, workers)) as results:
        for job, seen in results:
            z, s = place[job]
            if seen is not None and not isinstance(seen, JobError):
                found[z][s].add(unpacked(seen))
            on_look()
            left[z] -= 1
            if team.alone and not left[z]:
                yield from _each_photo(_solved(zooms[z], found[z]))
                found[z].clear()
    if not team.alone:
        pool = pooled(team, head, found)
        own = [lens for z, seen in pool.items() for lens in _solved(zooms[z], seen)]
        yield from _each_photo(everyones(team, plan.shoots, own))


def _each_photo(
    lenses: Iterable[tuple[PlannedShoot, ShootLens]],
) -> Iterator[tuple[int, ShootLens]]:
    return ((index, lens) for shoot, lens in lenses for index in shoot.photos)


def _solved(
    zoom: Sequence[PlannedShoot], found: Sequence[Shoot]
) -> Iterator[tuple[PlannedShoot, ShootLens]]:
    """The lens of each shoot through one zoom, if it has one."""
    from warp_train.inference.zooms import zoom_lenses

    lenses = zoom_lenses(found, [shoot.focal for shoot in zoom])
    for planned, seen, lens in zip(zoom, found, lenses, strict=True):
        if lens is not None:
            yield planned, ShootLens(planned.name, seen.photos, lens.packed())


def _look(job: Job, straightener: Straightener, settings: Settings) -> Arrays | None:
    """What a photo shows of its lens, packed; None if that does not count, or it cannot be read."""
    from warp_train.inference.by_value import packed
    from warp_train.photos.corrected import panorama, why_corrected
    from warp_train.photos.files import read_photo
    from warp_train.photos.pixels import predictor_view

    try:
        photo = read_photo(job.input)
        if panorama(photo.metadata) is not None:
            return None
        if not settings.even_if_corrected and why_corrected(photo.metadata) is not None:
            return None
        return packed(straightener.predictor.see(predictor_view(photo.pixels)).observation)
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
