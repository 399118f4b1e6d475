"""Turns inputs (files, folders, patterns) into jobs: a photo each, and the path of its result."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warp_train.photos.formats import PHOTO_SUFFIXES, SUFFIXES, Crop, Format, Interpolation

Record = dict[str, Any]
"""A line of `rectify.jsonl`: `input` and `error`, or the result of `rectify_photo`."""


@dataclass(frozen=True)
class Job:
    """One photo, and the path of its corrected photo; None if none is written."""

    input: Path
    output: Path | None = None


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
    refusals: list[Refusal] = []
    found: dict[str, tuple[Path, Path]] = {}  # each photo once, even if it is given twice
    for text in inputs:
        before = len(refusals)
        here = [pair for path in _matches(text) for pair in _photos(path, out, refusals)]
        for path, place in here:
            found.setdefault(os.path.abspath(path), (path, place))  # noqa: PTH100
        if not here and len(refusals) == before:
            reason = "contains no photos" if os.path.lexists(text) else "no such file"
            refusals.append(Refusal(Path(text), f"{text}: {reason}"))
    fresh = [pair for pair in found.values() if not _is_result(*pair, out, suffix)]
    if measure_only:
        return Plan([Job(path) for path, _ in fresh], refusals, len(found) - len(fresh))
    pairs = [(path, _result(out / place, suffix, kind)) for path, place in fresh]
    return Plan(_without_clashes(pairs, refusals), refusals, len(found) - len(fresh))


def _matches(text: str) -> list[Path]:
    """The paths of an input: the path itself if it exists, else the matches of a glob pattern.

    Of the matches, only photos and folders are returned.
    """
    if os.path.lexists(text):
        return [Path(text)]
    matches = [Path(match) for match in sorted(glob.glob(text, recursive=True))]  # noqa: PTH207
    return [path for path in matches if _is_photo(path.name) or _is_folder(path)]


def _photos(folder: Path, out: Path, refusals: list[Refusal]) -> Iterator[tuple[Path, Path]]:
    """(photo, its path relative to `folder`), sorted; links to folders are not followed.

    If `folder` is a file, it is returned itself, whatever its suffix.
    """
    if not _is_folder(folder):
        yield folder, Path(folder.name)
        return

    def refuse(error: OSError) -> None:
        name = Path(error.filename)
        refusals.append(Refusal(name, f"{name}: the folder cannot be read ({error.strerror})"))

    for here, folders, files in os.walk(folder, onerror=refuse):
        at = Path(here)
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and not _is_same(at / name, out)
        )
        for name in sorted(files):
            if _is_photo(name):
                yield at / name, (at / name).relative_to(folder)


def _is_photo(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in PHOTO_SUFFIXES


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112  # False for any error


def _is_result(path: Path, place: Path, out: Path, suffix: str) -> bool:
    """Whether a file has the folder and the name of a result that this run would write."""
    named = bool(suffix) and path.stem.endswith(suffix)
    return named and _is_same(path.parent, (out / place).parent)


def _result(place: Path, suffix: str, kind: Format | None) -> Path:
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
