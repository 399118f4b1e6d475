"""`score`: the proxy score of any two folders."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path

from warp_train.commands.files import meeting_place, write_result
from warp_train.commands.workers import chosen_workers
from warp_train.data.decoding import IMAGE_SUFFIXES, BadSample, decode_image
from warp_train.data.splits import id_of
from warp_train.metrics import Score, compute_proxy_score
from warp_train.metrics.checks import SIZE_MISMATCH
from warp_train.metrics.folders import (
    Pair,
    build_report,
    format_report,
    pair_files,
    score_pairs,
)
from warp_train.runtime.console import say
from warp_train.runtime.json_text import to_json
from warp_train.runtime.progress import Progress
from warp_train.runtime.team import Team, together

_PAIRS_PER_WORKER = 16
"""Starting a process takes about as long as scoring so many pairs."""


def score_files(pred: Path, gt: Path) -> Score | str:
    """The scores of two image files, or the reason why one of them cannot be read."""
    try:
        return compute_proxy_score(decode_image(pred).pixels, decode_image(gt).pixels)
    except BadSample as error:
        return str(error)


def run(arguments: argparse.Namespace) -> int:
    """Prints the scores; 1 if an image is missing, cannot be read or has another size.

    Each process of a launch scores its share, and rank 0 prints.
    """
    with together(meeting_place("score", arguments.json)) as team:
        pairs, problems = pair_files(arguments.pred, arguments.gt, IMAGE_SUFFIXES, id_of)
        team.agree("images", [pair.image_id for pair in pairs])
        everyone = team.finish(_outcomes(arguments, team, pairs))
        if everyone is None:
            return 0  # a launcher would end all processes where one of them has failed
        scored = []
        for number, outcome in sorted(
            (one for found in everyone for one in found), key=itemgetter(0)
        ):
            pair = pairs[number]
            if isinstance(outcome, str):
                problems.append(outcome)
                continue
            scored.append((pair, outcome))
            problems += [
                f"{pair.pred}: {reason}"
                for reason in outcome["flags"]["reasons"]
                if reason.startswith(SIZE_MISMATCH)
            ]
        report = build_report(scored)
        print(format_report(report), flush=True)
        for problem in sorted(problems):
            say(f"error: {' '.join(problem.split())}")
        if arguments.json is not None:
            write_result("--json", arguments.json, to_json(report, indent=2) + "\n")
    return 1 if problems else 0


def _outcomes(
    arguments: argparse.Namespace, team: Team, pairs: Sequence[Pair]
) -> list[tuple[int, Score | str]]:
    """The scores of this process's pairs, or why they have none, each with its pair's number."""
    mine = team.share(pairs)
    workers = chosen_workers(arguments.worker_rule, arguments.workers, len(mine), _PAIRS_PER_WORKER)
    numbers = {pair: number for number, pair in enumerate(pairs)}
    outcomes = []
    with Progress(len(mine), "image", enabled=team.first) as progress:
        for pair, outcome in score_pairs(mine, score_files, workers):
            progress.advance()
            outcomes.append((numbers[pair], outcome))
    return outcomes
