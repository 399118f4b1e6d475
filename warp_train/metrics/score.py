"""The proxy score: one number for how well a corrected photo matches its target."""

from collections.abc import Mapping
from typing import Any, TypedDict

from numpy.typing import NDArray

from warp_train.metrics.checks import edge_reasons, finite_reasons, region_reasons, size_reason
from warp_train.metrics.config import ProxyScoreConfig
from warp_train.metrics.edge import edge_pairs, edge_score
from warp_train.metrics.grad import grad_score
from warp_train.metrics.images import as_rgb, displayed, luma_of, to_bytes
from warp_train.metrics.line import line_score
from warp_train.metrics.mae import mae_score
from warp_train.metrics.ssim import ssim_score

WEIGHTS = {"edge": 0.40, "line": 0.22, "grad": 0.18, "ssim": 0.15, "mae": 0.05}


class Flags(TypedDict):
    """Whether a picture is unusable whatever its scores, and why."""

    hard_fail: bool
    reasons: list[str]


class Score(TypedDict):
    """The scores of a picture, all in 0..1; higher is better."""

    total_score: float
    sub_scores: dict[str, float]
    flags: Flags


def compute_proxy_score(
    pred: NDArray[Any],
    gt: NDArray[Any],
    config: ProxyScoreConfig | Mapping[str, Any] | None = None,
) -> Score:
    """Scores a prediction against its ground truth.

    Identical pictures score exactly 1. A hard fail sets a flag and lists its reasons, but does not
    change the scores: the caller decides on its consequences. All scores are 0 if the sizes differ,
    because then nothing can be compared.

    Args:
        pred, gt: RGB [H, W, 3] or grey [H, W]; uint8, or float in 0..1. Values out of this range
            are clipped; values that are not finite count as black, and are a hard fail.
        config: thresholds, or a mapping with some of them; None uses the defaults.

    Raises:
        ValueError: an array is not a picture.
        WarpTrainError: `config` has an unknown key or a value that is not allowed.
    """
    limits = ProxyScoreConfig.of(config)
    raw_pred, raw_gt = as_rgb(pred, "pred"), as_rgb(gt, "gt")
    mismatch = size_reason(raw_pred, raw_gt)
    if mismatch:
        return _score(dict.fromkeys(WEIGHTS, 0.0), [mismatch])
    rgb, gt_rgb = displayed(raw_pred), displayed(raw_gt)
    luma, gt_luma = luma_of(rgb), luma_of(gt_rgb)
    grey, gt_grey = to_bytes(luma), to_bytes(gt_luma)
    edges = edge_pairs(grey, gt_grey, limits.edge_scales)
    subs = {
        "edge": edge_score(edges, limits.edge_tolerance_px),
        "line": line_score(grey, gt_grey, min_length=limits.line_min_length),
        "grad": grad_score(luma, gt_luma, cells=limits.grad_cells),
        "ssim": ssim_score(luma, gt_luma),
        "mae": mae_score(rgb, gt_rgb),
    }
    reasons = [
        *finite_reasons(raw_pred, raw_gt),
        *region_reasons(rgb, gt_rgb, limits),
        *edge_reasons(edges[0], limits),
    ]
    return _score(subs, reasons)


def _score(subs: dict[str, float], reasons: list[str]) -> Score:
    return {
        "total_score": sum(WEIGHTS[name] * value for name, value in subs.items()),
        "sub_scores": subs,
        "flags": {"hard_fail": bool(reasons), "reasons": reasons},
    }
