"""From what was typed to jobs: which photos, and where each result goes."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from warp_train.photos.formats import PHOTO_SUFFIXES, SUFFIXES, Format


@dataclass(frozen=True)
class Job:
    """One photo, and the file that its correction becomes; None where none is written."""

    input: Path
    output: Path | None = None


@dataclass(frozen=True)
class Refusal:
    """What was asked for and cannot be done, and why; the reason names the file."""

    input: Path
    reason: str


@dataclass(frozen=True)
class Plan:
    jobs: list[Job]
    refusals: list[Refusal]
    earlier: int
    """Files left out because their names say that they are results of an earlier run."""


def plan_jobs(
    inputs: Sequence[str],
    out: Path,
    suffix: str,
    kind: Format | None = None,
    *,
    measure_only: bool = False,
) -> Plan:
    """What to do with files, folders (searched in depth, their tree kept below `out`) and patterns.

    Hidden files, and `out` itself where it lies in a folder that is searched, are left out. Two
    photos that would become one file, or one that would become another's input, are refused.

    Args:
        measure_only: no outputs, and nothing to refuse on their account.
    """
    refusals: list[Refusal] = []
    found: dict[str, tuple[Path, Path]] = {}  # a photo that is named twice is meant once
    for text in inputs:
        before = len(refusals)
        here = [pair for path in _matches(text) for pair in _photos(path, out, refusals)]
        for path, place in here:
            found.setdefault(os.path.abspath(path), (path, place))  # noqa: PTH100
        if not here and len(refusals) == before:
            reason = "there are no photos in it" if os.path.lexists(text) else "no such file"
            refusals.append(Refusal(Path(text), f"{text}: {reason}"))
    fresh = [pair for pair in found.values() if not _is_result(*pair, out, suffix)]
    if measure_only:
        return Plan([Job(path) for path, _ in fresh], refusals, len(found) - len(fresh))
    pairs = [(path, _result(out / place, suffix, kind)) for path, place in fresh]
    return Plan(_without_clashes(pairs, refusals), refusals, len(found) - len(fresh))


def _matches(text: str) -> list[Path]:
    """What an argument means: a pattern, and then of photos, only where nothing has that name."""
    if os.path.lexists(text):
        return [Path(text)]
    matches = [Path(match) for match in sorted(glob.glob(text, recursive=True))]  # noqa: PTH207
    return [path for path in matches if _is_photo(path.name) or _is_folder(path)]


def _photos(folder: Path, out: Path, refusals: list[Refusal]) -> Iterator[tuple[Path, Path]]:
    """(photo, its place below `folder`), in order; links to folders are not followed.

    Where `folder` is a file it is meant, whatever it is called.
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
    return os.path.isdir(path)  # noqa: PTH112  # which takes any trouble for a no


def _is_result(path: Path, place: Path, out: Path, suffix: str) -> bool:
    """Whether a file is where this run would write, under a name that it would write."""
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
            reason = f"{path}: would become {output}, as {taken[place]} does"
        elif other is not None and os.path.realpath(path) != place:
            reason = f"{path}: would become {output}, which is itself to be corrected"
        else:
            taken[place] = path
            jobs.append(Job(path, output))
            continue
        refusals.append(Refusal(path, reason))
    return jobs


def _is_same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)
