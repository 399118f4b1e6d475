"""`rectify`: a trained model's corrections, over photos at full resolution."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from warp_train.commands.rectify_report import RectifyReport
from warp_train.commands.workers import chosen_workers
from warp_train.inference.rectify import Plan, plan_shoots, rectify
from warp_train.inference.rectify_inputs import Settings, plan_jobs
from warp_train.photos.folders import skipped_line
from warp_train.photos.formats import unread_line
from warp_train.runtime.console import say
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.journal import begin_journal

_JOURNAL_FILE = "rectify.jsonl"


def run(arguments: argparse.Namespace) -> int:
    """Corrects the photos; 1 if one failed, 143 after SIGTERM."""
    out: Path = arguments.out
    plan = plan_jobs(
        arguments.inputs,
        out,
        arguments.suffix,
        arguments.format,
        measure_only=arguments.params_only,
    )
    if plan.earlier:
        say(
            f"{plan.earlier} files named *{arguments.suffix} in {out} are taken for earlier results"
        )
    if plan.skipped:
        say(skipped_line(plan.skipped))
    try:
        out.mkdir(parents=True, exist_ok=True)
        begin_journal(out / _JOURNAL_FILE)
    except OSError as error:
        raise WarpTrainError(f"--out {out}: {error.strerror}") from error
    shoots = plan_shoots(plan.jobs, arguments.shoot)
    for shoot in shoots.shoots:
        if len(shoot.photos) > 1:
            say(f"one lens for {len(shoot.photos)} photos: {shoot.name}")
    report = RectifyReport(
        out / _JOURNAL_FILE,
        len(plan.jobs) + len(plan.refusals),
        unread_line(plan.unread),
        looks=shoots.looks,
    )
    with _sigterm_interrupts():
        try:
            for refusal in plan.refusals:
                report.add({"input": str(refusal.input), "error": refusal.reason})
            _run(arguments, shoots, report)
        except _Terminated:
            return 143
        finally:
            report.close()
    return 1 if report.failed else 0


def _run(arguments: argparse.Namespace, plan: Plan, report: RectifyReport) -> None:
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
    workers = chosen_workers(arguments.worker_rule, arguments.workers, len(plan.jobs))
    records = rectify(
        plan,
        arguments.model,
        settings,
        device=arguments.device,
        workers=workers,
        on_look=report.looked,
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
