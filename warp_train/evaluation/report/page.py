"""The report of an evaluation: one page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Literal, NamedTuple, get_args

from markupsafe import Markup

from warp_train import __version__
from warp_train.evaluation.evaluate import Evaluation, tier_of
from warp_train.evaluation.measuring import FailedPhoto, PhotoResult
from warp_train.evaluation.report.charts import Series, histogram
from warp_train.evaluation.report.photos import Showcase, choose, ranked_by_epe, show
from warp_train.evaluation.report.shoots import (
    SHOOT_HEADER,
    drawing,
    left_out_lines,
    measured_shoots,
    omitted,
    shoot_rows,
)
from warp_train.evaluation.report.templates import render
from warp_train.evaluation.results_table import (
    GAP_HEADER,
    HEADER,
    STRAIGHT_HEADER,
    block_rows,
    blocks,
    gap_rows,
    interval,
    straight_rows,
)
from warp_train.inference.fallback import Mode
from warp_train.runtime.tables import UNKNOWN, Cells, cell

_TEMPLATE = "page.html.jinja"
_MOST_LINES = 30


class Tile(NamedTuple):
    """One of the figures to read first."""

    name: str
    value: str
    note: str


class Table(NamedTuple):
    header: Cells
    rows: Sequence[Cells]


class Chart(NamedTuple):
    title: str
    series: Sequence[Series]
    drawing: Markup


class Shoots(NamedTuple):
    """The shoots with a common lens."""

    table: Table
    drawing: Markup
    omitted: str
    left_out: Sequence[str]


class Case(NamedTuple):
    """A photo to look at: its pictures as data URIs, and what is known of it."""

    name: str
    facts: str
    refused: Sequence[str]
    before: str
    after: str
    truth: str
    height: int
    width: int


def render_report(evaluation: Evaluation, *, model: str, data: str) -> str:
    """The page as HTML. It reads the photos that it shows once more.

    Args:
        model, data: what was evaluated on what, as the user named them.
    """
    return render(
        _TEMPLATE,
        model=model,
        data=data,
        model_hash=evaluation.model_hash,
        version=__version__,
        photos=_count(len(evaluation.photos), "photo"),
        groups=_count(evaluation.totals["groups"], "group"),
        failed=len(evaluation.failed),
        tiles=_tiles(evaluation),
        tables=_tables(evaluation),
        charts=_charts(evaluation.photos),
        shoots=_shoots(evaluation.photos),
        modes=_modes(evaluation.photos),
        showcases=_showcases(evaluation.photos),
        failures=_failures(evaluation.failed),
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _tiles(evaluation: Evaluation) -> list[Tile]:
    """The four figures to read first."""
    totals = evaluation.totals
    identity, model, ceiling = totals["identity"], totals["model"], totals["ceiling"]
    share, spread = totals["gap_closed"], totals["gap_closed_interval"]
    best = "" if ceiling is None else f", exact warp {ceiling['total_score']:.3f}"
    score = f"identity {identity['total_score']:.3f}{best}"
    folds = f"{model['negative_det_pct']:.3f} %"
    tiles = [
        Tile("score", f"{model['total_score']:.3f}", score),
        Tile("folds", folds, "of the pixel cells, after the fall-back"),
    ]
    if model["epe_px"] is not None:
        error = f"identity {cell(identity['epe_px'], '.2f')} px"
        tiles.insert(0, Tile("end-point error", f"{model['epe_px']:.2f} px", error))
    if share["epe_px"] is not None:
        sure = f"of the end-point error, 95 %: {interval(spread['epe_px'], '.1%')}"
        tiles.insert(1, Tile("gap closed", f"{share['epe_px']:.1%}", sure))
    return tiles


def _tables(evaluation: Evaluation) -> list[Table]:
    named = blocks(evaluation)
    parts = [Table((name, *HEADER[1:]), block_rows(totals)) for name, totals in named.items()]
    if evaluation.totals["ceiling"] is not None:
        parts.append(Table(GAP_HEADER, gap_rows(named)))
    straight = straight_rows(named)
    return [*parts, Table(STRAIGHT_HEADER, straight)] if straight else parts


def _charts(photos: Sequence[PhotoResult]) -> list[Chart]:
    charts = []
    known = [photo for photo in photos if photo.figures("model")["epe_px"] is not None]
    if known:
        identity = [photo.figures("identity")["epe_px"] or 0.0 for photo in known]
        model = [photo.figures("model")["epe_px"] or 0.0 for photo in known]
        series = (Series("identity", "bar-identity", identity), Series("model", "bar-model", model))
        drawing = histogram(series, "end-point error of a photo, px")
        charts.append(Chart("End-point error", series, drawing))
    gains = [_score_gain(photo) for photo in photos]
    parts = (
        Series("better", "bar-better", [gain for gain in gains if gain > 0]),
        Series("worse", "bar-worse", [gain for gain in gains if gain < 0]),
        Series("the same", "bar-identity", [gain for gain in gains if gain == 0]),
    )
    some = [part for part in parts if part.values]
    drawing = histogram(some, "difference of a photo's score")
    return [*charts, Chart("Score, model − identity", some, drawing)]


def _shoots(photos: Sequence[PhotoResult]) -> Shoots | None:
    """None if no photo has a shoot."""
    found = measured_shoots(photos)
    if not found:
        return None
    table = Table(SHOOT_HEADER, shoot_rows(found))
    return Shoots(table, drawing(found), omitted(found), _first(left_out_lines(found)))


def _modes(photos: Sequence[PhotoResult]) -> Table:
    """How often each mode was used, and how far it could be relied on."""
    rows: list[Cells] = []
    for mode in get_args(Mode):
        used = [photo for photo in photos if photo.task.mode == mode]
        if not used:
            continue
        worse = sum(_score_gain(photo) < 0 for photo in used)
        rows.append(
            (
                mode,
                str(len(used)),
                f"{len(used) / len(photos):.1%}",
                f"{_mean_epe(used, 'identity')} → {_mean_epe(used, 'model')}",
                f"{fmean(_score_gain(photo) for photo in used):+.4f}",
                f"{worse / len(used):.1%}",
            )
        )
    return Table(("mode", "photos", "share", "epe_px", "score gained", "made worse"), rows)


def _mean_epe(photos: Sequence[PhotoResult], row: Literal["identity", "model"]) -> str:
    errors = [photo.figures(row)["epe_px"] for photo in photos]
    known = [error for error in errors if error is not None]
    return f"{fmean(known):.2f}" if known else UNKNOWN


def _score_gain(photo: PhotoResult) -> float:
    return photo.figures("model")["total_score"] - photo.figures("identity")["total_score"]


def _showcases(photos: Sequence[PhotoResult]) -> dict[str, list[Case]]:
    """The best, the median and the worst photos, by the title above them."""
    by = "end-point error" if ranked_by_epe(photos) else "score"
    return {
        f"{rank.capitalize()} by {by}": [_case(show(photo)) for photo in chosen]
        for rank, chosen in choose(photos).items()
        if chosen
    }


def _case(shown: Showcase) -> Case:
    task = shown.photo.task
    identity, model = shown.photo.figures("identity"), shown.photo.figures("model")
    facts = [task.mode, f"score {identity['total_score']:.3f} → {model['total_score']:.3f}"]
    if model["epe_px"] is not None:
        facts.insert(1, f"{cell(identity['epe_px'], '.2f')} → {model['epe_px']:.2f} px")
    tier = tier_of(task.item)
    if tier is not None:
        facts.insert(0, f"tier {tier}")
    pictures = (shown.before, shown.after, shown.truth)
    return Case(task.item.image_id, " · ".join(facts), task.refused, *pictures, *shown.size)


def _failures(failed: Sequence[FailedPhoto]) -> list[str]:
    """A line for each photo that was not read, up to a limit."""
    return _first([failure["error"] for failure in failed])


def _first(lines: list[str]) -> list[str]:
    """The lines, up to a limit."""
    more = len(lines) - _MOST_LINES
    return [*lines[:_MOST_LINES], f"and {more} more"] if more > 0 else lines
