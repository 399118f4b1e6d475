"""`rectify`: a trained model's corrections, over photos at full resolution."""

from __future__ import annotations

import argparse
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from warp_train.commands.workers import chosen_workers
from warp_train.inference.rectify import rectify
from warp_train.inference.rectify_inputs import Job, Settings, plan_jobs
from warp_train.runtime.console import say
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.journal import append_line, begin_journal
from warp_train.runtime.progress import Progress

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
    try:
        out.mkdir(parents=True, exist_ok=True)
        begin_journal(out / _JOURNAL_FILE)
    except OSError as error:
        raise WarpTrainError(f"--out {out}: {error.strerror}") from error
    report = _Report(out / _JOURNAL_FILE, len(plan.jobs) + len(plan.refusals))
    with _sigterm_interrupts():
        try:
            for refusal in plan.refusals:
                report.add({"input": str(refusal.input), "error": refusal.reason})
            _run(arguments, plan.jobs, report)
        except _Terminated:
            return 143
        finally:
            report.close()
    return 1 if report.failed else 0


def _run(arguments: argparse.Namespace, jobs: list[Job], report: _Report) -> None:
    if not jobs:
        return
    settings = Settings(
        arguments.out,
        arguments.crop,
        arguments.interpolation,
        arguments.format,
        arguments.quality,
        arguments.overwrite,
    )
    workers = chosen_workers(arguments.worker_rule, arguments.workers, len(jobs))
    records = rectify(jobs, arguments.model, settings, device=arguments.device, workers=workers)
    try:
        for record in records:
            report.add(record)
    finally:
        records.close()  # ends the workers, also after Ctrl-C


class _Report:
    """Reports photos as they finish: journal lines, errors, progress and a summary."""

    def __init__(self, journal: Path, total: int) -> None:
        self._journal, self._total = journal, total
        self._lost_lines = 0
        self._done: Counter[str] = Counter()
        self._modes: Counter[str] = Counter()
        self._progress = Progress(total, "photo")

    @property
    def failed(self) -> bool:
        return bool(self._done["failed"] or self._lost_lines)

    def add(self, record: dict[str, Any]) -> None:
        """Reports one finished photo."""
        try:
            append_line(self._journal, record)
        except OSError as error:
            if not self._lost_lines:
                self._progress.error(f"rectify.jsonl cannot be written ({error.strerror})")
            self._lost_lines += 1
        if "error" in record:
            self._done["failed"] += 1
            self._progress.error(record["error"])
        else:
            self._done[_outcome(record)] += 1
            self._modes[record["mode_used"]] += 1
        self._progress.advance()

    def close(self) -> None:
        """Prints the summary, also after an error."""
        self._progress.close()
        parts = [f"{count} {what}" for what, count in sorted(self._done.items())]
        modes = ", ".join(f"{mode} {count}" for mode, count in sorted(self._modes.items()))
        missed = self._total - self._done.total()
        if missed > 0:
            parts.append(f"{missed} not corrected")
        if self._lost_lines:
            parts.append(f"{self._lost_lines} lines of rectify.jsonl lost")
        say(f"{', '.join(parts) or 'no photos'}" + (f" ({modes})" if modes else ""))


def _outcome(record: dict[str, Any]) -> str:
    if record["output"] is None:
        return "measured"
    return "corrected" if record["resampled"] else "unchanged"


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
