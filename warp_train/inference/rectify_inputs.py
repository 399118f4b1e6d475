"""Turns inputs (files, folders, patterns) into jobs: a photo each, and the path of its result."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from warp_train.photos.folders import is_skipped_folder
from warp_train.photos.formats import (
    HEIF_SUFFIXES,
    PHOTO_SUFFIXES,
    SUFFIXES,
    Crop,
    Format,
    Interpolation,
    remedy,
    unread_line,
    written_format,
)

Record = dict[str, Any]
"""A line of `rectify.jsonl`: `input` and `error`, or the result of `rectify_photo`."""


@dataclass(frozen=True)
class ShootLens:
    """The lens that the photos of a shoot agree on."""

    name: str
    photos: int
    lens: tuple[Any, ...]
    """`CommonLens.packed`."""


@dataclass(frozen=True)
class Job:
    """One photo, and the path of its corrected photo; None if none is written."""

    input: Path
    output: Path | None = None
    shoot: ShootLens | None = None
    """None for a photo that is corrected by itself."""
    warning: str | None = None
    """Of the choice of its shoot."""


@dataclass(frozen=True)
class Settings:
    """The options of `rectify`, the same for every photo."""

    out: Path
    """The folder that contains the results; it must exist."""
    crop: Crop = "fill"
    interpolation: Interpolation = "bicubic"
    format: Format | None = None
    """None: that of the input."""
    quality: int | None = None
    """Of JPEG and WebP, 1..100; None: that of the input."""
    overwrite: bool = False
    keep_times: bool = False
    """A result gets the modification time of its input."""
    even_if_corrected: bool = False
    """Correct also photos whose metadata mark a lens correction that was applied already."""


def failure(job: Job, reason: str) -> Record:
    """The record of a photo that could not be corrected; the reason names the file."""
    return {"input": str(job.input), "error": reason}


@dataclass(frozen=True)
class Refusal:
    """An input that cannot be processed, and the reason, which names the file."""

    input: Path
    reason: str


@dataclass(frozen=True)
class Plan:
    """The photos to process, and the inputs that are refused or left out."""

    jobs: list[Job]
    refusals: list[Refusal]
    earlier: int
    """Number of files that are left out because their names are those of earlier results."""
    unread: Counter[str]
    """Number of picture files in folders and patterns that cannot be read, by suffix."""
    skipped: Counter[str]
    """Number of folders in folders and patterns that are not searched, by name."""


@dataclass
class _Found:
    """What one input contains."""

    photos: list[tuple[Path, Path]] = field(default_factory=list)
    """Each with its path relative to the folder that is searched."""
    refusals: list[Refusal] = field(default_factory=list)
    unread: set[str] = field(default_factory=set)
    """Absolute paths of pictures that cannot be read."""
    skipped: set[str] = field(default_factory=set)
    """Absolute paths of folders that are not searched."""


def plan_jobs(
    inputs: Sequence[str],
    out: Path,
    suffix: str,
    kind: Format | None = None,
    *,
    measure_only: bool = False,
) -> Plan:
    """The jobs for files, folders (with their subfolders, which are kept below `out`) and patterns.

    Hidden files, and the folder `out` inside a folder that is searched, are left out. A photo is
    refused if its result would have the path of another result, or of another input.

    Args:
        inputs: paths or glob patterns.
        out: folder of the results.
        suffix: added to the names of the results, before the file suffix.
        kind: format of the results; None keeps each photo's own.
        measure_only: plan no results, so that no photo is refused because of its result.
    """
    inside = [_search(text, out) for text in inputs]
    refusals = [refusal for found in inside for refusal in found.refusals]
    photos: dict[str, tuple[Path, Path]] = {}  # each once, even if it is given twice
    for path, place in (pair for found in inside for pair in found.photos):
        photos.setdefault(os.path.abspath(path), (path, place))  # noqa: PTH100
    fresh = [pair for pair in photos.values() if not _is_result(*pair, out, suffix)]
    if measure_only:
        jobs = [Job(path) for path, _ in fresh]
    else:
        pairs = [(path, _result(out / place, suffix, kind)) for path, place in fresh]
        jobs = _without_clashes(pairs, refusals)
    unread = {path for found in inside for path in found.unread} - photos.keys()
    skipped = {path for found in inside for path in found.skipped}
    return Plan(
        jobs,
        refusals,
        earlier=len(photos) - len(fresh),
        unread=_by_suffix(unread),
        skipped=Counter(Path(path).name for path in skipped),
    )


def _search(text: str, out: Path) -> _Found:
    """The photos of an input; one without photos is refused."""
    found = _Found()
    for path in _matches(text, found):
        found.photos += _photos(path, out, found)
    if not found.photos and not found.refusals:
        reason = "contains no photos" if os.path.lexists(text) else "no such file"
        if found.unread:
            reason = f"no photos that can be read: {unread_line(_by_suffix(found.unread))}"
        found.refusals.append(Refusal(Path(text), f"{text}: {reason}"))
    return found


def _by_suffix(paths: Iterable[str]) -> Counter[str]:
    return Counter(Path(path).suffix.lower() for path in paths)


def _matches(text: str, found: _Found) -> list[Path]:
    """The paths of an input: the path itself if it exists, else the matches of a glob pattern.

    Of the matches, only photos and folders are returned. The leading folders of a pattern are taken
    literally if they exist, and so is every bracket if there is no match otherwise.
    """
    if os.path.lexists(text):
        return [Path(text)]
    top = next((path for path in Path(text).parents if os.path.lexists(path)), Path())
    rest = str(Path(text).relative_to(top)) + (os.sep if text.endswith(os.sep) else "")
    start = "" if top == Path() else os.path.join(glob.escape(str(top)), "")  # noqa: PTH118
    matches = _glob(start + rest) or _glob(start + rest.replace("[", "[[]"))
    return [
        path
        for path in matches
        if _is_searched(path, path.relative_to(top), found)
        and (_is_folder(path) or _is_photo(path, found))
    ]


def _glob(pattern: str) -> list[Path]:
    return [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207


def _photos(folder: Path, out: Path, found: _Found) -> Iterator[tuple[Path, Path]]:
    """(photo, its path relative to `folder`), sorted; links to folders are not followed.

    If `folder` is a file, it is returned itself, whatever its suffix.
    """
    if not _is_folder(folder):
        yield folder, Path(folder.name)
        return

    def refuse(error: OSError) -> None:
        name = Path(error.filename)
        reason = f"{name}: the folder cannot be read ({error.strerror})"
        found.refusals.append(Refusal(name, reason))

    for here, folders, files in os.walk(folder, onerror=refuse):
        at = Path(here)
        folders[:] = sorted(
            name
            for name in folders
            if _is_searched(at / name, Path(name), found)
            and not name.startswith(".")
            and not _is_same(at / name, out)
        )
        for name in sorted(files):
            if _is_photo(at / name, found):
                yield at / name, (at / name).relative_to(folder)


def _is_searched(path: Path, inside: Path, found: _Found) -> bool:
    """Whether no folder on the way to a path is skipped; one that is is noted.

    Args:
        inside: the last parts of `path`, which are examined.
    """
    for depth, name in enumerate(reversed(inside.parts)):
        if is_skipped_folder(name):
            found.skipped.add(os.path.abspath((path, *path.parents)[depth]))  # noqa: PTH100
            return False
    return True


def _is_photo(path: Path, found: _Found) -> bool:
    """Whether a file is a photo, by its suffix; a picture that cannot be read is noted."""
    if path.name.startswith("."):
        return False
    if remedy(path.name) is not None:
        found.unread.add(os.path.abspath(path))  # noqa: PTH100
        return False
    return path.suffix.lower() in PHOTO_SUFFIXES + HEIF_SUFFIXES


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112  # False for any error


def _is_result(path: Path, place: Path, out: Path, suffix: str) -> bool:
    """Whether a file has the folder and the name of a result that this run would write."""
    named = bool(suffix) and path.stem.endswith(suffix)
    return named and _is_same(path.parent, (out / place).parent)


def _result(place: Path, suffix: str, kind: Format | None) -> Path:
    if kind is None and place.suffix.lower() in HEIF_SUFFIXES:
        kind = written_format("heic")
    ending = place.suffix if kind is None else SUFFIXES[kind][0]
    return place.with_name(place.name.removesuffix(place.suffix) + suffix + ending)


def _without_clashes(pairs: list[tuple[Path, Path]], refusals: list[Refusal]) -> list[Job]:
    sources = {os.path.realpath(path): path for path, _ in pairs}
    taken: dict[str, Path] = {}
    jobs: list[Job] = []
    for path, output in pairs:
        place = os.path.realpath(output.parent) + os.sep + output.name
        other = sources.get(place)
        if place in taken:
            reason = f"{path}: its result {output} would overwrite that of {taken[place]}"
        elif other is not None and os.path.realpath(path) != place:
            reason = f"{path}: its result would overwrite {output}, which is another input"
        else:
            taken[place] = path
            jobs.append(Job(path, output))
            continue
        refusals.append(Refusal(path, reason))
    return jobs


def _is_same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)
