"""`recover`: the lens between the two photos of every pair."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

from warp_train.commands.workers import chosen_workers
from warp_train.data.sources.manifest import find_pairs
from warp_train.registration.journal import resume
from warp_train.registration.pairs import PairJob, recover_pairs
from warp_train.runtime.console import say
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.journal import append_line, begin_journal
from warp_train.runtime.locks import held, lock_file
from warp_train.runtime.progress import Progress

_PAIRS_PER_WORKER = 32
"""A process takes about as long to start as so many pairs to recover."""


def run(arguments: argparse.Namespace) -> int:
    """Recovers the pairs that are not in the output file yet; 1 if one could not be read."""
    out: Path = arguments.out
    jobs = _jobs(arguments.pairs)
    try:
        with held(lock_file(out)):
            return _recover(jobs, out, arguments)
    except OSError as error:
        raise WarpTrainError(f"--out {out}: {error.strerror}") from error


def _recover(jobs: list[PairJob], out: Path, arguments: argparse.Namespace) -> int:
    """Continues the output file, which no other process writes. Raises OSError."""
    finished = resume(out)
    waiting = [job for job in jobs if job.image_id not in finished]
    if len(waiting) < len(jobs):
        say(f"{len(jobs) - len(waiting)} of {len(jobs)} pairs are in {out} already")
    workers = chosen_workers(
        arguments.worker_rule, arguments.workers, len(waiting), _PAIRS_PER_WORKER
    )
    begin_journal(out)
    return 1 if _run(waiting, workers, out) else 0


def _jobs(pairs: Path) -> list[PairJob]:
    """One job per pair. Raises WarpTrainError where two pairs have the same image id."""
    items = find_pairs(pairs, "PAIRS")
    twice = [name for name, count in Counter(i.image_id for i in items).items() if count > 1]
    if twice:
        raise WarpTrainError(f"{pairs}: two pairs have the image_id '{min(twice)}'")
    return [PairJob(item.image_id, item.input, item.target) for item in items]


def _run(jobs: list[PairJob], workers: int, journal: Path) -> int:
    """Recovers the pairs, prints a summary and returns the number that failed. Raises OSError."""
    done: Counter[str] = Counter()
    records = recover_pairs(jobs, min(workers, len(jobs)))
    progress = Progress(len(jobs), "pair")
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
        parts = [f"{count} {what}" for what, count in sorted(done.items())]
        rate = f"{progress.rate:.1f} pairs/s"
        say(f"{', '.join(parts)} ({rate})" if parts else "no pairs to recover")
    return done["failed"]


def _outcome(record: dict[str, Any]) -> str:
    if "error" in record:
        return "failed"
    return "recovered" if record["ok"] or "profile" in record else "too uncertain"
