"""`export`: the lenses of photos as numbers for other programs."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from warp_train.commands.common import (
    add_command,
    add_device,
    add_model,
    check_writable,
    text,
    write_result,
)
from warp_train.runtime.console import say
from warp_train.runtime.errors import WarpTrainError

if TYPE_CHECKING:
    from warp_train.data.decoding import BadSample
    from warp_train.export.lenses import FoundLens

_HELP = """\
examples:
  warp-train export outputs/runs/night photo.jpg --to opencv
  warp-train export outputs/runs/night photos/ --to opencv --out lenses.jsonl
  warp-train export outputs/runs/night photos/ --to lensfun --out my_lens.xml
  warp-train export outputs/runs/night photos/*.jpg --to lensfun --crop-factor 1.53 --mount "Sony E"

opencv: one JSON object a line and photo, to pass on as
  cv2.undistort(photo, camera_matrix, dist_coeffs, None, new_camera_matrix)
with photos that are turned upright, as cv2.imread turns them.

lensfun: a database with an entry for each camera, lens and focal length in the photos' EXIF, fitted
to all photos of it; comments say how well they agree. Programs that use lensfun, as darktable,
RawTherapee and digiKam, read what is in ~/.local/share/lensfun/.
"""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declares `export`."""
    export = add_command(
        commands, "export", _export, "write photos' lenses as OpenCV's or lensfun's numbers", _HELP
    )
    add_model(export)
    export.add_argument(
        "photos", metavar="PHOTO", type=Path, nargs="+", help="photos, or folders of photos"
    )
    export.add_argument("--to", choices=("opencv", "lensfun"), required=True, help="the format")
    export.add_argument(
        "--out", metavar="FILE", type=Path, help="write to this file instead of standard output"
    )
    export.add_argument(
        "--crop-factor",
        metavar="X",
        type=_crop_factor,
        help="lensfun: the camera's crop factor (full frame is 1), instead of the EXIF's",
    )
    export.add_argument(
        "--mount",
        metavar="NAME",
        type=text,
        help="lensfun: its name of the camera's mount, as `Canon EF`; without it the entry goes "
        "with every camera of interchangeable lenses",
    )
    add_device(export)


def _crop_factor(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0.1 <= number <= 50:
        raise argparse.ArgumentTypeError(f"{value}: expected a number from 0.1 to 50")
    return number


def _export(arguments: argparse.Namespace) -> int:
    if arguments.to == "opencv":
        for option in ("crop_factor", "mount"):
            if getattr(arguments, option) is not None:
                arguments.parser.error(f"--{option.replace('_', '-')} goes with --to lensfun")
    check_writable("--out", arguments.out)
    results = _look(arguments.model, arguments.device, _photos(arguments.photos))
    if arguments.to == "opencv":
        return _write_opencv(results, arguments.out)
    return _write_lensfun(results, arguments)


def _look(model: str, device: str, photos: Sequence[Path]) -> Iterator[FoundLens | BadSample]:
    """The lens of each photo, or why there is none; tells the user of the latter."""
    from tqdm import tqdm

    from warp_train.data.decoding import BadSample
    from warp_train.export.lenses import find_lens
    from warp_train.inference.straightener import Straightener

    straightener = Straightener.from_pretrained(model, device)
    # disable=None: a bar on a terminal, nothing in a pipe
    for path in tqdm(photos, unit="photo", disable=None, dynamic_ncols=True):
        try:
            found = find_lens(straightener, path)
        except BadSample as bad:
            _say_of(bad.path, f"error: {bad.reason}")
            yield bad
        else:
            yield found


def _write_opencv(results: Iterable[FoundLens | BadSample], out: Path | None) -> int:
    from warp_train.export.lenses import FoundLens, opencv_row

    lines, failed = [], 0
    for result in results:
        if isinstance(result, FoundLens):
            row = opencv_row(result)
            if result.refused is not None:
                _say_of(result.path, f"{result.look.chosen.mode} instead of {result.refused}")
        else:
            row = {"input": str(result.path), "error": result.reason}
            failed += 1
        lines.append(json.dumps(row, allow_nan=False) + "\n")
        if out is None:
            sys.stdout.write(lines[-1])
            sys.stdout.flush()
    if out is not None:
        write_result("--out", out, "".join(lines))
    return 1 if failed else 0


def _write_lensfun(results: Iterable[FoundLens | BadSample], arguments: argparse.Namespace) -> int:
    from warp_train.export.lenses import FoundLens, lensfun_entry

    looked_at = list(results)
    found = [result for result in looked_at if isinstance(result, FoundLens)]
    made = lensfun_entry(found, arguments.crop_factor, arguments.mount)
    for path, reason in made.left_out:
        _say_of(path, f"left out: {reason}")
    if made.xml is None:
        raise WarpTrainError("no photo is left to make a lensfun entry from")
    if arguments.out is None:
        sys.stdout.write(made.xml)
        sys.stdout.flush()
    else:
        write_result("--out", arguments.out, made.xml)
    return 0 if len(found) == len(looked_at) else 1


def _photos(named: Sequence[Path]) -> list[Path]:
    """Files as they are, folders as the images in them."""
    from warp_train.data.decoding import IMAGE_SUFFIXES

    photos: list[Path] = []
    for path in named:
        try:
            inside = sorted(path.iterdir()) if path.is_dir() else [path]
        except OSError as error:
            raise WarpTrainError(f"{path}: cannot be read ({error.strerror})") from error
        if path.is_dir():
            inside = [file for file in inside if file.suffix.lower() in IMAGE_SUFFIXES]
            if not inside:
                raise WarpTrainError(f"{path}: no photos in this folder")
        photos += inside
    return photos


def _say_of(path: Path, line: str) -> None:
    from tqdm import tqdm

    with tqdm.external_write_mode():
        say(" ".join(f"{path}: {line}".split()))
