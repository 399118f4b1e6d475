"""The proxy score as a whole: what is equal, what falls, what is flagged."""

import itertools
import subprocess
import sys
from typing import Any

import cv2
import numpy as np
import pytest
from metrics_helpers import bend, drawn, photos
from numpy.typing import NDArray

from warp_train.metrics import WEIGHTS, ProxyScoreConfig, compute_proxy_score
from warp_train.runtime.errors import WarpTrainError

RNG = np.random.default_rng(0)
ODD: dict[str, NDArray[Any]] = {
    "scene": drawn(1)[0],
    "grey": drawn(1)[0][..., 0],
    "floats": drawn(1)[0].astype(np.float64) / 255,
    "noise": RNG.integers(0, 255, (61, 83, 3), np.uint8),
    "constant": np.full((40, 60, 3), 0.3, np.float32),
    "black": np.zeros((40, 60, 3), np.uint8),
    "one pixel": np.full((1, 1, 3), 200, np.uint8),
    "two rows": RNG.integers(0, 255, (2, 500, 3), np.uint8),
    "tiny": RNG.integers(0, 255, (7, 9, 3), np.uint8),
    "a column": RNG.integers(0, 255, (300, 1), np.uint8),
}


@pytest.mark.parametrize("name", ODD)
def test_identical_pictures_score_exactly_one(name: str) -> None:
    result = compute_proxy_score(ODD[name], ODD[name].copy())
    assert result["total_score"] == 1
    assert set(result["sub_scores"].values()) == {1.0}
    assert result["flags"] == {"hard_fail": False, "reasons": []}


@pytest.mark.parametrize("name", ODD)
def test_scores_of_any_frame_are_finite_and_the_weighted_mean(name: str) -> None:
    picture = ODD[name]
    others = [np.zeros_like(picture), picture[::-1, ::-1], np.full_like(picture, 1)]
    for other in others:
        result = compute_proxy_score(picture, other)
        subs = result["sub_scores"]
        assert list(subs) == ["edge", "line", "grad", "ssim", "mae"]
        assert all(0 <= value <= 1 for value in subs.values())
        expected = 0.40 * subs["edge"] + 0.22 * subs["line"] + 0.18 * subs["grad"]
        expected += 0.15 * subs["ssim"] + 0.05 * subs["mae"]
        assert result["total_score"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("source", "sign"), [("drawn", 1), ("photos", 1), ("photos", -1)])
def test_the_score_falls_strictly_as_distortion_grows(source: str, sign: int) -> None:
    pictures = drawn(50) if source == "drawn" else photos(50)[: 50 if sign > 0 else 12]
    for number, picture in enumerate(pictures):
        scores = [1.0]
        for k1 in (0.02, 0.05, 0.1, 0.2, 0.3):
            scores.append(compute_proxy_score(bend(picture, sign * k1), picture)["total_score"])
        assert all(a > b for a, b in itertools.pairwise(scores)), (number, scores)


def test_every_part_falls_on_average() -> None:
    tables = []
    for picture in drawn(12, seed=3):
        rows = (compute_proxy_score(bend(picture, k1), picture) for k1 in (0.02, 0.08, 0.3))
        tables.append([list(row["sub_scores"].values()) for row in rows])
    means = np.mean(tables, axis=0)
    assert (np.diff(means, axis=0) < -0.01).all()


def test_swapping_the_pictures_changes_nothing() -> None:
    one, other = drawn(2, seed=5)
    for pred, gt in ((one, other), (one, bend(one, 0.1)), (one, cv2.GaussianBlur(one, (0, 0), 1))):
        assert compute_proxy_score(pred, gt)["sub_scores"] == pytest.approx(
            compute_proxy_score(gt, pred)["sub_scores"], abs=1e-9
        )


def test_bytes_floats_and_grey_say_the_same() -> None:
    grey, other = drawn(1)[0][..., 1], bend(drawn(1)[0][..., 1], 0.1)
    plain = compute_proxy_score(grey, other)["total_score"]
    colour = np.repeat(grey[..., None], 3, axis=2)
    assert compute_proxy_score(colour, other)["total_score"] == pytest.approx(plain, abs=1e-6)
    floats = colour.astype(np.float32) / 255
    assert compute_proxy_score(floats, other)["total_score"] == pytest.approx(plain, abs=1e-6)
    assert compute_proxy_score(floats * 3 - 1, other) == compute_proxy_score(
        np.clip(floats * 3 - 1, 0, 1), other
    )


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4, 4)), np.zeros(9), np.zeros((0, 5, 3)), np.zeros((4, 4), np.int32)]
)
def test_what_is_no_picture_is_named(image: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match=r"^pred: "):
        compute_proxy_score(image, np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match=r"^gt: "):
        compute_proxy_score(np.zeros((4, 4, 3)), image)


def test_another_size_is_a_hard_fail_of_score_zero() -> None:
    result = compute_proxy_score(np.ones((40, 60, 3)), np.ones((60, 40)))
    assert result["total_score"] == 0
    assert result["sub_scores"] == dict.fromkeys(WEIGHTS, 0.0)
    assert result["flags"]["hard_fail"]
    assert result["flags"]["reasons"] == ["size mismatch: 60x40 px, but the ground truth is 40x60"]


def reasons(pred: NDArray[Any], gt: NDArray[Any], **config: Any) -> list[str]:
    result = compute_proxy_score(pred, gt, config)
    assert result["flags"]["hard_fail"] == bool(result["flags"]["reasons"])
    assert 0 < result["total_score"] < 1  # flagged, not replaced
    return result["flags"]["reasons"]


def test_values_that_are_not_finite_are_counted_and_seen_as_black() -> None:
    gt = drawn(1)[0].astype(np.float32) / 255
    pred, black = gt.copy(), gt.copy()
    pred[5, 6], pred[9, 9, 0] = np.nan, np.inf
    black[5, 6], black[9, 9, 0] = 0, 0
    assert reasons(pred, gt) == [f"non-finite: 4 of {gt.size} values of the prediction"]
    assert reasons(gt, pred) == [f"non-finite: 4 of {gt.size} values of the ground truth"]
    assert (
        compute_proxy_score(pred, gt)["total_score"]
        == compute_proxy_score(black, gt)["total_score"]
    )


def test_a_lost_region_is_named_and_a_bend_is_none() -> None:
    gt = np.clip(drawn(1, seed=2)[0], 120, 255)
    pred = gt.copy()
    pred[20:40, 210:240] = 0  # row 2, column 8 of 8 x 8 regions of 20 x 30 pixels
    (reason,) = reasons(pred, gt)
    lost = gt[20:40, 210:240].mean(axis=(0, 1)).mean() / 255
    assert reason.startswith(f"regional difference: {lost:.2f} of full scale in row 2, column 8 ")
    assert reasons(bend(gt, 0.1), gt) == []
    assert reasons(pred, gt, region_max_difference=1.0) == []


def test_lost_edges_are_counted() -> None:
    gt = drawn(1)[0]
    blurred = cv2.GaussianBlur(gt, (0, 0), 12)
    (reason,) = reasons(blurred, gt)
    assert reason.startswith("edge collapse: ")
    assert "(at least 25%)" in reason
    assert reasons(gt, blurred) == []  # more edges than there should be are no collapse
    assert reasons(blurred, gt, edge_min_ratio=0) == []


def test_settings_are_typed_strict_and_felt() -> None:
    gt = drawn(1)[0]
    pred = bend(gt, 0.05)
    scores = [
        compute_proxy_score(pred, gt, config)["sub_scores"]["edge"]
        for config in (None, {"edge_tolerance_px": 4}, ProxyScoreConfig(edge_tolerance_px=4))
    ]
    assert scores[0] < scores[1] == scores[2]
    for config, part in (
        (
            {"edge_tolerance": 4},
            "unknown key 'edge_tolerance'; valid keys are edge_scales, edge_tol",
        ),
        ({"edge_scales": 0}, "edge_scales 0"),
        ({"edge_scales": 2.5}, r"edge_scales 2.5 is not allowed \(a whole number, 1 … 8\)"),
        ({"regions": True}, "regions True"),
        ({"line_min_length": "long"}, "line_min_length 'long'"),
        ({"region_max_difference": float("nan")}, "region_max_difference nan"),
    ):
        with pytest.raises(WarpTrainError, match=part):
            compute_proxy_score(pred, gt, config)


def test_scoring_does_not_import_torch() -> None:
    code = "import sys, warp_train.metrics.folders, warp_train.training.proxy_scoring\n"
    code += "assert not {'torch', 'PIL'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
