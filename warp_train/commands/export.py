"""`export`: the lenses of photos as numbers for other programs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from warp_train.commands.files import write_result
from warp_train.data.decoding import IMAGE_SUFFIXES, BadSample
from warp_train.export.lenses import FoundLens, find_lens, lensfun_entry, opencv_row
from warp_train.inference.straightener import Straightener
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
    unread = len(results) - len(found)
    made = lensfun_entry(found, arguments.crop_factor, arguments.mount, arguments.lens)
    for path, reason in made.left_out:
        say(" ".join(f"{path}: left out: {reason}".split()))
    if made.xml is None:
        raise WarpTrainError(
            "no photo is left to make a lensfun entry from "
            f"({len(made.left_out)} left out, {unread} not readable)"
        )
    if arguments.out is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(made.xml.encode())  # UTF-8 as it declares, in any locale
        sys.stdout.buffer.flush()
    else:
        write_result("--out", arguments.out, made.xml)
    for note in made.notes:
        say(note)
    say(
        f"{_count(made.photos, 'photo')} in {_count(made.lenses, 'lens', 'lenses')}, "
        f"{len(made.left_out)} left out, {unread} not readable"
    )
    return 0 if unread == 0 else 1


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _photos(named: Sequence[Path]) -> list[Path]:
    """The named files, and the images in the named folders."""
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
