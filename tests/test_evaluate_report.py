"""The page of an evaluation: whole, harmless, and readable by nothing but a browser."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from data_helpers import save
from evaluate_helpers import LENS, OTHER, bend, make_pair, says
from jinja2 import UndefinedError
from PIL import Image

from warp_train.evaluation.evaluate import Evaluation, evaluate
from warp_train.evaluation.measuring import PhotoResult, Task
from warp_train.evaluation.report.charts import Frame, Series, bin_edges, histogram
from warp_train.evaluation.report.page import render_report
from warp_train.evaluation.report.photos import choose, show
from warp_train.evaluation.report.templates import render
from warp_train.evaluation.results_table import evaluation_table

VOID = {"meta", "img", "input", "line", "rect", "circle", "br"}
NASTY = "<img src=x onerror=alert(1)>&\"'_g0"


class Page(HTMLParser):
    """Tags, attributes and text of a page whose elements must be nested properly."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def attributes(self, tag: str, name: str) -> list[str]:
        return [attrs[name] or "" for t, attrs in self.tags if t == tag and name in attrs]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    folder = tmp_path_factory.mktemp("pairs")
    items = []
    for i in range(12):
        k1, *others = LENS if i % 2 else OTHER
        lens = (k1 + 0.01 * (i - 1), *others)  # no two errors are the same
        items.append(make_pair(folder, f"h{i // 2}_g{i}", lens, seed=i, tier="<b>&"))
    items[5].input.write_text("no image")
    return evaluate(says(LENS, OTHER), items, workers=0)


@pytest.fixture(scope="module")
def html(found: Evaluation) -> str:
    return render_report(found, model="runs/<mine>", data="photos & more")


def test_the_page_is_well_formed_and_names_its_subject(html: str) -> None:
    text = " ".join(Page(html).text)
    for part in ("runs/<mine>", "photos & more", "11 photos of 6 groups", "1 could not be read"):
        assert part in text
    assert "$" not in html


def test_nothing_is_fetched_from_anywhere(html: str) -> None:
    page = Page(html)
    assert not [tag for tag, _ in page.tags if tag in ("link", "iframe", "object", "base", "a")]
    sources = [value for tag in ("img", "script") for value in page.attributes(tag, "src")]
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert not re.search(r"https?:|url\(|@import", html)
    assert "default-src 'none'" in html


def test_the_pictures_decode_and_have_the_size_that_is_stated(html: str) -> None:
    pictures = [attrs for tag, attrs in Page(html).tags if tag == "img"]
    assert len(pictures) == 3 * 9
    for attrs in pictures:
        data = base64.b64decode((attrs["src"] or "").partition(",")[2], validate=True)
        picture = Image.open(io.BytesIO(data))
        picture.load()
        assert (str(picture.width), str(picture.height)) == (attrs["width"], attrs["height"])
        assert attrs["alt"]


def test_every_slider_can_be_reached_and_says_what_it_is(html: str) -> None:
    sliders = [attrs for tag, attrs in Page(html).tags if tag == "input"]
    assert len(sliders) == 9
    assert all(attrs["type"] == "range" and attrs["aria-label"] for attrs in sliders)


def test_names_cannot_become_markup(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, NASTY)
    lost = make_pair(tmp_path, f"lost {NASTY}")
    lost.target.unlink()
    page = Page(render_report(evaluate(says(LENS), [pair, lost]), model=NASTY, data=NASTY))
    assert "x" not in page.attributes("img", "src")
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert any(NASTY in text for text in page.text)
    assert f"{NASTY}, corrected" in page.attributes("img", "alt")


def test_what_the_report_shows_is_photo_correction_and_truth(found: Evaluation) -> None:
    photo = next(p for p in found.photos if p.task.item.image_id == "h0_g1")
    case = show(photo)
    before, after, truth = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))), np.float32)
        for uri in (case.before, case.after, case.truth)
    )
    assert np.abs(after - truth).mean() < 0.35 * np.abs(before - truth).mean()


def test_best_median_and_worst_are_in_order_and_shown_once(found: Evaluation) -> None:
    chosen = choose(found.photos)
    errors = {rank: [p.rows["model"]["epe_px"] for p in chosen[rank]] for rank in chosen}
    ordered = sorted(p.rows["model"]["epe_px"] for p in found.photos)
    assert errors["best"] == ordered[:3]
    assert errors["worst"] == ordered[:-4:-1]
    assert errors["median"] == ordered[4:7]


@pytest.mark.parametrize(("count", "expected"), [(1, [1, 0, 0]), (4, [3, 0, 1]), (7, [3, 1, 3])])
def test_few_photos_are_shown_once(found: Evaluation, count: int, expected: list[int]) -> None:
    chosen = choose(found.photos[:count])
    assert [len(photos) for photos in chosen.values()] == expected
    ids = [p.task.item.image_id for photos in chosen.values() for p in photos]
    assert len(set(ids)) == count


def test_where_no_warp_is_known_photos_are_ranked_by_score(tmp_path: Path) -> None:
    items = [make_pair(tmp_path, f"p{i}", (LENS, OTHER)[i % 2], known=False) for i in range(3)]
    found = evaluate(says(LENS), items)
    scores = [p.rows["model"]["total_score"] for p in choose(found.photos)["best"]]
    assert scores == sorted(scores, reverse=True)
    page = render_report(found, model="m", data="d")
    assert "Best by score" in page
    assert "gap closed</h3>" not in page


def test_the_page_stays_small_whatever_the_photos(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (700, 900, 3), dtype=np.uint8)
    item = make_pair(tmp_path, "noise")
    save(item.input, bend(noise, LENS))
    save(item.target, noise)
    task = Task(item, np.array(LENS), None, "lens", ())
    case = show(PhotoResult(task, (700, 900), {}))
    assert case.size == (498, 640)
    assert max(len(uri) for uri in (case.before, case.after, case.truth)) < 250_000


def test_bins_are_round_hold_every_value_and_have_an_edge_at_zero() -> None:
    rng = np.random.default_rng(0)
    for values in (rng.exponential(3, 90), rng.normal(0, 0.1, 90), [0.0], [-0.2], [5.0] * 4):
        edges = bin_edges(list(values))
        assert min(abs(edge) for edge in edges) < 1e-12
        assert 2 <= len(edges) <= 25
        step = edges[1] - edges[0]
        assert f"{step:.3e}"[0] in "125"
        assert min(0.0, *values) >= edges[0] - 1e-9
        counts = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
        assert counts.sum() == len(values)


def test_one_photo_gone_wild_does_not_flatten_the_rest() -> None:
    edges = bin_edges([*np.linspace(1, 4, 50), 1e6])
    assert 4 <= edges[-1] < 20


def test_a_histogram_names_every_bar() -> None:
    svg = histogram([Series("a < b", "bar-model", [0.5, 0.6, 2.5])], "px & more")
    page = Page(svg)
    counts = [int(found[1]) for text in page.text if (found := re.search(r": (\d+) photos", text))]
    assert sum(counts) == 3
    assert "px & more" in page.text


def test_a_template_without_one_of_its_values_is_an_error() -> None:
    frame = Frame(width=9, height=9, left=1, right=8, top=1, floor=8)
    values = {"frame": frame, "axis": "px", "rules": [], "bars": [], "ticks": []}
    assert 'aria-label="a"' in render("histogram.svg.jinja", label="a", **values)
    with pytest.raises(UndefinedError, match="label"):
        render("histogram.svg.jinja", **values)


def test_a_page_can_be_written_whatever_bytes_are_in_a_name(found: Evaluation) -> None:
    page = render_report(found, model="m", data="photos \udcff")
    assert b"photos \\udcff" in page.encode()


def test_a_drawing_is_markup_and_its_texts_are_not() -> None:
    svg = histogram([Series("<i>", "bar-model", [1.0])], "a < b")
    assert "<i>" not in svg
    assert "a &lt; b" in svg
    assert Page(svg).tags[0][0] == "svg"


def test_the_table_ends_with_the_error_that_was_expected_and_the_one_that_was_made(
    found: Evaluation,
) -> None:
    *_, last = evaluation_table(found).split("\n\n")
    header, _, *tenths = last.splitlines()
    assert header.split("  ") == ["by expected error", "photos", "expected_error_px", "epe_px"]
    assert [row.split()[:2] for row in tenths] == [["tenth", str(n)] for n in range(1, 11)]
