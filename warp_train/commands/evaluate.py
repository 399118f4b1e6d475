"""`evaluate`: a trained model measured on photo pairs that were not used for training."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from warp_train.commands.files import meeting_place, write_result
from warp_train.commands.workers import chosen_workers
from warp_train.data.sources.manifest import PairItem
from warp_train.evaluation.evaluate import measure_pairs, pairs_to_evaluate, summarised
from warp_train.evaluation.exchange import gathered, share_of
from warp_train.evaluation.measuring import FailedPhoto, PhotoResult
from warp_train.evaluation.report.page import render_report
from warp_train.evaluation.results_table import evaluation_table
from warp_train.inference.straightener import Straightener
from warp_train.runtime.json_text import to_json
from warp_train.runtime.progress import Progress
from warp_train.runtime.team import Team, together

_PHOTOS_PER_WORKER = 12
"""Starting a process takes about as long as measuring so many photos."""


def run(arguments: argparse.Namespace) -> int:
    """Prints the tables and writes the results; 1 if a pair could not be read.

    Each process of a launch measures its share, and rank 0 prints and writes.
    """
    beside = meeting_place("evaluate", arguments.json or arguments.report)
    with together(beside) as team:
        pairs = pairs_to_evaluate(arguments.data, arguments.max_photos, "--data")
        straightener = Straightener.from_pretrained(arguments.model, arguments.device)
        team.agree("pairs", [straightener.model_hash, *(pair.image_id for pair in pairs)])
        results = gathered(team, pairs, _measure(arguments, team, straightener, pairs))
        if results is None:
            return 0  # a launcher would end all processes where one of them has failed
        found = summarised(results, straightener.model_hash)
        print(evaluation_table(found), flush=True)
        if arguments.json is not None:
            write_result("--json", arguments.json, to_json(found.to_json(), indent=2) + "\n")
        if arguments.report is not None:
            page = render_report(found, model=arguments.model, data=str(arguments.data))
            write_result("--report", arguments.report, page)
    return 1 if found.failed else 0


def _measure(
    arguments: argparse.Namespace,
    team: Team,
    straightener: Straightener,
    pairs: Sequence[PairItem],
) -> list[PhotoResult | FailedPhoto]:
    """The results of this process's pairs."""
    mine = share_of(team, pairs)
    workers = chosen_workers(
        arguments.worker_rule, arguments.workers, len(mine), _PHOTOS_PER_WORKER
    )
    with Progress(len(mine), "photo", enabled=team.first) as progress:

        def report(result: PhotoResult | FailedPhoto) -> None:
            if not isinstance(result, PhotoResult):
                progress.error(result["error"])
            progress.advance()

        return measure_pairs(straightener, mine, workers=workers, on_result=report)
