"""From photos to totals: means by row, the share of the gap that is closed, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Literal, TypedDict

import numpy as np

from warp_train.data.lenses import Array
from warp_train.evaluation.measuring import PhotoResult, RowName
from warp_train.metrics import WEIGHTS

Interval = tuple[float, float]
GapMetric = Literal["total_score", "epe_px"]

_DRAWS = 2000
_SEED = 0
_LEVEL = (2.5, 97.5)


class RowTotals(TypedDict):
    """Means over the photos that a row has figures of."""

    photos: int
    epe_px: float | None
    total_score: float
    sub_scores: dict[str, float]
    hard_fails: int
    negative_det_pct: float
    oob_ratio: float


class Gap(TypedDict):
    """The share of what could be gained that the model gains; None where that is unknown."""

    total_score: float | None
    epe_px: float | None


class GapInterval(TypedDict):
    """95 % intervals of the two shares; None if there are too few groups."""

    total_score: Interval | None
    epe_px: Interval | None


class StraightTotals(TypedDict):
    """What the model does to photos that are straight already: the targets as inputs.

    `epe_px` is the harm: the mean distance in pixels by which the applied warps move them. Targets
    may have distortion of their own, because the cameras that took them are not perfect, and
    correcting it counts as harm here. The figure is therefore too large by at most the mean of that
    distortion (some 0.7 px in the pairs of `.github/RESULTS.md`).
    """

    photos: int
    """Targets, each counted once however many inputs it has."""
    epe_px: float
    epe_px_interval: Interval | None
    """95 %; None with fewer than two groups."""
    epe_px_p90: float
    epe_px_worst: float
    changed_share: float
    """Of the photos that the applied warp moves at all, 0..1."""


class Totals(TypedDict):
    """The totals of a set of photos."""

    photos: int
    groups: int
    identity: RowTotals
    fixed_warp: RowTotals | None
    model: RowTotals
    one_lens: RowTotals | None
    ceiling: RowTotals | None
    already_straight: StraightTotals | None
    gap_closed: Gap
    gap_closed_interval: GapInterval


def total(photos: Sequence[PhotoResult]) -> Totals:
    """Totals of at least one photo."""
    score, score_interval = _gap(photos, "total_score")
    epe, epe_interval = _gap(photos, "epe_px")
    identity, model = row_totals(photos, "identity"), row_totals(photos, "model")
    assert identity is not None
    assert model is not None
    return {
        "photos": len(photos),
        "groups": len({photo.task.item.group for photo in photos}),
        "identity": identity,
        "fixed_warp": row_totals(photos, "fixed_warp"),
        "model": model,
        "one_lens": row_totals(photos, "one_lens"),
        "ceiling": row_totals(photos, "ceiling"),
        "already_straight": straight_totals(photos),
        "gap_closed": {"total_score": score, "epe_px": epe},
        "gap_closed_interval": {"total_score": score_interval, "epe_px": epe_interval},
    }


def row_totals(photos: Sequence[PhotoResult], row: RowName) -> RowTotals | None:
    """Means of a row, its end-point error over the known ones; None if no photo has the row."""
    have = [figures for photo in photos if (figures := photo.rows.get(row)) is not None]
    if not have:
        return None
    errors = [figures["epe_px"] for figures in have if figures["epe_px"] is not None]
    return {
        "photos": len(have),
        "epe_px": fmean(errors) if errors else None,
        "total_score": fmean(figures["total_score"] for figures in have),
        "sub_scores": {
            name: fmean(figures["sub_scores"][name] for figures in have) for name in WEIGHTS
        },
        "hard_fails": sum(figures["flags"]["hard_fail"] for figures in have),
        "negative_det_pct": fmean(figures["negative_det_pct"] for figures in have),
        "oob_ratio": fmean(figures["oob_ratio"] for figures in have),
    }


def straight_totals(photos: Sequence[PhotoResult]) -> StraightTotals | None:
    """Totals of the targets as inputs; None if none was shown to the model."""
    shown = {
        photo.task.item.target.resolve(): (photo.straight["epe_px"], photo.task.item.group)
        for photo in photos
        if photo.straight is not None
    }
    if not shown:
        return None
    harm = np.array([moved for moved, _ in shown.values()])
    counted = np.stack([harm, np.ones_like(harm)], axis=1)  # the ratio of their sums is the mean
    return {
        "photos": len(harm),
        "epe_px": float(harm.mean()),
        "epe_px_interval": bootstrap_interval(counted, [group for _, group in shown.values()]),
        "epe_px_p90": float(np.percentile(harm, 90)),
        "epe_px_worst": float(harm.max()),
        "changed_share": float((harm > 0).mean()),
    }


def gap_closed(gains: Array) -> float | None:
    """Mean gain over mean room, of `[N, 2]` (gain, room); None if there is no room."""
    gain, room = gains.sum(0)
    return float(gain / room) if room > 0 else None


def bootstrap_interval(
    gains: Array, groups: Sequence[str], *, draws: int = _DRAWS, seed: int = _SEED
) -> Interval | None:
    """95 % interval of `gap_closed`, by drawing groups with replacement.

    The percentile method (B. Efron, "Bootstrap methods: another look at the jackknife", 1979).
    Groups are drawn whole, since photos of one house or shoot resemble each other.

    Args:
        gains: `[N, 2]` (gain, room) of the photos.
        groups: the group of each photo.

    Returns:
        (low, high); None with fewer than two groups, or if there is no room in any draw.
    """
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 2:
        return None
    sums = np.zeros((len(names), 2))
    np.add.at(sums, member, gains)
    rng = np.random.default_rng(seed)
    drawn = [sums[rng.integers(len(names), size=len(names))].sum(0) for _ in range(draws)]
    gain, room = np.array(drawn).T
    shares = gain[room > 0] / room[room > 0]
    if not len(shares):
        return None
    low, high = np.percentile(shares, _LEVEL)
    return float(low), float(high)


def _gap(photos: Sequence[PhotoResult], metric: GapMetric) -> tuple[float | None, Interval | None]:
    known = [photo for photo in photos if photo.rows["ceiling"] is not None]
    if not known:
        return None, None
    gains = np.array([_gain(photo, metric) for photo in known])
    share = gap_closed(gains)
    groups = [photo.task.item.group for photo in known]
    return share, None if share is None else bootstrap_interval(gains, groups)


def _gain(photo: PhotoResult, metric: GapMetric) -> tuple[float, float]:
    """What the model gains over the identity, and what the exact warp would; more is better."""
    identity, model = photo.figures("identity"), photo.figures("model")
    if metric == "epe_px":
        before, after = identity["epe_px"], model["epe_px"]
        assert before is not None
        assert after is not None
        return before - after, before
    ceiling = photo.rows["ceiling"]
    assert ceiling is not None
    before = identity["total_score"]
    return model["total_score"] - before, ceiling["total_score"] - before
