"""`score`: the proxy score of any two folders."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from warp_train.commands.common import (
    add_command,
    check_writable,
    chosen_workers,
    whole_number,
    write_result,
)
from warp_train.runtime.console import say

if TYPE_CHECKING:
    from warp_train.metrics import Score

_PAIRS_PER_WORKER = 16
"""A process takes about as long to start as so many pairs to score."""
_HELP = """\
Images belong together if they have the same path below their folder, whatever their suffix, or else
the same image id: x, x_original and x_original_rectified are all predictions of x or x_generated.

The exit code is 1 if an image is missing on one side, cannot be read or has another size; all the
others are scored nevertheless. One of another size scores 0, and counts.

examples:
  warp-train score corrected/ photos/val/
  warp-train score corrected/ photos/val/ --json scores.json --workers 8
  warp-train score corrected/house1_g3.jpg photos/val/house1_g3_generated.jpg
"""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declares `score`."""
    score = add_command(
        commands, "score", _score, "score predicted images against the ground truth", _HELP
    )
    score.add_argument(
        "pred", metavar="PRED_DIR", type=Path, help="folder of predicted images, or one image"
    )
    score.add_argument(
        "gt", metavar="GT_DIR", type=Path, help="folder of images as they should be, or one image"
    )
    score.add_argument(
        "--json", metavar="FILE", type=Path, help="write the scores of every image to this file"
    )
    score.add_argument(
        "--workers",
        metavar="N",
        type=whole_number(0),
        help="processes that score; 0: this one alone (default: one a core, as far as it pays)",
    )


def score_files(pred: Path, gt: Path) -> Score | str:
    """The scores of two image files, or why one of them cannot be read."""
    from warp_train.data.decoding import BadSample, decode_image
    from warp_train.metrics import compute_proxy_score

    try:
        return compute_proxy_score(decode_image(pred).pixels, decode_image(gt).pixels)
    except BadSample as error:
        return str(error)


def _score(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from warp_train.data.decoding import IMAGE_SUFFIXES
    from warp_train.data.splits import id_of
    from warp_train.metrics.checks import SIZE_MISMATCH
    from warp_train.metrics.folders import build_report, format_report, pair_files, score_pairs
    from warp_train.runtime.json_text import to_json

    check_writable("--json", arguments.json)
    pairs, problems = pair_files(arguments.pred, arguments.gt, IMAGE_SUFFIXES, id_of)
    workers = chosen_workers(arguments.workers, len(pairs), _PAIRS_PER_WORKER)
    outcomes = tqdm(
        score_pairs(pairs, score_files, workers),
        total=len(pairs),
        unit="image",
        disable=not sys.stderr.isatty(),
    )
    scored = []
    for pair, outcome in outcomes:
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
