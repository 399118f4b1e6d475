"""`straightness`: a trained model measured on photos of a chessboard."""

from __future__ import annotations

import argparse

from warp_train.commands.files import write_result
from warp_train.data.decoding import BadSample
from warp_train.data.sources.files import list_images
from warp_train.evaluation.boards_table import boards_json, straightness_table
from warp_train.evaluation.straightness import Boards
from warp_train.inference.straightener import Straightener
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.json_text import to_json
from warp_train.runtime.progress import Progress


def run(arguments: argparse.Namespace) -> int:
    """Prints the table; 1 if a photo could not be read."""
    paths = list_images(arguments.photos, "DIR")
    straightener = Straightener.from_pretrained(arguments.model, arguments.device)
    progress = Progress(len(paths), "photo")
    found, broken = Boards(straightener, *arguments.corners), 0
    for path in paths:
        try:
            if not found.add(path):
                corners = "x".join(map(str, arguments.corners))
                progress.note(f"{path}: no board of {corners} corners found")
        except BadSample as bad:
            broken += 1
            progress.error(str(bad))
        progress.advance()
    progress.close()
    boards = found.measured()
    if not boards:
        raise WarpTrainError(f"{arguments.photos}: no board was found in {len(paths)} photos")
    print(straightness_table(boards, len(paths)), flush=True)
    if arguments.json is not None:
        content = to_json(boards_json(boards, straightener.model_hash), indent=2)
        write_result("--json", arguments.json, content + "\n")
    return 1 if broken else 0
