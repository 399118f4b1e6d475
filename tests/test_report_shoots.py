"""The section of shoots in the report of an evaluation."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluate_helpers import LENS, OTHER, make_pair, says
from test_evaluate_report import Page

from warp_train.evaluation.evaluate import Evaluation, evaluate
from warp_train.evaluation.measuring import AppliedWarp, OneLens, PhotoResult
from warp_train.evaluation.report.dots import Dot, Row, dot_rows
from warp_train.evaluation.report.page import render_report

NASTY = "<b>&\"'"
AWAY = (0.5, 1.5, 6.0)
EXPECTED = (0.25, 1.0, 0.75)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    folder = tmp_path_factory.mktemp("pairs")
    return evaluate(says(LENS), [make_pair(folder, f"p{i}", OTHER, seed=i) for i in range(4)])


def in_shoot(photo: PhotoResult, place: int) -> PhotoResult:
    """The photo as the one at `place` of a shoot, of which the last contradicts the others."""
    applied = AppliedWarp(np.array(LENS), None, "lens")
    lens = OneLens(applied, np.array(OTHER), 0.4, AWAY[place], place == len(AWAY) - 1)
    item = replace(photo.task.item, extra={"shoot": NASTY})
    task = replace(photo.task, item=item, one_lens=lens, expected_error_px=EXPECTED[place])
    return replace(photo, task=task, rows={**photo.rows, "one_lens": photo.rows["ceiling"]})


@pytest.fixture(scope="module")
def html(alone: Evaluation) -> str:
    members = [in_shoot(photo, place) for place, photo in enumerate(alone.photos[:3])]
    found = replace(alone, photos=[*members, alone.photos[3]])
    return render_report(found, model="m", data="d")


def section(html: str) -> str:
    return html.partition("<h2>Shoots</h2>")[2].partition("<h2>Modes</h2>")[0]


def test_without_shoots_there_is_no_section(alone: Evaluation) -> None:
    page = render_report(alone, model="m", data="d")
    assert "<h2>Shoots</h2>" not in page
    assert "<h2>Modes</h2>" in page


def test_the_table_has_the_common_lens_and_the_errors_with_and_without_it(
    html: str, alone: Evaluation
) -> None:
    (row,) = re.findall(r'<tr><th scope="row">(.*?)</tr>', section(html))
    name, *cells = re.split(r"</th><td>|</td><td>|</td>", row.removesuffix("</td>"))
    own = np.mean([photo.figures("model")["epe_px"] for photo in alone.photos[:3]])
    assert name == "&lt;b&gt;&amp;&#34;&#39;"
    assert cells == [
        *("3", "1", *(f"{value:.4f}" for value in OTHER[:3])),
        *("0.40", f"{np.mean(AWAY):.2f}", f"{own:.2f}", "0.00"),
    ]


def test_who_was_left_out_is_named_with_the_reason(html: str) -> None:
    lines = [text for text in Page(section(html)).text if "from that of the others" in text]
    assert lines == [
        f"p2 of {NASTY}: its own lens is 6.00 px from that of the others, with an expected error "
        "of 0.75 px"
    ]


def test_each_photo_is_a_dot_with_its_expected_error(html: str) -> None:
    page = Page(section(html))
    ticks = re.findall(r'<text class="tick" x="([\d.]+)"[^>]*>([\d.]+)</text>', section(html))
    start, end = (next(float(x) for x, text in ticks if text == t) for t in ("0", "2"))
    dots = [
        (float(circle["cx"] or 0), float(line["x1"] or 0), float(line["x2"] or 0))
        for (_, line), (_, circle) in zip(page.tags, page.tags[1:], strict=False)
        if circle.keys() >= {"cx"}
    ]
    drawn = [tuple(2 * (x - start) / (end - start) for x in dot) for dot in dots]
    wanted = [(a, max(a - e, 0), a + e) for a, e in zip(AWAY, EXPECTED, strict=True)]
    np.testing.assert_allclose(drawn, wanted, atol=0.01)
    styles = [attrs["class"] for tag, attrs in page.tags if tag == "g"]
    assert styles == ["dot", "dot", "dot-out"]
    (bar,) = (attrs for tag, attrs in page.tags if tag == "rect")
    assert 2 * float(bar["width"] or 0) / (end - start) == pytest.approx(0.4, abs=0.01)


def test_many_photos_and_one_gone_wild_stay_inside_the_drawing(tmp_path: Path) -> None:
    dots = [Dot("dot", 1 + n / 100, 0.5, f"{n}") for n in range(200)]
    svg = dot_rows([Row("a" * 50, 0.3, [*dots, Dot("dot-out", 1e6, 1.0, "wild")])], "px")
    width, height = map(float, re.findall(r'viewBox="0 0 (\d+) (\d+)"', svg)[0])
    assert height < 200
    numbers = re.findall(r' (?:x|x1|x2|cx)="([\d.]+)"', svg)
    assert max(map(float, numbers)) <= width
    assert max(map(float, re.findall(r' (?:y|y1|y2|cy)="([\d.]+)"', svg))) <= height
    assert "wild" in svg
    first = float(re.findall(r'cx="([\d.]+)"', svg)[0])
    assert first > 200  # the rest is not flattened
