"""`export`: the lenses of photos as numbers for other programs."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from warp_train.commands.files import write_result
from warp_train.data.decoding import BadSample
from warp_train.export.lenses import FoundLens, find_lens, lensfun_entry, opencv_row
from warp_train.inference.straightener import Straightener
from warp_train.photos.formats import HEIF_SUFFIXES, PHOTO_SUFFIXES, remedy, unread_line
from warp_train.runtime.console import say
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.progress import Progress


def run(arguments: argparse.Namespace) -> int:
    """Writes the lenses; 1 if a photo could not be read."""
    photos = _photos(arguments.photos)
    straightener = Straightener.from_pretrained(arguments.model, arguments.device)
    with Progress(len(photos), "photo") as progress:
        results = _lenses(straightener, photos, progress)
        if arguments.to == "opencv":
            return _write_opencv(results, arguments.out, progress)
        found = list(results)
    return _write_lensfun(found, arguments)


def _lenses(
    straightener: Straightener, photos: Sequence[Path], progress: Progress
) -> Iterator[FoundLens | BadSample]:
    """The lens of each photo, or the reason why it cannot be read, which is also printed."""
    for path in photos:
        try:
            found = find_lens(straightener, path)
        except BadSample as bad:
            progress.error(f"{bad.path}: {bad.reason}")
            yield bad
        else:
            yield found
        progress.advance()


def _write_opencv(
    results: Iterable[FoundLens | BadSample], out: Path | None, progress: Progress
) -> int:
    lines, failed = [], 0
    for result in results:
        if isinstance(result, FoundLens):
            row = opencv_row(result)
            if result.refused is not None:
                mode = result.look.chosen.mode
                progress.note(f"{result.path}: {mode} instead of {result.refused}")
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


def _write_lensfun(results: Sequence[FoundLens | BadSample], arguments: argparse.Namespace) -> int:
    found = [result for result in results if isinstance(result, FoundLens)]
    made = lensfun_entry(found, arguments.crop_factor, arguments.mount)
    for path, reason in made.left_out:
        say(" ".join(f"{path}: left out: {reason}".split()))
    if made.xml is None:
        raise WarpTrainError("no photo is left to make a lensfun entry from")
    if arguments.out is None:
        sys.stdout.write(made.xml)
        sys.stdout.flush()
    else:
        write_result("--out", arguments.out, made.xml)
    return 0 if len(found) == len(results) else 1


def _photos(named: Sequence[Path]) -> list[Path]:
    """The named files, and the photos in the named folders."""
    photos: list[Path] = []
    unread: Counter[str] = Counter()
    for path in named:
        if not path.is_dir():
            photos.append(path)
            continue
        try:
            files = [file for file in sorted(path.iterdir()) if not file.name.startswith(".")]
        except OSError as error:
            raise WarpTrainError(f"{path}: cannot be read ({error.strerror})") from error
        others = Counter(file.suffix.lower() for file in files if remedy(file.name))
        inside = [
            file
            for file in files
            if file.suffix.lower() in PHOTO_SUFFIXES + HEIF_SUFFIXES and not remedy(file.name)
        ]
        if not inside:
            reason = f" that can be read: {unread_line(others)}" if others else ""
            raise WarpTrainError(f"{path}: no photos in this folder{reason}")
        photos += inside
        unread += others
    if unread:
        say(unread_line(unread))
    return photos
