"""`export`: the lenses of photos as numbers for other programs."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from warp_train.commands.files import is_folder, write_result
from warp_train.data.decoding import BadSample
from warp_train.export.lcp import LensProfile
from warp_train.export.lenses import (
    FoundLens,
    camera_names,
    find_lens,
    lcp_profiles,
    lensfun_entry,
    opencv_row,
    shared_by_exif,
    shared_lenses,
)
from warp_train.export.photo_lens import LeftOut
from warp_train.inference.shoot_keys import Frame
from warp_train.inference.straightener import Straightener
from warp_train.photos.formats import HEIF_SUFFIXES, PHOTO_SUFFIXES, remedy, unread_line
from warp_train.runtime.console import say
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.progress import Progress


def run(arguments: argparse.Namespace) -> int:
    """Writes the lenses; 1 if a photo could not be read."""
    photos = _photos(arguments.photos)
    if arguments.to == "lcp":
        _check_one_lens(camera_names(photos, arguments.lens), arguments.out)
    straightener = Straightener.from_pretrained(arguments.model, arguments.device)
    groups = shared_by_exif(photos)
    looks = sum(map(len, groups))
    with Progress(looks + len(photos), "look" if looks else "photo") as progress:
        results = _lenses(straightener, photos, groups, progress)
        if arguments.to == "opencv":
            return _write_opencv(results, arguments.out, progress)
        found = list(results)
    return (_write_lcp if arguments.to == "lcp" else _write_lensfun)(found, arguments)


def _lenses(
    straightener: Straightener,
    photos: Sequence[Path],
    groups: Sequence[Sequence[Frame]],
    progress: Progress,
) -> Iterator[FoundLens | BadSample]:
    """The lens of each photo, or the reason why it cannot be read, which is also printed."""
    shared = shared_lenses(straightener, groups, progress.advance)
    for path in photos:
        try:
            found = find_lens(straightener, path, shared.get(path))
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
    _report(made.left_out)
    if made.xml is None:
        raise _nothing_left("lensfun entry", len(made.left_out), unread)
    _write(made.xml, arguments.out)
    for note in made.notes:
        say(note)
    in_lenses = f"{_count(made.photos, 'photo')} in {_count(made.lenses, 'lens', 'lenses')}"
    return _finish(in_lenses, len(made.left_out), unread)


def _write_lcp(results: Sequence[FoundLens | BadSample], arguments: argparse.Namespace) -> int:
    """One profile to a file or standard output, or all profiles to a folder."""
    found = [result for result in results if isinstance(result, FoundLens)]
    unread = len(results) - len(found)
    made = lcp_profiles(found, arguments.crop_factor, arguments.lens)
    _report(made.left_out)
    if not made.profiles:
        raise _nothing_left("lens profile", len(made.left_out), unread)
    _check_one_lens([profile.camera for profile in made.profiles], arguments.out)
    if arguments.out is not None and is_folder(arguments.out):
        _write_folder(made.profiles, arguments.out)
    else:
        _write(made.profiles[0].xml, arguments.out)
    photos = sum(profile.photos for profile in made.profiles)
    in_profiles = f"{_count(photos, 'photo')} in {_count(len(made.profiles), 'profile')}"
    return _finish(in_profiles, len(made.left_out), unread)


def _check_one_lens(cameras: Sequence[str], out: Path | None) -> None:
    """WarpTrainError if there are several cameras, lenses or frames, and no folder for them."""
    if len(cameras) > 1 and (out is None or not is_folder(out)):
        raise WarpTrainError(
            f"--out {out or 'is missing'}: a lens profile has one camera, lens and frame, but the "
            f"photos have {len(cameras)} ({', '.join(cameras)}): name a folder"
        )


def _write_folder(profiles: Sequence[LensProfile], folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise WarpTrainError(f"--out {folder}: {error.strerror}") from error
    for profile in profiles:
        path = folder / profile.name
        write_result("--out", path, profile.xml)
        say(f"{path}: {_count(profile.photos, 'photo')}")


def _write(content: str, out: Path | None) -> None:
    if out is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(content.encode())  # UTF-8 as it declares, in any locale
        sys.stdout.buffer.flush()
    else:
        write_result("--out", out, content)


def _report(left_out: Iterable[LeftOut]) -> None:
    for path, reason in left_out:
        say(" ".join(f"{path}: left out: {reason}".split()))


def _nothing_left(product: str, left_out: int, unread: int) -> WarpTrainError:
    return WarpTrainError(
        f"no photo is left to make a {product} from ({left_out} left out, {unread} not readable)"
    )


def _finish(made: str, left_out: int, unread: int) -> int:
    """The exit code, after a line with the counts."""
    say(f"{made}, {left_out} left out, {unread} not readable")
    return 0 if unread == 0 else 1


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


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
