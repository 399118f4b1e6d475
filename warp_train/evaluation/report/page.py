"""The report of an evaluation: one page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import resources
from statistics import fmean
from string import Template
from typing import Literal, get_args

from warp_train import __version__
from warp_train.evaluation.evaluate import Evaluation, tier_of
from warp_train.evaluation.measuring import FailedPhoto, PhotoResult, printable
from warp_train.evaluation.report.charts import Series, histogram
from warp_train.evaluation.report.photos import Showcase, choose, ranked_by_epe, show
from warp_train.evaluation.results_table import (
    GAP_HEADER,
    HEADER,
    block_rows,
    blocks,
    gap_rows,
    interval,
)
from warp_train.inference.fallback import Mode
from warp_train.runtime.tables import UNKNOWN, Cells, cell

_TEMPLATE = "template.html"
_MOST_FAILURES = 30


def render_report(evaluation: Evaluation, *, model: str, data: str) -> str:
    """The page as HTML. It reads the photos that it shows once more.

    Args:
        model, data: what was evaluated on what, as the user named them.
    """
    page = resources.files("warp_train.evaluation.report").joinpath(_TEMPLATE).read_text("utf-8")
    failed = len(evaluation.failed)
    return Template(page).substitute(
        model=_text(model),
        data=_text(data),
        model_hash=_text(evaluation.model_hash),
        version=_text(__version__),
        photos=_count(len(evaluation.photos), "photo"),
        groups=_count(evaluation.totals["groups"], "group"),
        failed=f", {failed} could not be read" if failed else "",
        tiles=_tiles(evaluation),
        tables=_tables(evaluation),
        charts=_charts(evaluation.photos),
        modes=_modes(evaluation.photos),
        showcases=_showcases(evaluation.photos),
        failures=_failures(evaluation.failed),
    )


def _text(value: str) -> str:
    return escape(printable(value))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _tiles(evaluation: Evaluation) -> str:
    """The four figures to read first."""
    totals = evaluation.totals
    identity, model, ceiling = totals["identity"], totals["model"], totals["ceiling"]
    share, spread = totals["gap_closed"], totals["gap_closed_interval"]
    best = "" if ceiling is None else f", exact warp {ceiling['total_score']:.3f}"
    tiles = [
        ("score", f"{model['total_score']:.3f}", f"identity {identity['total_score']:.3f}{best}"),
        ("folds", f"{model['negative_det_pct']:.3f} %", "of the pixel cells, after the fall-back"),
    ]
    if model["epe_px"] is not None:
        error = f"identity {cell(identity['epe_px'], '.2f')} px"
        tiles.insert(0, ("end-point error", f"{model['epe_px']:.2f} px", error))
    if share["epe_px"] is not None:
        sure = f"of the end-point error, 95 %: {interval(spread['epe_px'], '.1%')}"
        tiles.insert(1, ("gap closed", f"{share['epe_px']:.1%}", sure))
    return "".join(
        f'<div class="tile"><h3>{name}</h3><p class="figure">{value}</p><p>{note}</p></div>'
        for name, value, note in tiles
    )


def _tables(evaluation: Evaluation) -> str:
    named = blocks(evaluation)
    parts = [_table((name, *HEADER[1:]), block_rows(totals)) for name, totals in named.items()]
    if evaluation.totals["ceiling"] is not None:
        parts.append(_table(GAP_HEADER, gap_rows(named)))
    return "".join(parts)


def _table(header: Cells, rows: Sequence[Cells]) -> str:
    head = "".join(f'<th scope="col">{_text(name)}</th>' for name in header)
    body = "".join(
        f'<tr><th scope="row">{_text(row[0])}</th>'
        + "".join(f"<td>{_text(value)}</td>" for value in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{_text(header[0])}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _charts(photos: Sequence[PhotoResult]) -> str:
    charts = []
    known = [photo for photo in photos if photo.figures("model")["epe_px"] is not None]
    if known:
        identity = [photo.figures("identity")["epe_px"] or 0.0 for photo in known]
        model = [photo.figures("model")["epe_px"] or 0.0 for photo in known]
        series = (Series("identity", "bar-identity", identity), Series("model", "bar-model", model))
        charts.append(_chart("End-point error", series, "end-point error of a photo, px"))
    gains = [_score_gain(photo) for photo in photos]
    parts = (
        Series("better", "bar-better", [gain for gain in gains if gain > 0]),
        Series("worse", "bar-worse", [gain for gain in gains if gain < 0]),
        Series("the same", "bar-identity", [gain for gain in gains if gain == 0]),
    )
    some = [part for part in parts if part.values]
    charts.append(_chart("Score, model − identity", some, "difference of a photo's score"))
    return "".join(charts)


def _chart(title: str, series: Sequence[Series], axis: str) -> str:
    legend = "".join(
        f'<li><span class="key {one.style}"></span>{one.label} ({len(one.values)})</li>'
        for one in series
    )
    return (
        f'<figure class="chart"><figcaption>{title}</figcaption>'
        f'<ul class="legend">{legend}</ul>{histogram(series, axis)}</figure>'
    )


def _modes(photos: Sequence[PhotoResult]) -> str:
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
    return _table(("mode", "photos", "share", "epe_px", "score gained", "made worse"), rows)


def _mean_epe(photos: Sequence[PhotoResult], row: Literal["identity", "model"]) -> str:
    errors = [photo.figures(row)["epe_px"] for photo in photos]
    known = [error for error in errors if error is not None]
    return f"{fmean(known):.2f}" if known else UNKNOWN


def _score_gain(photo: PhotoResult) -> float:
    return photo.figures("model")["total_score"] - photo.figures("identity")["total_score"]


def _showcases(photos: Sequence[PhotoResult]) -> str:
    by = "end-point error" if ranked_by_epe(photos) else "score"
    return "".join(
        f"<section><h3>{rank.capitalize()} by {by}</h3>"
        + "".join(_showcase(show(photo)) for photo in chosen)
        + "</section>"
        for rank, chosen in choose(photos).items()
        if chosen
    )


def _showcase(case: Showcase) -> str:
    task, name = case.photo.task, _text(case.photo.task.item.image_id)
    identity, model = case.photo.figures("identity"), case.photo.figures("model")
    height, width = case.size
    size = f'width="{width}" height="{height}"'
    facts = [task.mode, f"score {identity['total_score']:.3f} → {model['total_score']:.3f}"]
    if model["epe_px"] is not None:
        facts.insert(1, f"{cell(identity['epe_px'], '.2f')} → {model['epe_px']:.2f} px")
    tier = tier_of(task.item)
    if tier is not None:
        facts.insert(0, f"tier {tier}")
    refused = "".join(f'<p class="refused">not safe as {_text(line)}</p>' for line in task.refused)
    return (
        f'<article class="case"><h4>{name}</h4><p class="facts">{_text(" · ".join(facts))}</p>'
        f'{refused}<div class="pictures"><figure><div class="compare">'
        f'<img {size} src="{case.after}" alt="{name}, corrected">'
        f'<img class="before" {size} src="{case.before}" alt="{name}, as it is">'
        f'<input type="range" min="0" max="100" value="50" step="any" '
        f'aria-label="{name}: how much of it is shown as it is, in percent">'
        '<span class="handle" aria-hidden="true"></span></div>'
        '<figcaption class="ends"><span>before</span><span>after</span></figcaption></figure>'
        f'<figure><img {size} src="{case.truth}" alt="{name}, the truth">'
        "<figcaption>truth</figcaption></figure></div></article>"
    )


def _failures(failed: Sequence[FailedPhoto]) -> str:
    if not failed:
        return ""
    lines = [f"<li>{_text(failure['error'])}</li>" for failure in failed[:_MOST_FAILURES]]
    if len(failed) > _MOST_FAILURES:
        lines.append(f"<li>and {len(failed) - _MOST_FAILURES} more</li>")
    return f"<section><h2>Not read</h2><ul>{''.join(lines)}</ul></section>"
