"""`recover`: the lens between the two photos of every pair."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warp_train.commands.common import add_command, add_workers, check_writable, chosen_workers
from warp_train.runtime.console import say
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.progress import Progress

if TYPE_CHECKING:
    from warp_train.registration.pairs import PairJob

_HELP = """\
examples:
  warp-train recover photos/train --out warps.jsonl
  warp-train recover photos/manifest.csv --out warps.jsonl --workers 8
  warp-train train recipes/quickstart.yaml data.source=pairs data.root=photos/train \\
      data.warps=warps.jsonl

Each pair's photos are registered: its line in FILE holds the eight lens parameters, "error_px", an
estimate of their mean error in px of the pair, and "ok", whether that is small enough to learn from
(0.14 px of a photo 480 px long, of a longer one in proportion). Lens columns of a manifest are not
looked at.

Where eight parameters leave more over than registration is unsure of, and the whole warp is sure,
the line holds also "profile" (33 numbers) and "profile_error_px", an estimate of the mean error of
lens and profile together. A corrected position at distance r from the lens's centre is then read
farther out, by "profile" at r, than the lens says: all in half diagonals, for r = 0, 1/32, ... 1,
and linear between. data.warps uses lens and profile; where there is none, the lens if it is "ok".

Started again, the command goes on where it was: pairs that have a line are left alone, except those
that failed. The exit code is 1 if a pair could not be read; its line says why, under "error".
"""
_PAIRS_PER_WORKER = 32
"""A process takes about as long to start as so many pairs to recover."""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declares `recover`."""
    parser = add_command(commands, "recover", _recover, "find the lens of every photo pair", _HELP)
    parser.add_argument(
        "pairs",
        metavar="PAIRS",
        type=Path,
        help="folder of *_original.* with *_generated.* photos, or a manifest (.csv, .jsonl)",
    )
    parser.add_argument(
        "--out", metavar="FILE", type=Path, required=True, help="file of lines to write or go on"
    )
    add_workers(parser)


def _recover(arguments: argparse.Namespace) -> int:
    from warp_train.registration.journal import resume
    from warp_train.runtime.journal import begin_journal

    out: Path = arguments.out
    check_writable("--out", out)
    jobs = _jobs(arguments.pairs)
    finished = resume(out)
    waiting = [job for job in jobs if job.image_id not in finished]
    if len(waiting) < len(jobs):
        say(f"{len(jobs) - len(waiting)} of {len(jobs)} pairs are in {out} already")
    workers = chosen_workers(arguments.workers, len(waiting), _PAIRS_PER_WORKER)
    try:
        begin_journal(out)
        return 1 if _run(waiting, workers, out) else 0
    except OSError as error:
        raise WarpTrainError(f"--out {out}: {error.strerror}") from error


def _jobs(pairs: Path) -> list[PairJob]:
    """Raises WarpTrainError where two pairs have one id: their lines could not be told apart."""
    from warp_train.data.sources.manifest import find_pairs
    from warp_train.registration.pairs import PairJob

    items = find_pairs(pairs, "PAIRS")
    twice = [name for name, count in Counter(i.image_id for i in items).items() if count > 1]
    if twice:
        raise WarpTrainError(f"{pairs}: two pairs have the image_id '{min(twice)}'")
    return [PairJob(item.image_id, item.input, item.target) for item in items]


def _run(jobs: list[PairJob], workers: int, journal: Path) -> int:
    """Recovers the pairs and says what came of them; returns how many failed. Raises OSError."""
    from warp_train.registration.pairs import recover_pairs
    from warp_train.runtime.journal import append_line

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
        records.close()  # ends the workers, also where Ctrl-C is why we are here
        progress.close()
        parts = [f"{count} {what}" for what, count in sorted(done.items())]
        rate = f"{progress.rate:.1f} pairs/s"
        say(f"{', '.join(parts)} ({rate})" if parts else "no pairs to recover")
    return done["failed"]


def _outcome(record: dict[str, Any]) -> str:
    if "error" in record:
        return "failed"
    return "recovered" if record["ok"] or "profile" in record else "too uncertain"
