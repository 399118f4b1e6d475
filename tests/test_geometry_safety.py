"""Which warps are refused, and what is said about them."""

import math

import pytest
import torch
from torch import Tensor

from warp_train.geometry import SafetyConfig, evaluate_safety, half_diagonal, identity_grid

HEIGHT, WIDTH = 21, 31
METRICS = {
    "oob_ratio",
    "border_invalid_ratio",
    "jacobian_negative_det_pct",
    "det_min",
    "det_p01",
    "residual_magnitude",
}
IDENTITY = identity_grid(HEIGHT, WIDTH)[None]
LENIENT = SafetyConfig(
    max_negative_det_pct=100,
    min_det=-1e9,
    min_det_p01=-1e9,
    max_oob_ratio=1,
    max_border_invalid_ratio=1,
    max_residual_magnitude=1e9,
)


def mirrored() -> Tensor:
    return IDENTITY * torch.tensor([-1.0, 1.0])


def one_flat_cell() -> Tensor:
    grid = IDENTITY.clone()
    grid[:, 10, 11] = grid[:, 10, 10]
    return grid


def shifted(columns: int) -> Tensor:
    return IDENTITY + torch.tensor([2 * columns / (WIDTH - 1), 0])


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (1, 1), (1, 9), (2, 2)])
def test_the_identity_is_safe(size: tuple[int, int]) -> None:
    report = evaluate_safety(identity_grid(*size)[None])
    assert set(report) == {"safe", "reasons", "metrics"}
    assert report["safe"] is True
    assert report["reasons"] == []
    assert set(report["metrics"]) == METRICS
    assert report["metrics"]["oob_ratio"] == 0
    assert report["metrics"]["det_min"] == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("grid", "limit", "refusing", "metric", "value"),
    [
        (mirrored(), "max_negative_det_pct", 99.9, "jacobian_negative_det_pct", 100),
        # Its own cell and the one above lose their upper or lower side: two of 600.
        (one_flat_cell(), "max_negative_det_pct", 0.1, "jacobian_negative_det_pct", 100 / 600),
        (one_flat_cell(), "min_det", 0.01, "det_min", 0),
        (0.5 * IDENTITY, "min_det", 0.3, "det_min", 0.25),
        (0.5 * IDENTITY, "min_det_p01", 0.3, "det_p01", 0.25),
        (shifted(3), "max_oob_ratio", 0.09, "oob_ratio", 3 / WIDTH),
        # Three pixels of the top and bottom rows, and the right column between them.
        (shifted(3), "max_border_invalid_ratio", 0.24, "border_invalid_ratio", 25 / 100),
    ],
)
def test_each_limit_refuses_alone_and_names_its_figure(
    grid: Tensor, limit: str, refusing: float, metric: str, value: float
) -> None:
    assert evaluate_safety(grid, config=LENIENT)["safe"]
    report = evaluate_safety(grid, config=with_limit(limit, refusing))
    assert report["safe"] is False
    assert report["metrics"][metric] == pytest.approx(value, abs=1e-4)
    (reason,) = report["reasons"]
    assert reason.startswith(f"{metric} ")
    assert f"{refusing:.4g}" in reason


def with_limit(name: str, value: float) -> SafetyConfig:
    return SafetyConfig(**{**vars(LENIENT), name: value})


def test_residual_is_measured_against_half_the_diagonal() -> None:
    pixels = torch.tensor([3.0, 4.0])
    residual = (pixels * 2 / torch.tensor([WIDTH - 1, HEIGHT - 1])).expand(1, HEIGHT, WIDTH, 2)
    share = 5 / half_diagonal(HEIGHT, WIDTH)
    measured = evaluate_safety(IDENTITY, residual, LENIENT)
    assert measured["metrics"]["residual_magnitude"] == pytest.approx(share, rel=1e-5)
    assert measured["safe"]
    refused = evaluate_safety(IDENTITY, residual, with_limit("max_residual_magnitude", share / 2))
    assert [reason.split()[0] for reason in refused["reasons"]] == ["residual_magnitude"]


def test_a_limit_itself_is_allowed() -> None:
    det = evaluate_safety(0.5 * IDENTITY)["metrics"]["det_min"]
    assert evaluate_safety(0.5 * IDENTITY, config=with_limit("min_det", det))["safe"]


def test_a_batch_is_as_safe_as_its_worst_sample() -> None:
    report = evaluate_safety(torch.cat((IDENTITY, mirrored(), IDENTITY)))
    assert not report["safe"]
    assert report["metrics"]["jacobian_negative_det_pct"] == 100
    assert len(report["reasons"]) == 3  # folded, pinched, and that over more than 1 %


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["grid", "residual"])
def test_a_warp_that_is_not_finite_is_refused_with_all_figures(value: float, where: str) -> None:
    grid, residual = IDENTITY.clone(), torch.zeros_like(IDENTITY)
    (grid if where == "grid" else residual)[0, 4, 5, 1] = value
    report = evaluate_safety(grid, residual, LENIENT)
    assert report["safe"] is False
    assert report["reasons"] == ["the warp is not finite"]
    assert set(report["metrics"]) == METRICS
    assert all(math.isnan(figure) for figure in report["metrics"].values())
