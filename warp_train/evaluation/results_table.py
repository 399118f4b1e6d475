"""The totals of an evaluation as tables: for the terminal, and as cells for the report."""

from __future__ import annotations

from collections.abc import Mapping

from warp_train.evaluation.evaluate import Evaluation
from warp_train.evaluation.measuring import ROWS
from warp_train.evaluation.statistics import GapMetric, Interval, RowTotals, Totals
from warp_train.metrics import WEIGHTS
from warp_train.runtime.tables import UNKNOWN, Cells, cell, ratio, text_table

HEADER: Cells = (
    "",
    "photos",
    "epe_px",
    "vs identity",
    "total_score",
    *WEIGHTS,
    "folds %",
    "outside %",
)
GAP_HEADER: Cells = ("gap closed", "groups", "epe_px", "95 %", "total_score", "95 %")

STRAIGHT = "already straight"
STRAIGHT_HEADER: Cells = (STRAIGHT, "photos", "changed %", "epe_px", "95 %", "p90", "worst")

RELIABILITY_HEADER: Cells = ("by expected error", "photos", "expected_error_px", "epe_px")

ALL = "all photos"
_TENTHS = 10


def blocks(evaluation: Evaluation) -> dict[str, Totals]:
    """The totals by heading: each tier, then all photos."""
    return {**{f"tier {name}": t for name, t in evaluation.tiers.items()}, ALL: evaluation.totals}


def block_rows(totals: Totals) -> list[Cells]:
    """A row for each of identity, fixed warp, model, one lens (where photos have a shoot) and
    ceiling, under `HEADER`.

    Then one for the targets as inputs, which has no other figure than the harm done to them.
    """
    shown = [name for name in ROWS if name != "one_lens" or totals[name] is not None]
    rows = [_row(name.replace("_", " "), totals[name], totals["identity"]) for name in shown]
    straight = totals["already_straight"]
    if straight is not None:
        figures = (str(straight["photos"]), f"{straight['epe_px']:.3f}")
        rows.append((STRAIGHT, *figures, *(UNKNOWN for _ in HEADER[3:])))
    return rows


def gap_rows(named: Mapping[str, Totals]) -> list[Cells]:
    """A row for each block, under `GAP_HEADER`."""
    return [
        (name, str(totals["groups"]), *_gap(totals, "epe_px"), *_gap(totals, "total_score"))
        for name, totals in named.items()
    ]


def straight_rows(named: Mapping[str, Totals]) -> list[Cells]:
    """A row for each block with targets that the model saw as inputs, under `STRAIGHT_HEADER`."""
    return [
        (
            name,
            str(straight["photos"]),
            f"{100 * straight['changed_share']:.1f}",
            f"{straight['epe_px']:.3f}",
            interval(straight["epe_px_interval"], ".3f"),
            f"{straight['epe_px_p90']:.3f}",
            f"{straight['epe_px_worst']:.3f}",
        )
        for name, totals in named.items()
        if (straight := totals["already_straight"]) is not None
    ]


def reliability_rows(evaluation: Evaluation) -> list[Cells]:
    """Photos in tenths by the error that the model expects, under `RELIABILITY_HEADER`.

    Empty with fewer than ten photos of known warp.
    """
    known = []
    for photo in evaluation.photos:
        error = photo.figures("model")["epe_px"]
        if error is not None and photo.task.expected_error_px is not None:
            known.append((photo.task.expected_error_px, error))
    known.sort()
    if len(known) < _TENTHS:
        return []
    rows: list[Cells] = []
    for tenth in range(_TENTHS):
        part = known[len(known) * tenth // _TENTHS : len(known) * (tenth + 1) // _TENTHS]
        expected, error = (sum(values) / len(part) for values in zip(*part, strict=True))
        rows.append((f"tenth {tenth + 1}", str(len(part)), f"{expected:.3f}", f"{error:.3f}"))
    return rows


def evaluation_table(evaluation: Evaluation) -> str:
    """All totals as text: a table for each tier and for all photos, then one for each question."""
    named = blocks(evaluation)
    parts = [text_table((name, *HEADER[1:]), block_rows(totals)) for name, totals in named.items()]
    if evaluation.totals["ceiling"] is not None:
        parts.append(text_table(GAP_HEADER, gap_rows(named)))
    straight = straight_rows(named)
    if straight:
        parts.append(text_table(STRAIGHT_HEADER, straight))
    reliability = reliability_rows(evaluation)
    if reliability:
        parts.append(text_table(RELIABILITY_HEADER, reliability))
    return "\n\n".join(parts)


def interval(value: Interval | None, form: str) -> str:
    """`low … high`, or a dash."""
    return UNKNOWN if value is None else f"{value[0]:{form}} … {value[1]:{form}}"


def _row(name: str, row: RowTotals | None, identity: RowTotals) -> Cells:
    if row is None:
        return (name, *(UNKNOWN for _ in HEADER[1:]))
    return (
        name,
        str(row["photos"]),
        cell(row["epe_px"], ".3f"),
        cell(ratio(row["epe_px"], identity["epe_px"]), ".3f"),
        cell(row["total_score"], ".4f"),
        *(cell(row["sub_scores"][sub], ".3f") for sub in WEIGHTS),
        cell(row["negative_det_pct"], ".3f"),
        cell(100 * row["oob_ratio"], ".2f"),
    )


def _gap(totals: Totals, metric: GapMetric) -> Cells:
    return (
        cell(totals["gap_closed"][metric], ".3f"),
        interval(totals["gap_closed_interval"][metric], ".3f"),
    )
