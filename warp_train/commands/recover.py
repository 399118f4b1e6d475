"""`recover`: the lens between the two photos of every pair."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from warp_train.commands.workers import chosen_workers
from warp_train.data.sources.manifest import find_pairs
from warp_train.registration.journal import resume
from warp_train.registration.pairs import PairJob, recover_pairs
from warp_train.runtime.console import say
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.journal import append_line
from warp_train.runtime.locks import held, lock_file
from warp_train.runtime.progress import Progress
from warp_train.runtime.shared_journal import SharedJournal
from warp_train.runtime.team import Team, together

_PAIRS_PER_WORKER = 32
"""A process takes about as long to start as so many pairs to recover."""


def run(arguments: argparse.Namespace) -> int:
    """Recovers the pairs that are not in the output file yet; 1 if one could not be read.

    Each process of a launch recovers its share, and rank 0 writes the file.
    """
    with together(arguments.out) as team:
        try:
            with held(lock_file(arguments.out)) if team.first else nullcontext():
                return _recover(arguments, team)
        except OSError as error:
            raise WarpTrainError(f"--out {arguments.out}: {error.strerror}") from error


def _recover(arguments: argparse.Namespace, team: Team) -> int:
    """The exit code. Raises OSError."""
    out: Path = arguments.out
    jobs = _jobs(arguments.pairs)
    journal = SharedJournal(team, out, "image_id")
    if team.first:
        journal.recollect()
        resume(out)
    team.agree("pairs", [job.image_id for job in jobs])
    finished = resume(out)
    waiting = [job for job in jobs if job.image_id not in finished]
    if len(waiting) < len(jobs) and team.first:
        say(f"{len(jobs) - len(waiting)} of {len(jobs)} pairs are in {out} already")
    mine = team.share(waiting)
    workers = chosen_workers(arguments.worker_rule, arguments.workers, len(mine), _PAIRS_PER_WORKER)
    journal.begin()
    done: Counter[str] = Counter()
    progress, began = Progress(len(mine), "pair", enabled=team.first), time.monotonic()
    try:
        _run(mine, workers, journal.path, progress, done)
        everyone = team.finish(done)
        if everyone is None:
            return 0  # a launcher would end all processes where one of them has failed
        done = sum((Counter(counts) for counts in everyone), Counter())
        for _ in journal.collect([job.image_id for job in jobs]):
            pass
    finally:
        if team.first:
            parts = [f"{count} {what}" for what, count in sorted(done.items())]
            rate = f"{done.total() / max(time.monotonic() - began, 1e-9):.1f} pairs/s"
            say(f"{', '.join(parts)} ({rate})" if parts else "no pairs to recover")
    return 1 if done["failed"] else 0


def _jobs(pairs: Path) -> list[PairJob]:
    """One job per pair. Raises WarpTrainError where two pairs have the same image id."""
    items = find_pairs(pairs, "PAIRS")
    twice = [name for name, count in Counter(i.image_id for i in items).items() if count > 1]
    if twice:
        raise WarpTrainError(f"{pairs}: two pairs have the image_id '{min(twice)}'")
    return [PairJob(item.image_id, item.input, item.target) for item in items]


def _run(
    jobs: Sequence[PairJob], workers: int, journal: Path, progress: Progress, done: Counter[str]
) -> None:
    """Recovers the pairs, and counts the outcomes in `done`. Raises OSError."""
    records = recover_pairs(jobs, min(workers, len(jobs)))
    try:
        for record in records:
            append_line(journal, record)
            done[_outcome(record)] += 1
            if "error" in record:
                progress.error(record["error"])
            progress.advance()
    finally:
        records.close()  # ends the workers, also after Ctrl-C
        progress.close()


def _outcome(record: dict[str, Any]) -> str:
    if "error" in record:
        return "failed"
    return "recovered" if record["ok"] or "profile" in record else "too uncertain"
