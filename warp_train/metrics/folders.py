"""Scores of whole folders: which files belong together, and what to say about them."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from statistics import fmean
from typing import NamedTuple, TypedDict

from warp_train.metrics.score import WEIGHTS, Score
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.scoring_pool import ScoringError, ScoringPool

_SHOWN = 5
"""Worst images in the table."""

IdOf = Callable[[str], str]
"""The image id of a file's name without its suffix: the name less its role (`_original`, …)."""


class Pair(NamedTuple):
    image_id: str
    pred: Path
    gt: Path


class ImageScore(Score):
    image_id: str


class Report(TypedDict):
    """What `--json` writes; the totals are means over the images, None where there is none."""

    total_score: float | None
    sub_scores: dict[str, float] | None
    images: list[ImageScore]


@dataclass(frozen=True)
class _File:
    path: Path
    stem: str
    """Path below its folder, without the suffix."""
    image_id: str
    """The same without the role."""

    @property
    def role(self) -> str:
        return self.stem[len(self.image_id) :].lower()


def pair_files(
    pred: Path, gt: Path, suffixes: Sequence[str], id_of: IdOf
) -> tuple[list[Pair], list[str]]:
    """Pairs the images of two folders, or two files.

    Files belong together if they have the same path below their folder (the suffix aside), failing
    that the same image id, failing that if the prediction's name goes on after the id, as in
    `x_original_rectified.jpg`. Where the ground truth is a folder of pairs, a prediction's target
    is `x_generated`, not the `x_original` that it was made from.

    Returns:
        The pairs by id, and a line for each file that has no counterpart, or more than one.

    Raises:
        WarpTrainError: a path is missing, a folder without images, or a file against a folder.
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
    """Each pair with its scores, or with the reason why it has none, as they become ready.

    Args:
        score: of a module's top level.
        workers: processes; 0 to score in this one.
    """
    if not workers:
        for pair in pairs:
            yield pair, score(pair.pred, pair.gt)
        return
    with ScoringPool(score, workers) as pool:
        calls = {pool.submit(pair.pred, pair.gt): pair for pair in pairs}
        for call in as_completed(calls):
            try:
                yield calls[call], call.result()
            except ScoringError as error:
                yield calls[call], f"{calls[call].pred}: could not be scored ({error})"


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
    width = max(len(name) for name, *_ in named)
    head = f"{'':<{width}}  " + "  ".join(f"{name:>6}" for name in ("total", *WEIGHTS))
    mean, *rows = (
        f"{name:<{width}}  " + "  ".join(f"{v:6.4f}" for v in (total, *subs.values()))
        for name, total, subs in named
    )
    lines = [head, "-" * len(head), mean, "", "the lowest", *rows]
    failed = [image for image in images if image["flags"]["hard_fail"]]
    if failed:
        lines += ["", f"hard fails: {len(failed)} of {len(images)}"]
        lines += [f"{i['image_id']}: {'; '.join(i['flags']['reasons'])}" for i in failed]
    return "\n".join(lines)


def _files_of(
    folder: Path, suffixes: Sequence[str], id_of: IdOf, problems: list[str]
) -> list[_File]:
    """The images of a folder and its subfolders. Of several that differ in their suffix only none
    is taken, and they are named in `problems`."""
    by_stem: dict[str, list[_File]] = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in inside.parts)
        if path.suffix.lower() in suffixes and path.is_file() and not hidden:
            stem = inside.with_suffix("")
            image_id = (stem.parent / id_of(stem.name)).as_posix()
            by_stem[stem.as_posix()].append(_File(path, stem.as_posix(), image_id))
    if not by_stem:
        raise WarpTrainError(f"{folder}: holds no images ({', '.join(suffixes)})")
    problems += [_ambiguous(files) for files in by_stem.values() if len(files) > 1]
    return [files[0] for files in by_stem.values() if len(files) == 1]


def _without_inputs(preds: list[_File], truths: list[_File]) -> list[_File]:
    """The ground truths less the distorted halves of pairs, unless both halves are predicted."""
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
    """Takes what has the same key out of both lists; several files of a key are a problem."""
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
    """The longest of the ids that the name goes on after; the whole name if there is none."""
    ends = (end for end in reversed(range(len(stem))) if stem[end] in "_-.")
    return next((stem[:end] for end in ends if stem[:end] in ids), stem)


def _ambiguous(files: Sequence[_File]) -> str:
    names = " and ".join(str(file.path) for file in files)
    return f"{names}: {'both' if len(files) == 2 else 'all'} stand for image {files[0].image_id}"


def _named(found: Sequence[tuple[_File, _File]]) -> list[Pair]:
    """Pairs by image id, or by the prediction's path where two share an id."""
    ids = Counter(truth.image_id for _, truth in found)
    pairs = [
        Pair(truth.image_id if ids[truth.image_id] == 1 else pred.stem, pred.path, truth.path)
        for pred, truth in found
    ]
    return sorted(pairs)
