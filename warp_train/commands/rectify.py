"""`rectify`: a trained model's corrections, over photos at full resolution."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from warp_train.commands.rectify_report import JOURNAL, RectifyReport
from warp_train.commands.workers import chosen_workers
from warp_train.inference.rectify import Plan, plan_shoots, rectify
from warp_train.inference.rectify_inputs import Plan as Jobs
from warp_train.inference.rectify_inputs import Settings, plan_jobs
from warp_train.photos.folders import skipped_line
from warp_train.photos.formats import unread_line
from warp_train.runtime.console import say
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.shared_journal import SharedJournal
from warp_train.runtime.team import Team, together


def run(arguments: argparse.Namespace) -> int:
    """Corrects the photos; 1 if one failed, 143 after SIGTERM.

    Each process of a launch corrects its share, and rank 0 puts the journal together.
    """
    out: Path = arguments.out
    try:
        out.mkdir(parents=True, exist_ok=True)
        with _sigterm_interrupts(), together(out / JOURNAL) as team:
            return _rectify(arguments, team)
    except _Terminated:
        return 143
    except OSError as error:
        raise WarpTrainError(f"--out {out}: {error.strerror}") from error


def _rectify(arguments: argparse.Namespace, team: Team) -> int:
    """The exit code. Raises OSError."""
    out: Path = arguments.out
    plan = plan_jobs(
        arguments.inputs,
        out,
        arguments.suffix,
        arguments.format,
        measure_only=arguments.params_only,
    )
    journal = SharedJournal(team, out / JOURNAL, "input")
    if team.first:
        journal.recollect()
    shoots = plan_shoots(plan.jobs, arguments.shoot)
    # No process writes results before all have read the folders.
    team.agree("photos", [str(job.input) for job in plan.jobs])
    journal.begin()
    if team.first:
        _announce(plan, shoots, arguments)
    refusals = plan.refusals if team.first else []
    report = RectifyReport(
        journal.path,
        len(plan.jobs) + len(plan.refusals),
        unread_line(plan.unread),
        looks=len(team.share(range(shoots.looks))),
        share=len(refusals) + len(team.share(plan.jobs)),
        talks=team.first,
    )
    try:
        for refusal in refusals:
            report.add({"input": str(refusal.input), "error": refusal.reason})
        _run(arguments, shoots, report, team)
        if team.finish() is None:
            return 0  # a launcher would end all processes where one of them has failed
        for rank, record in journal.collect([str(job.input) for job in plan.jobs]):
            if rank:
                report.count(record)
    finally:
        report.close()
    return 1 if report.failed else 0


def _announce(jobs: Jobs, plan: Plan, arguments: argparse.Namespace) -> None:
    """What is left out, and which photos share a lens."""
    if jobs.earlier:
        named = f"{jobs.earlier} files named *{arguments.suffix} in {arguments.out}"
        say(f"{named} are taken for earlier results")
    if jobs.skipped:
        say(skipped_line(jobs.skipped))
    for shoot in plan.shoots:
        if len(shoot.photos) > 1:
            say(f"one lens for {len(shoot.photos)} photos: {shoot.name}")


def _run(arguments: argparse.Namespace, plan: Plan, report: RectifyReport, team: Team) -> None:
    if not plan.jobs:
        return
    settings = Settings(
        arguments.out,
        crop=arguments.crop,
        interpolation=arguments.interpolation,
        format=arguments.format,
        quality=arguments.quality,
        overwrite=arguments.overwrite,
        keep_times=arguments.keep_times,
        even_if_corrected=arguments.even_if_corrected,
    )
    share = len(team.share(plan.jobs))
    records = rectify(
        plan,
        arguments.model,
        settings,
        device=arguments.device,
        workers=chosen_workers(arguments.worker_rule, arguments.workers, share),
        on_look=report.looked,
        team=team,
    )
    try:
        for record in records:
            report.add(record)
    finally:
        records.close()  # ends the workers, also after Ctrl-C


class _Terminated(BaseException):
    """SIGTERM."""


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """SIGTERM raises an exception, as Ctrl-C does: workers end and no file is left incomplete."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
