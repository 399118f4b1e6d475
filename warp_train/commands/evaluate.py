"""`evaluate`: a trained model measured on photo pairs that were not used for training."""

from __future__ import annotations

import argparse

from warp_train.commands.files import write_result
from warp_train.commands.workers import chosen_workers
from warp_train.evaluation.evaluate import evaluate, pairs_to_evaluate
from warp_train.evaluation.measuring import FailedPhoto, PhotoResult
from warp_train.evaluation.report.page import render_report
from warp_train.evaluation.results_table import evaluation_table
from warp_train.inference.straightener import Straightener
from warp_train.runtime.json_text import to_json
from warp_train.runtime.progress import Progress

_PHOTOS_PER_WORKER = 12
"""Starting a process takes about as long as measuring so many photos."""


def run(arguments: argparse.Namespace) -> int:
    """Prints the tables and writes the results; 1 if a pair could not be read."""
    pairs = pairs_to_evaluate(arguments.data, arguments.max_photos, "--data")
    straightener = Straightener.from_pretrained(arguments.model, arguments.device)
    workers = chosen_workers(
        arguments.worker_rule, arguments.workers, len(pairs), _PHOTOS_PER_WORKER
    )
    with Progress(len(pairs), "photo") as progress:

        def report(result: PhotoResult | FailedPhoto) -> None:
            if not isinstance(result, PhotoResult):
                progress.error(result["error"])
            progress.advance()

        found = evaluate(straightener, pairs, workers=workers, on_result=report)
    print(evaluation_table(found), flush=True)
    if arguments.json is not None:
        write_result("--json", arguments.json, to_json(found.to_json(), indent=2) + "\n")
    if arguments.report is not None:
        page = render_report(found, model=arguments.model, data=str(arguments.data))
        write_result("--report", arguments.report, page)
    return 1 if found.failed else 0
