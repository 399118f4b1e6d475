"""`rectify`: a trained model's corrections, over photos at full resolution."""

from __future__ import annotations

import argparse
import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from warp_train.commands.common import add_command, add_device, add_model, text, whole_number
from warp_train.runtime.console import say
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.progress import Progress

if TYPE_CHECKING:
    from warp_train.inference.rectify_inputs import Job

_HELP = """\
examples:
  warp-train rectify outputs/runs/quickstart photos/ --out corrected
  warp-train rectify outputs/runs/quickstart a.jpg b.tif 'shoot/**/*.png' --out corrected
  warp-train rectify some/checkpoint photos/ --out corrected --crop max --interpolation lanczos
  warp-train rectify some/checkpoint raw.tif --out web --format jpeg --quality 90 --suffix _web
  warp-train rectify some/checkpoint photos/ --out numbers --params-only

Folders are searched in depth, and their tree is kept below DIR. A photo that is there already is
never replaced without --overwrite. DIR/rectify.jsonl gets a line for each photo: the lens, how far
it was trusted and why, or the error. EXIF, colour profile, XMP and depth are kept; where a format
cannot hold one of them, the photo's line says so under "warnings".

crop:
  fill  zoom in about the centre just as far as leaves nothing blank; the size stays
  none  the lens as it is; what lies outside the photo is transparent, or black
  max   the largest rectangle without anything blank, not zoomed
"""
_JOURNAL_FILE = "rectify.jsonl"
_MOST_DEFAULT_WORKERS = 4


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declares `rectify`."""
    parser = add_command(commands, "rectify", _rectify, "correct photos at full resolution", _HELP)
    add_model(parser)
    parser.add_argument(
        "inputs", metavar="INPUT", type=text, nargs="+", help="photo, folder or quoted pattern"
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="folder to write to; made if need be"
    )
    _add_picture_options(parser)
    parser.add_argument(
        "--overwrite", action="store_true", help="replace files that are there (default: report)"
    )
    parser.add_argument(
        "--params-only", action="store_true", help="write the lines alone, no pictures"
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=whole_number(1, 64),
        default=min(os.cpu_count() or 1, _MOST_DEFAULT_WORKERS),
        help="processes, of one thread each (default: one a core, at most 4; here %(default)s)",
    )
    add_device(parser)


def _add_picture_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--crop",
        choices=("fill", "none", "max"),
        default="fill",
        help="what to do where the photo has nothing to show (default: %(default)s)",
    )
    parser.add_argument(
        "--interpolation",
        choices=("bilinear", "bicubic", "lanczos"),
        default="bicubic",
        help="how pixels are read (default: %(default)s)",
    )
    parser.add_argument(
        "--format",
        choices=("jpeg", "png", "tiff", "webp"),
        help="format of the outputs (default: that of each input)",
    )
    parser.add_argument(
        "--quality",
        metavar="N",
        type=whole_number(1, 100),
        help="of JPEG and WebP, 1 to 100 (default: that of a JPEG, and 95 for what becomes one; a "
        "WebP is lossless where the input was, else 90)",
    )
    parser.add_argument(
        "--suffix",
        metavar="S",
        type=_name_part,
        default="_rectified",
        help="what is added to the names, may be '' (default: %(default)s)",
    )


def _rectify(arguments: argparse.Namespace) -> int:
    if arguments.quality is not None and arguments.format in ("png", "tiff"):
        arguments.parser.error(f"--quality says nothing about {arguments.format}")
    from warp_train.inference.rectify_inputs import plan_jobs
    from warp_train.runtime.journal import begin_journal

    out: Path = arguments.out
    plan = plan_jobs(
        arguments.inputs,
        out,
        arguments.suffix,
        arguments.format,
        measure_only=arguments.params_only,
    )
    if plan.earlier:
        say(f"{plan.earlier} files named *{arguments.suffix} in {out} are taken for results")
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
    from warp_train.inference.rectify import rectify
    from warp_train.inference.rectify_inputs import Settings

    settings = Settings(
        arguments.out,
        arguments.crop,
        arguments.interpolation,
        arguments.format,
        arguments.quality,
        arguments.overwrite,
    )
    records = rectify(
        jobs, arguments.model, settings, device=arguments.device, workers=arguments.workers
    )
    try:
        for record in records:
            report.add(record)
    finally:
        records.close()  # ends the workers, also where Ctrl-C is why we are here


class _Report:
    """What is said while photos come in: their lines, errors, progress, and the sum of it all."""

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
        """One photo has ended."""
        from warp_train.runtime.journal import append_line

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
        """The last line, whatever happened."""
        self._progress.close()
        parts = [f"{count} {what}" for what, count in sorted(self._done.items())]
        modes = ", ".join(f"{mode} {count}" for mode, count in sorted(self._modes.items()))
        missed = self._total - self._done.total()
        if missed > 0:
            parts.append(f"{missed} not begun or left")
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
    """SIGTERM raises, as Ctrl-C does: workers are ended and nothing is left half written."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _name_part(value: str) -> str:
    if any(part in value for part in ("/", os.sep, "\0")):
        raise argparse.ArgumentTypeError(f"must be part of a file's name, got '{value}'")
    return value
