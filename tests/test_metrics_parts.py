"""The parts of the proxy score, each against something that is known without it."""

import math

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from warp_train.metrics.edge import edge_pairs, edge_score
from warp_train.metrics.grad import grad_score
from warp_train.metrics.images import Bytes
from warp_train.metrics.line import line_score, long_segments
from warp_train.metrics.mae import mae_score
from warp_train.metrics.ssim import ssim_score


def mask(*columns: int) -> NDArray[np.uint8]:
    edges = np.zeros((20, 60), np.uint8)
    edges[:, list(columns)] = 1
    return edges


@pytest.mark.parametrize(
    ("pred", "gt", "expected"),
    [
        ((10,), (10,), 1),
        ((10,), (11,), 1),  # within a tolerance of 1 px
        ((10,), (12,), 0),
        ((10,), (10, 40), 2 / 3),  # precision 1, recall 1/2
        ((10, 20, 30), (10,), 1 / 2),  # precision 1/3, recall 1
        ((), (), 1),
        ((), (10,), 0),
        ((10,), (), 0),
    ],
)
def test_edge_is_f1_within_the_tolerance(
    pred: tuple[int, ...], gt: tuple[int, ...], expected: float
) -> None:
    assert edge_score([(mask(*pred), mask(*gt))], 1) == pytest.approx(expected)


def test_edge_is_the_mean_over_scales() -> None:
    pairs = [(mask(10), mask(10)), (mask(10), mask(40)), (mask(10), mask(10, 40))]
    assert edge_score(pairs, 1) == pytest.approx((1 + 0 + 2 / 3) / 3)


def square(left: int) -> Bytes:
    picture = np.full((96, 128), 60, np.uint8)
    picture[20:70, left : left + 50] = 190
    return picture


def test_edges_lie_on_the_drawn_outline_and_halve_with_the_scale() -> None:
    pairs = edge_pairs(square(30), square(30), 3)
    assert [edges.shape for edges, _ in pairs] == [(96, 128), (48, 64), (24, 32)]
    for scale, (edges, same) in enumerate(pairs):
        assert (edges == same).all()
        assert edges.sum() == pytest.approx(200 / 2**scale, rel=0.1)
        rows, columns = (place * 2**scale for place in np.nonzero(edges))
        off = np.minimum.reduce(
            [abs(rows - 20), abs(rows - 70), abs(columns - 30), abs(columns - 80)]
        )
        assert off.max() <= 2 * 2**scale


def test_a_near_miss_costs_less_than_a_far_one() -> None:
    scores = [
        edge_score(edge_pairs(square(30 + shift), square(30), 3), 1) for shift in (0, 1, 2, 4, 20)
    ]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == scores[1] == 1  # within a pixel
    assert scores[1] > scores[2] > scores[3] > scores[4]


def test_edges_that_lost_their_contrast_are_lost() -> None:
    stripes = np.where(np.arange(128) // 8 % 2, 190, 60).astype(np.uint8)
    strong = np.repeat(stripes[None], 96, axis=0)
    faint = (strong // 9 + 100).astype(np.uint8)
    pred, gt = edge_pairs(faint, strong, 1)[0]
    assert pred.sum() == 0
    assert gt.sum() > 1000
    assert edge_pairs(faint, faint, 1)[0][0].sum() > 1000  # by its own measure it has them
    noise = (strong // 40 + 100).astype(np.uint8)
    assert edge_pairs(noise, noise, 1)[0][0].sum() == 0


def lines(degrees: float, count: int = 6, shift: int = 0) -> Bytes:
    """Parallel lines of 160 px, well inside the frame."""
    picture = np.full((240, 320), 40, np.uint8)
    along = 80 * np.array([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])
    for number in range(count):
        centre = np.array([160, 45 + 30 * number + shift])
        ends = [tuple(int(v * 16) for v in centre + sign * along) for sign in (-1, 1)]
        cv2.line(picture, *ends, 220, 3, cv2.LINE_AA, 4)
    return picture


def test_segments_are_where_they_were_drawn() -> None:
    found = long_segments(lines(10, count=1), 60)
    assert len(found) == 2  # both sides of the stroke
    for x1, y1, x2, y2 in found:
        assert math.hypot(x2 - x1, y2 - y1) == pytest.approx(160, abs=8)
        assert math.degrees(math.atan2(y2 - y1, x2 - x1)) % 180 == pytest.approx(10, abs=0.7)
    assert len(long_segments(lines(10, count=1), 200)) == 0


def test_a_few_degrees_show() -> None:
    scores = [line_score(lines(turn), lines(0), min_length=0.05) for turn in (0, 1, 2, 3, 5)]
    assert scores[0] == 1
    assert scores == sorted(scores, reverse=True)
    # Two Gaussians of σ 1° that are d apart share 2 Φ(-d/2) of their area; of Σ min / Σ max, that
    # is s / (2 - s).
    for turn, score in zip((1, 2, 3), scores[1:], strict=False):
        shared = math.erfc(turn / 2 / math.sqrt(2))
        assert score == pytest.approx(shared / (2 - shared), abs=0.12)
    assert scores[-1] < 0.05


def test_lines_count_by_their_length_not_by_their_place() -> None:
    assert line_score(lines(0, shift=2), lines(0), min_length=0.05) > 0.9
    assert line_score(lines(0, count=3), lines(0), min_length=0.05) == pytest.approx(0.5, abs=0.05)
    assert line_score(lines(0, count=0), lines(0), min_length=0.05) == 0
    assert line_score(lines(0, count=0), lines(0, count=0), min_length=0.05) == 1
    assert line_score(lines(0, count=0), lines(0), min_length=0.9) == 1  # none is that long


def test_a_line_counts_by_its_length() -> None:
    gt = lines(0, count=1)
    cv2.line(gt, (160, 200), (200, 160), 220, 3, cv2.LINE_AA)  # 57 px beside one of 160 px
    assert line_score(lines(0, count=1), gt, min_length=0.05) == pytest.approx(
        160 / (160 + 57), abs=0.04
    )


def test_tilts_that_cancel_over_the_frame_show() -> None:
    falling, rising = lines(3)[:, 80:240], lines(-3)[:, 80:240]
    one, other = np.hstack([falling, rising]), np.hstack([rising, falling])
    assert line_score(one, other, min_length=0.05) < 0.4
    assert line_score(one, one, min_length=0.05) == 1


def ramp(degrees: float, slope: float = 0.002) -> NDArray[np.float32]:
    rows, columns = np.mgrid[:96, :128].astype(np.float32)
    along = columns * math.cos(math.radians(degrees)) + rows * math.sin(math.radians(degrees))
    picture: NDArray[np.float32] = (0.5 + slope * (along - along.mean())).astype(np.float32)
    return picture


def inner(pred: NDArray[np.float32], gt: NDArray[np.float32]) -> float:
    # OpenCV mirrors at the border, where a ramp therefore ends level.
    return grad_score(pred, gt, cells=4)


def test_grad_compares_directions_and_strengths() -> None:
    assert inner(ramp(0), ramp(90)) == pytest.approx(0, abs=0.02)
    assert inner(ramp(0), ramp(180)) == pytest.approx(1, abs=1e-3)  # an orientation has no sign
    assert inner(ramp(0), ramp(179.999)) == pytest.approx(1, abs=1e-2)
    assert inner(ramp(0, 0.001), ramp(0)) == pytest.approx(0.5, abs=1e-3)
    # 2° is a fifth of a bin, and the last bin's neighbour is the first: 0.8 is shared of 1.2.
    assert inner(ramp(0), ramp(-2)) == pytest.approx(2 / 3, abs=0.03)
    # 5° is half a bin: half of the weight moves on, so 1/2 is shared of 3/2.
    assert inner(ramp(20), ramp(25)) == pytest.approx(1 / 3, abs=0.03)
    flat = np.full_like(ramp(0), 0.5)
    assert inner(flat, flat) == 1
    assert inner(flat, ramp(0)) == 0


def test_grad_looks_at_each_block_on_its_own() -> None:
    halves = np.concatenate([ramp(0)[:48], ramp(90)[48:]])
    swapped = np.concatenate([ramp(90)[:48], ramp(0)[48:]])
    assert grad_score(halves, swapped, cells=4) < 0.35  # what remains is the seam
    assert grad_score(halves, swapped, cells=1) > 0.8


def test_ssim_is_the_formula() -> None:
    rng = np.random.default_rng(1)
    one = rng.random((14, 17)).astype(np.float32)
    other = np.clip(one + rng.normal(0, 0.1, one.shape), 0, 1).astype(np.float32)
    steps = np.arange(-5, 6)
    window = np.exp(-(steps[:, None] ** 2 + steps[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    x, y = (np.pad(i.astype(np.float64), 5, mode="symmetric") for i in (one, other))
    values = []
    for row in range(14):
        for column in range(17):
            a, b = (i[row : row + 11, column : column + 11] for i in (x, y))
            ma, mb = (window * a).sum(), (window * b).sum()
            va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
            cov = (window * (a - ma) * (b - mb)).sum()
            values.append(
                (2 * ma * mb + 1e-4)
                * (2 * cov + 9e-4)
                / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))
            )
    assert ssim_score(one, other) == pytest.approx(np.mean(values), abs=1e-5)


def test_ssim_of_flat_pictures_compares_their_levels() -> None:
    a, b = np.full((20, 20), 0.2, np.float32), np.full((20, 20), 0.6, np.float32)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert ssim_score(a, b) == pytest.approx(expected, abs=1e-3)
    checks = np.indices((20, 20)).sum(0).astype(np.float32) % 2
    assert ssim_score(checks, 1 - checks) == 0  # a negative mean


def test_mae_is_one_less_the_mean_difference() -> None:
    one = np.zeros((4, 5, 3), np.float32)
    other = one.copy()
    other[:2] = 0.5
    assert mae_score(one, other) == pytest.approx(0.75)
    assert mae_score(one, one + 1) == 0
