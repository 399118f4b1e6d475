"""Scores of two folders of images: pairs their files, scores the pairs, and reports the scores."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path
from statistics import fmean
from typing import NamedTuple, TypedDict

from warp_train.metrics.score import WEIGHTS, Score
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.tables import table_lines
from warp_train.runtime.worker_pool import run_jobs
from warp_train.runtime.worker_process import JobError

_SHOWN = 5
"""Worst images in the table."""

IdOf = Callable[[str], str]
"""Returns the image id of a file name without its suffix: the name without `_original` etc."""


class Pair(NamedTuple):
    """A prediction and its ground truth."""

    image_id: str
    pred: Path
    gt: Path


class ImageScore(Score):
    """The scores of one image."""

    image_id: str


class Report(TypedDict):
    """The scores of all images, as written to JSON. The totals are means, None without images."""

    total_score: float | None
    sub_scores: dict[str, float] | None
    images: list[ImageScore]


@dataclass(frozen=True)
class _File:
    path: Path
    stem: str
    """Path below its folder, without the suffix."""
    image_id: str
    """The stem without the role."""

    @property
    def role(self) -> str:
        """What follows the image id in the name, such as `_original`, in lower case."""
        return self.stem[len(self.image_id) :].lower()


def pair_files(
    pred: Path, gt: Path, suffixes: Sequence[str], id_of: IdOf
) -> tuple[list[Pair], list[str]]:
    """Pairs the images of two folders, or two files.

    Two files form a pair, in this order of preference, if their paths below their folders are equal
    (without the suffix), if their image ids are equal, or if the prediction's name continues after
    the image id, as in `x_original_rectified.jpg`. If the ground truth is a folder of pairs, the
    target of a prediction is `x_generated`, not its input `x_original`.

    Args:
        suffixes: of image files, in lower case, with the dot.
        id_of: returns the image id of a file name without its suffix.

    Returns:
        The pairs, sorted by image id, and one line for each file with no counterpart or several.

    Raises:
        WarpTrainError: a path is missing, a folder contains no images, or one path is a file and
            the other a folder.
    """
    if pred.is_file() and gt.is_file():
        return [Pair(id_of(gt.stem), pred, gt)], []
    for path in (pred, gt):
        if not path.exists():
            raise WarpTrainError(f"{path}: no such file or folder")
    for path, other in ((pred, gt), (gt, pred)):
        if path.is_file():
            raise WarpTrainError(f"{path} is a file, but {other} is a folder")
    problems: list[str] = []
    preds, truths = (_files_of(p, suffixes, id_of, problems) for p in (pred, gt))
    truths = _without_inputs(preds, truths)
    found: list[tuple[_File, _File]] = []
    for key in (attrgetter("stem"), attrgetter("image_id")):
        found += _match(preds, truths, key, key, problems)
    ids = {file.image_id for file in truths}
    found += _match(
        preds, truths, lambda f: _beginning(f.stem, ids), attrgetter("image_id"), problems
    )
    problems += [f"{file.path}: has no counterpart in {gt}" for file in preds]
    problems += [f"{file.path}: has no counterpart in {pred}" for file in truths]
    return _named(found), problems


def score_pairs(
    pairs: Sequence[Pair], score: Callable[[Path, Path], Score | str], workers: int
) -> Iterator[tuple[Pair, Score | str]]:
    """Each pair with its scores, or with the reason why it could not be scored, as they finish.

    Args:
        score: returns the scores, or the reason, of a prediction and its ground truth. A function
            at the top level of a module, so that it can be sent to other processes.
        workers: number of processes; 0 scores in this process.
    """
    load = partial(_load, score)
    if not workers:
        yield from zip(pairs, map(load(), pairs), strict=True)
        return
    # Scoring leaves nothing half done, so the processes may be killed at once.
    with closing(run_jobs(pairs, load, workers, patience=0)) as results:
        for pair, result in results:
            if isinstance(result, JobError):
                yield pair, f"{pair.pred}: could not be scored: its process {result.how}"
            else:
                yield pair, result


def _load(score: Callable[[Path, Path], Score | str]) -> Callable[[Pair], Score | str]:
    """What a worker process starts with."""
    return lambda pair: score(pair.pred, pair.gt)


def build_report(scored: Iterable[tuple[Pair, Score]]) -> Report:
    """The means and all images, by id."""
    images: list[ImageScore] = [{"image_id": pair.image_id, **s} for pair, s in scored]
    images.sort(key=lambda image: image["image_id"])
    if not images:
        return {"total_score": None, "sub_scores": None, "images": []}
    return {
        "total_score": fmean(image["total_score"] for image in images),
        "sub_scores": {n: fmean(image["sub_scores"][n] for image in images) for n in WEIGHTS},
        "images": images,
    }


def format_report(report: Report) -> str:
    """The means and the worst images as a table."""
    images = report["images"]
    if report["total_score"] is None or report["sub_scores"] is None:
        return "no images scored"
    worst = sorted(images, key=lambda image: image["total_score"])[:_SHOWN]
    named = [
        (f"mean of {len(images)}", report["total_score"], report["sub_scores"]),
        *((image["image_id"], image["total_score"], image["sub_scores"]) for image in worst),
    ]
    head, rule, mean, *lowest = table_lines(
        ("", "total", *WEIGHTS),
        [
            (name, *(f"{score:.4f}" for score in (total, *subs.values())))
            for name, total, subs in named
        ],
    )
    lines = [head, rule, mean, "", "the lowest", *lowest]
    failed = [image for image in images if image["flags"]["hard_fail"]]
    if failed:
        lines += ["", f"hard fails: {len(failed)} of {len(images)}"]
        lines += [f"{i['image_id']}: {'; '.join(i['flags']['reasons'])}" for i in failed]
    return "\n".join(lines)


def _files_of(
    folder: Path, suffixes: Sequence[str], id_of: IdOf, problems: list[str]
) -> list[_File]:
    """The images of a folder and its subfolders.

    Files that differ only in their suffix are left out and added to `problems`.
    """
    by_stem: dict[str, list[_File]] = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in inside.parts)
        if path.suffix.lower() in suffixes and path.is_file() and not hidden:
            stem = inside.with_suffix("")
            image_id = (stem.parent / id_of(stem.name)).as_posix()
            by_stem[stem.as_posix()].append(_File(path, stem.as_posix(), image_id))
    if not by_stem:
        raise WarpTrainError(f"{folder}: contains no images ({', '.join(suffixes)})")
    problems += [_ambiguous(files) for files in by_stem.values() if len(files) > 1]
    return [files[0] for files in by_stem.values() if len(files) == 1]


def _without_inputs(preds: list[_File], truths: list[_File]) -> list[_File]:
    """The ground truths without the distorted photos of pairs, unless both photos are predicted."""
    targets = {file.image_id for file in truths if file.role == "_generated"}
    predicted = {file.image_id for file in preds if file.role == "_generated"}
    inputs = targets - predicted
    return [f for f in truths if not (f.role == "_original" and f.image_id in inputs)]


def _match(
    preds: list[_File],
    truths: list[_File],
    pred_key: Callable[[_File], str],
    truth_key: Callable[[_File], str],
    problems: list[str],
) -> list[tuple[_File, _File]]:
    """Pairs the files of equal keys, and removes them from both lists.

    A key that has several files in one list makes no pair but a line in `problems`.
    """
    left, right = _grouped(preds, pred_key), _grouped(truths, truth_key)
    found = []
    for key in left.keys() & right.keys():
        if len(left[key]) == len(right[key]) == 1:
            found.append((left[key][0], right[key][0]))
        else:
            problems.append(_ambiguous(max(left[key], right[key], key=len)))
    preds[:] = [file for key, files in left.items() if key not in right for file in files]
    truths[:] = [file for key, files in right.items() if key not in left for file in files]
    return found


def _grouped(files: Sequence[_File], key: Callable[[_File], str]) -> dict[str, list[_File]]:
    groups: dict[str, list[_File]] = defaultdict(list)
    for file in files:
        groups[key(file)].append(file)
    return dict(groups)


def _beginning(stem: str, ids: Collection[str]) -> str:
    """The longest of the ids that the name starts with (before `_`, `-` or `.`); else the name."""
    ends = (end for end in reversed(range(len(stem))) if stem[end] in "_-.")
    return next((stem[:end] for end in ends if stem[:end] in ids), stem)


def _ambiguous(files: Sequence[_File]) -> str:
    names = " and ".join(str(file.path) for file in files)
    return f"{names}: {'both' if len(files) == 2 else 'all'} match image {files[0].image_id}"


def _named(found: Sequence[tuple[_File, _File]]) -> list[Pair]:
    """The pairs, named by image id, or by the prediction's path if two have the same id."""
    ids = Counter(truth.image_id for _, truth in found)
    pairs = [
        Pair(truth.image_id if ids[truth.image_id] == 1 else pred.stem, pred.path, truth.path)
        for pred, truth in found
    ]
    return sorted(pairs)
