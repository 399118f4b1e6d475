"""`evaluate`: what a trained model is worth on photo pairs that it has not seen."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from warp_train.commands.common import (
    add_command,
    add_device,
    add_model,
    check_writable,
    whole_number,
    write_result,
)
from warp_train.runtime.console import say

_HELP = """\
examples:
  warp-train evaluate outputs/runs/quickstart --data photos/val
  warp-train evaluate outputs/runs/quickstart --data photos/val --max-photos 20
  warp-train evaluate some/checkpoint --data photos/manifest.csv --json scores.json
  warp-train evaluate some/checkpoint --data photos/manifest.csv --report report.html

Every photo is corrected at its own resolution, bilinearly, and compared with its target:
  identity    the photo as it is
  fixed warp  one lens for every photo: the median of those that the model was trained on
  model       its warp, or the tamer one that it falls back to where that is not safe
  ceiling     the exact warp, where the manifest knows it
Gap closed is (model - identity) / (ceiling - identity), with a 95 % bootstrap interval over groups.
"""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declares `evaluate`."""
    parser = add_command(
        commands,
        "evaluate",
        _evaluate,
        "measure a model on photo pairs: proxy score, end-point error, fold-overs",
        _HELP,
    )
    add_model(parser)
    parser.add_argument(
        "--data",
        metavar="DIR|MANIFEST",
        type=Path,
        required=True,
        help="folder of *_original.* with *_generated.*, or a manifest (.csv, .jsonl); where a "
        "manifest marks pairs `val`, those alone",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all figures to FILE")
    parser.add_argument(
        "--report", metavar="FILE.html", type=Path, help="write a page to look at to FILE.html"
    )
    parser.add_argument(
        "--max-photos", metavar="N", type=whole_number(1), help="N photos, spread over all of them"
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=whole_number(0),
        help="processes that measure; 0: this one (default: one a core, if there is enough to do)",
    )
    add_device(parser)


def _evaluate(arguments: argparse.Namespace) -> int:
    check_writable("--json", arguments.json)
    check_writable("--report", arguments.report)
    # Before torch loads its OpenMP runtime, whose threads would spin on the workers' cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from tqdm import tqdm

    from warp_train.evaluation.evaluate import evaluate, pairs_to_evaluate
    from warp_train.evaluation.measuring import FailedPhoto, PhotoResult
    from warp_train.evaluation.results_table import evaluation_table
    from warp_train.inference.straightener import Straightener

    pairs = pairs_to_evaluate(arguments.data, arguments.max_photos)
    straightener = Straightener.from_pretrained(arguments.model, arguments.device)
    # disable=None: a bar on a terminal, nothing in a pipe
    with tqdm(total=len(pairs), unit="photo", disable=None, dynamic_ncols=True) as bar:

        def seen(result: PhotoResult | FailedPhoto) -> None:
            bar.update()
            if not isinstance(result, PhotoResult):
                with tqdm.external_write_mode():
                    say(f"error: {' '.join(result['error'].split())}")

        found = evaluate(straightener, pairs, workers=arguments.workers, seen=seen)
    print(evaluation_table(found), flush=True)
    if arguments.json is not None:
        from warp_train.runtime.json_text import to_json

        write_result("--json", arguments.json, to_json(found.to_json(), indent=2) + "\n")
    if arguments.report is not None:
        from warp_train.evaluation.report.page import render_report

        page = render_report(found, model=arguments.model, data=str(arguments.data))
        write_result("--report", arguments.report, page)
    return 1 if found.failed else 0
