"""Which files of two folders belong together, and the report over them."""

from pathlib import Path

import pytest

from warp_train.data.decoding import IMAGE_SUFFIXES
from warp_train.data.splits import id_of
from warp_train.metrics import WEIGHTS
from warp_train.metrics.folders import Pair, build_report, format_report, pair_files
from warp_train.runtime.errors import WarpTrainError

Expected = dict[str, tuple[str, str]]


def fill(folder: Path, names: str) -> Path:
    for name in names.split():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def paired(tmp_path: Path, pred: str, gt: str) -> tuple[Expected, list[str]]:
    """Pairs as {image id: (pred, gt)} relative to their folders, and the problems."""
    a, b = fill(tmp_path / "a", pred), fill(tmp_path / "b", gt)
    pairs, problems = pair_files(a, b, IMAGE_SUFFIXES, id_of)
    found = {p.image_id: (str(p.pred.relative_to(a)), str(p.gt.relative_to(b))) for p in pairs}
    assert len(found) == len(pairs)
    return found, [problem.replace(f"{tmp_path}/", "") for problem in problems]


@pytest.mark.parametrize(
    ("pred", "gt", "expected"),
    [
        ("x.jpg y.PNG", "y.jpg x.jpg", {"x": ("x.jpg", "x.jpg"), "y": ("y.PNG", "y.jpg")}),
        (
            "s/x.png x.jpg",
            "s/x.jpg x.tif",
            {"s/x": ("s/x.png", "s/x.jpg"), "x": ("x.jpg", "x.tif")},
        ),
        ("x_original.jpg", "x_generated.jpg", {"x": ("x_original.jpg", "x_generated.jpg")}),
        # A folder of pairs: the target is the straight half, not what the prediction was made from.
        (
            "x_original.jpg",
            "x_original.jpg x_generated.jpg",
            {"x": ("x_original.jpg", "x_generated.jpg")},
        ),
        (
            "x_original_rectified.jpg x_g10_original-new.jpg",
            "x_original.jpg x_generated.jpg x_g10_original.jpg x_g10_generated.jpg",
            {
                "x": ("x_original_rectified.jpg", "x_generated.jpg"),
                "x_g10": ("x_g10_original-new.jpg", "x_g10_generated.jpg"),
            },
        ),
        ("x.jpg", "x_original.jpg x_generated.png", {"x": ("x.jpg", "x_generated.png")}),
        # The same folder twice: every file is its own counterpart.
        (
            "x_original.jpg x_generated.jpg",
            "x_original.jpg x_generated.jpg",
            {
                "x_original": ("x_original.jpg", "x_original.jpg"),
                "x_generated": ("x_generated.jpg", "x_generated.jpg"),
            },
        ),
        ("x.jpg .y.jpg notes.txt", "x.jpg .z/a.jpg x.csv", {"x": ("x.jpg", "x.jpg")}),
    ],
)
def test_files_find_their_counterparts(
    pred: str, gt: str, expected: Expected, tmp_path: Path
) -> None:
    assert paired(tmp_path, pred, gt) == (expected, [])


def test_what_is_missing_is_named_and_the_rest_is_paired(tmp_path: Path) -> None:
    found, problems = paired(tmp_path, "x.jpg y.jpg", "y.jpg z/x.jpg")
    assert found == {"y": ("y.jpg", "y.jpg")}
    assert problems == ["a/x.jpg: has no counterpart in b", "b/z/x.jpg: has no counterpart in a"]


@pytest.mark.parametrize(
    ("pred", "gt", "problem"),
    [
        ("x.jpg x.png y.jpg", "y.jpg", "a/x.jpg and a/x.png: both match image x"),
        (
            "x_original.jpg x_generated.jpg y.jpg",
            "x.jpg y.jpg",
            "a/x_generated.jpg and a/x_original.jpg: both match image x",
        ),
        ("x_a.jpg x_b.jpg y.jpg", "x.jpg y.jpg", "a/x_a.jpg and a/x_b.jpg: both match image"),
    ],
)
def test_ambiguous_files_are_named_and_the_rest_is_paired(
    pred: str, gt: str, problem: str, tmp_path: Path
) -> None:
    found, problems = paired(tmp_path, pred, gt)
    assert found == {"y": ("y.jpg", "y.jpg")}
    assert len(problems) == 1
    assert problems[0].startswith(problem)


def test_two_files_are_a_pair_whatever_their_names(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg b_generated.png")
    pairs, problems = pair_files(
        tmp_path / "a.jpg", tmp_path / "b_generated.png", IMAGE_SUFFIXES, id_of
    )
    assert [tuple(map(str, pair)) for pair in pairs] == [
        ("b", f"{tmp_path}/a.jpg", f"{tmp_path}/b_generated.png")
    ]
    assert problems == []


def test_what_cannot_be_compared_at_all_is_one_line(tmp_path: Path) -> None:
    fill(tmp_path, "a/x.jpg empty/notes.txt")
    for pred, gt, part in (
        ("a", "none", "none: no such file or folder"),
        ("none", "a", "none: no such file or folder"),
        ("a", "a/x.jpg", "x.jpg is a file, but"),
        ("a/x.jpg", "a", "x.jpg is a file, but"),
        ("a", "empty", "empty: contains no images (.jpg, .jpeg"),
    ):
        with pytest.raises(WarpTrainError) as error:
            pair_files(tmp_path / pred, tmp_path / gt, IMAGE_SUFFIXES, id_of)
        assert part in str(error.value)


def test_thousands_of_files_are_paired_at_once(tmp_path: Path) -> None:
    names = " ".join(f"s{n % 7}/x{n}_original.jpg" for n in range(4000))
    found, problems = paired(tmp_path, names, names.replace("original", "generated"))
    assert len(found) == 4000
    assert problems == []


def test_no_image_scored_is_a_report_too() -> None:
    report = build_report([])
    assert report == {"total_score": None, "sub_scores": None, "images": []}
    assert format_report(report) == "no images scored"


def test_the_table_has_the_mean_then_the_lowest_then_the_hard_fails() -> None:
    fine = {"hard_fail": False, "reasons": []}
    failed = {"hard_fail": True, "reasons": ["too few edges"]}
    pair = [Pair(name, Path(name), Path(name)) for name in ("a", "long name")]
    scores = [
        {"total_score": 0.5, "sub_scores": dict.fromkeys(WEIGHTS, 0.5), "flags": fine},
        {"total_score": 0.25, "sub_scores": dict.fromkeys(WEIGHTS, 1.0), "flags": failed},
    ]
    assert format_report(build_report(zip(pair, scores, strict=True))).splitlines() == [
        "            total    edge    line    grad    ssim     mae",
        "---------------------------------------------------------",
        "mean of 2  0.3750  0.7500  0.7500  0.7500  0.7500  0.7500",
        "",
        "the lowest",
        "long name  0.2500  1.0000  1.0000  1.0000  1.0000  1.0000",
        "a          0.5000  0.5000  0.5000  0.5000  0.5000  0.5000",
        "",
        "hard fails: 1 of 2",
        "long name: too few edges",
    ]
