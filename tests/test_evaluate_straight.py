"""What `evaluate` finds of photos that are straight already: the targets of the pairs as inputs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from data_helpers import save, textured
from evaluate_helpers import LENS, OTHER, SIZE, Says, make_pair, mean_shift, says

from warp_train.data.sources.manifest import PairItem
from warp_train.evaluation.evaluate import Evaluation, evaluate
from warp_train.evaluation.measuring import PhotoResult
from warp_train.evaluation.report.page import render_report
from warp_train.evaluation.results_table import evaluation_table
from warp_train.evaluation.statistics import straight_totals, total
from warp_train.geometry import IDENTITY_PARAMS
from warp_train.inference.predictor import Predictor
from warp_train.inference.straightener import Straightener


class Unsure(Says):
    """Expects an error of 50 % of the half diagonal."""

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        return super().forward(image) | {"uncertainty": torch.tensor([50.0])}


class Sees(Says):
    """Finds the lens in photos whose first pixel is not black."""

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        lens = self.lens if image[0, :, 0, 0].any() else IDENTITY_PARAMS
        return super().forward(image) | {"params": torch.tensor([lens])}


def harmed(photo: PhotoResult, moved: float, group: str, target: str) -> PhotoResult:
    """`photo`, as if its target were another file that is moved by `moved` px."""
    item = replace(photo.task.item, group=group, target=Path(target))
    figures = {"epe_px": moved, "mode_used": "lens", "expected_error_px": None}
    return replace(photo, task=replace(photo.task, item=item), straight=figures)


def rows_of(found: Evaluation, name: str) -> list[list[str]]:
    lines = evaluation_table(found).splitlines()
    return [line.removeprefix(name).split() for line in lines if line.startswith(name)]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> PairItem:
    return make_pair(tmp_path_factory.mktemp("pair"), "h1_g0", OTHER)


@pytest.mark.parametrize("size", [SIZE, (120, 90)])
def test_the_harm_is_the_distance_by_which_the_lens_moves_a_straight_photo(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    item = make_pair(tmp_path, "a", OTHER, size=size)
    found = evaluate(says(LENS, size=size), [item])
    straight = found.photos[0].straight
    assert straight["epe_px"] == pytest.approx(mean_shift(LENS, IDENTITY_PARAMS, size), abs=1e-3)
    assert straight["mode_used"] == "lens"
    assert found.to_json()["images"][0]["already_straight"] == straight
    assert found.totals["already_straight"]["changed_share"] == 1


def test_a_network_that_sees_that_a_photo_is_straight_does_no_harm(tmp_path: Path) -> None:
    item = make_pair(tmp_path, "a", LENS)
    photo, straight = textured(*SIZE, 1), textured(*SIZE, 2)
    photo[0, 0], straight[0, 0] = 200, 0
    save(item.input, photo)
    save(item.target, straight)
    model = Sees(LENS, None, SIZE)
    found = evaluate(Straightener(Predictor(model, torch.device("cpu"), "0")), [item])
    assert found.totals["model"]["epe_px"] < 1e-3
    assert found.totals["already_straight"] == {
        "photos": 1,
        "epe_px": 0.0,
        "epe_px_interval": None,
        "epe_px_p90": 0.0,
        "epe_px_worst": 0.0,
        "changed_share": 0.0,
    }


def test_a_photo_that_is_left_alone_is_not_harmed(pair: PairItem) -> None:
    model = Unsure(LENS, None, SIZE)
    found = evaluate(Straightener(Predictor(model, torch.device("cpu"), "0")), [pair])
    straight = found.photos[0].straight
    assert straight["mode_used"] == "unchanged"
    assert straight["epe_px"] == found.totals["already_straight"]["changed_share"] == 0
    assert straight["expected_error_px"] > 10


def test_a_warp_that_would_fold_harms_as_what_replaces_it(pair: PairItem) -> None:
    folding = (-0.8, -0.8, -0.5, 0.0, 0.0, 0.0, 0.0, 0.7)
    photo = evaluate(says(folding), [pair]).photos[0]
    clamped = photo.task.params.tolist()
    assert photo.straight["mode_used"] == "lens_clamped"
    assert photo.straight["epe_px"] == pytest.approx(
        mean_shift(clamped, IDENTITY_PARAMS, SIZE), abs=1e-3
    )


def test_a_target_of_several_photos_counts_once_in_each_tier_and_in_all(tmp_path: Path) -> None:
    real = make_pair(tmp_path, "h1_g0", OTHER, tier="real")
    strong = make_pair(tmp_path, "h1_g1", LENS, tier="strong")
    (tmp_path / "linked.png").symlink_to(real.target)
    shared = replace(strong, target=tmp_path / "linked.png")
    own = make_pair(tmp_path, "h2_g0", LENS, tier="strong")
    found = evaluate(says(LENS), [real, shared, own])
    counts = [t["already_straight"]["photos"] for t in (*found.tiers.values(), found.totals)]
    assert counts == [1, 2, 2]
    assert [t["model"]["photos"] for t in (*found.tiers.values(), found.totals)] == [1, 2, 3]


def test_pairs_without_a_known_warp_have_straight_targets_too(tmp_path: Path) -> None:
    found = evaluate(says(LENS), [make_pair(tmp_path, "a", known=False)])
    assert found.totals["model"]["epe_px"] is None
    moved = mean_shift(LENS, IDENTITY_PARAMS, SIZE)
    assert found.totals["already_straight"]["epe_px"] == pytest.approx(moved, abs=1e-3)


def test_totals_of_known_harms(pair: PairItem) -> None:
    photo = evaluate(says(IDENTITY_PARAMS), [pair]).photos[0]
    harms = [0.0, *np.arange(1, 11)]
    photos = [harmed(photo, harm, f"h{i // 2}", f"{i}.png") for i, harm in enumerate(harms)]
    totals = straight_totals(photos)
    assert totals["photos"] == 11
    assert totals["epe_px"] == pytest.approx(5)
    assert totals["epe_px_p90"] == pytest.approx(9)
    assert totals["epe_px_worst"] == 10
    assert totals["changed_share"] == pytest.approx(10 / 11)
    low, high = totals["epe_px_interval"]
    # Means of 6 houses drawn from 6: normal theory, for houses that all had two photos.
    spread = 1.96 * np.std([0.5, 2.5, 4.5, 6.5, 8.5, 10]) / np.sqrt(6)
    assert (low, high) == pytest.approx((5 - spread, 5 + spread), abs=0.5)


def test_the_other_figures_do_not_depend_on_the_straight_photos(tmp_path: Path) -> None:
    items = [make_pair(tmp_path, f"h{i}_g0", (LENS, OTHER)[i % 2], seed=i) for i in range(4)]
    photos = evaluate(says(LENS, OTHER), items).photos
    without = total([replace(photo, straight=None) for photo in photos])
    assert without.pop("already_straight") is None
    whole = total(photos)
    assert whole.pop("already_straight") is not None
    assert without == whole


def test_a_target_that_cannot_be_read_is_a_failed_pair_and_no_straight_photo(
    tmp_path: Path,
) -> None:
    items = [make_pair(tmp_path, name) for name in ("good", "broken")]
    items[1].target.write_bytes(b"no image")
    found = evaluate(says(LENS), items)
    assert [failure["image_id"] for failure in found.failed] == ["broken"]
    assert found.totals["already_straight"]["photos"] == 1


def test_the_table_and_the_page_have_the_row(tmp_path: Path) -> None:
    items = [make_pair(tmp_path, f"h{i}_g0", OTHER, seed=i, tier="real") for i in range(2)]
    found = evaluate(says(LENS), items)
    moved = f"{mean_shift(LENS, IDENTITY_PARAMS, SIZE):.3f}"
    rows = rows_of(found, "already straight")
    tier, everything, header = rows
    assert tier == everything == ["2", moved, *"–" * 9]
    assert header == ["photos", "changed", "%", "epe_px", "95", "%", "p90", "worst"]
    last = rows_of(found, "all photos")[-1]
    assert last == ["2", "100.0", moved, moved, "…", moved, moved, moved]
    page = render_report(found, model="m", data="d")
    assert page.count('<th scope="row">already straight</th>') == 2
    assert '<th scope="col">already straight</th>' in page
