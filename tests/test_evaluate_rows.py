"""What `evaluate` measures of each pair, against OpenCV and closed forms."""

from pathlib import Path

import numpy as np
import pytest
import torch
from data_helpers import save, textured
from evaluate_helpers import LENS, OTHER, SIZE, make_pair, mean_shift, says, start_mishaps

from warp_train.data.frames import fit_ratio
from warp_train.evaluation import evaluate as evaluation
from warp_train.evaluation.evaluate import evaluate
from warp_train.evaluation.measuring import PhotoResult, apply_warp
from warp_train.geometry import IDENTITY_PARAMS, identity_grid, rescale_params
from warp_train.runtime.errors import WarpTrainError


@pytest.mark.parametrize("size", [SIZE, (120, 90), (101, 101)])
def test_end_point_errors_are_opencvs(tmp_path: Path, size: tuple[int, int]) -> None:
    item = make_pair(tmp_path, "a", LENS, size=size)
    rows = evaluate(says(IDENTITY_PARAMS, OTHER), [item]).photos[0].rows
    expected = {
        "identity": mean_shift(IDENTITY_PARAMS, LENS, size),
        "fixed_warp": mean_shift(OTHER, LENS, size),
        "model": mean_shift(IDENTITY_PARAMS, LENS, size),
        "ceiling": 0.0,
    }
    assert {name: row["epe_px"] for name, row in rows.items()} == pytest.approx(expected, abs=1e-3)


def test_the_end_point_error_of_a_zoom_is_known_in_closed_form(tmp_path: Path) -> None:
    zoom = 1.05
    item = make_pair(tmp_path, "a", (*IDENTITY_PARAMS[:7], zoom))
    rows = evaluate(says(IDENTITY_PARAMS), [item]).photos[0].rows
    x, y = np.meshgrid(
        np.arange(SIZE[1]) - (SIZE[1] - 1) / 2, np.arange(SIZE[0]) - (SIZE[0] - 1) / 2
    )
    expected = float(np.hypot(x, y).mean()) * (1 - 1 / zoom)
    assert rows["identity"]["epe_px"] == pytest.approx(expected, rel=1e-4)


def test_a_model_that_says_the_exact_lens_closes_the_gap(tmp_path: Path) -> None:
    size = (192, 288)  # twice that of training: measured at the photo's own resolution
    items = [make_pair(tmp_path, f"h{i}_g0", size=size, seed=i) for i in range(3)]
    lens = torch.tensor(LENS, dtype=torch.float64)
    seen = rescale_params(lens, fit_ratio(size, SIZE)).tolist()
    found = evaluate(says(seen), items)
    assert found.totals["model"]["epe_px"] < 1e-3
    assert found.totals["gap_closed"]["epe_px"] == pytest.approx(1, abs=1e-3)
    assert found.totals["gap_closed"]["total_score"] == pytest.approx(1, abs=0.02)
    assert found.totals["ceiling"]["total_score"] > found.totals["identity"]["total_score"] + 0.1
    assert found.photos[0].size == size


def test_a_model_that_says_nothing_closes_none_of_it(tmp_path: Path) -> None:
    found = evaluate(says(IDENTITY_PARAMS), [make_pair(tmp_path, "a"), make_pair(tmp_path, "b")])
    assert found.totals["gap_closed"] == {"epe_px": 0.0, "total_score": 0.0}
    assert found.totals["model"] == found.totals["identity"]


def test_the_identity_row_is_the_photo_bit_for_bit(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "a", IDENTITY_PARAMS)
    rows = evaluate(says(IDENTITY_PARAMS, IDENTITY_PARAMS), [pair]).photos[0].rows
    for row in rows.values():
        assert row["total_score"] == 1
        assert row["epe_px"] == row["oob_ratio"] == row["negative_det_pct"] == 0


def test_a_correction_is_rounded_as_a_file_of_it_would_be() -> None:
    ramp = np.repeat(np.arange(0, 60, 3, dtype=np.uint8)[None, :, None], 3, axis=2)
    grid = identity_grid(1, 20)[None] + torch.tensor([0.25 * 2 / 19, 0.0])
    assert (apply_warp(ramp, grid)[:, :-1] == ramp[:, :-1] + 1).all()  # 0.75 on


def test_where_the_warp_is_unknown_there_is_a_score_only(tmp_path: Path) -> None:
    found = evaluate(says(LENS, OTHER), [make_pair(tmp_path, "a", known=False)])
    rows = found.photos[0].rows
    assert rows["ceiling"] is None
    assert all(rows[name]["epe_px"] is None for name in ("identity", "fixed_warp", "model"))
    assert rows["model"]["total_score"] > rows["identity"]["total_score"]
    assert found.totals["ceiling"] is None
    assert found.totals["gap_closed"] == {"total_score": None, "epe_px": None}
    assert found.totals["gap_closed_interval"] == {"total_score": None, "epe_px": None}


def test_without_a_known_training_warp_there_is_no_fixed_row(tmp_path: Path) -> None:
    found = evaluate(says(LENS), [make_pair(tmp_path, "a")])
    assert found.totals["fixed_warp"] is None
    assert found.to_json()["images"][0]["fixed_warp"] is None


def test_a_warp_that_would_fold_is_measured_as_what_replaces_it(tmp_path: Path) -> None:
    folding = (-0.8, -0.8, -0.5, 0.0, 0.0, 0.0, 0.0, 0.7)
    found = evaluate(says(folding), [make_pair(tmp_path, "a")])
    image = found.to_json()["images"][0]
    assert image["mode_used"] == "lens_clamped"
    assert image["refused"][0].startswith("lens: ")
    assert image["params"][0] == pytest.approx(-0.1)
    assert image["model"]["negative_det_pct"] == 0


def test_what_is_read_from_outside_is_counted(tmp_path: Path) -> None:
    wide = (*IDENTITY_PARAMS[:7], 0.8)  # reads 1.25 times as far from the centre
    rows = evaluate(says(wide), [make_pair(tmp_path, "a")]).photos[0].rows
    reading = [np.abs(np.linspace(-1, 1, n) / 0.8) <= 1 for n in SIZE]
    outside = 1 - np.outer(*reading).mean()
    assert rows["fixed_warp"] is None
    assert evaluate(says(IDENTITY_PARAMS, wide), [make_pair(tmp_path, "a")]).photos[0].rows[
        "fixed_warp"
    ]["oob_ratio"] == pytest.approx(outside, abs=1e-4)


def test_tiers_have_totals_of_their_own(tmp_path: Path) -> None:
    items = [
        make_pair(tmp_path, "a", LENS, tier="strong"),
        make_pair(tmp_path, "b", OTHER, tier="real"),
        make_pair(tmp_path, "c", OTHER, tier=""),
    ]
    found = evaluate(says(IDENTITY_PARAMS), items)
    assert list(found.tiers) == ["real", "strong"]
    assert found.totals["photos"] == 3
    strong = found.tiers["strong"]
    assert strong["photos"] == 1
    assert strong["identity"]["epe_px"] == found.photos[0].rows["identity"]["epe_px"]
    assert ["tier" in image for image in found.to_json()["images"]] == [True, True, False]


def test_numbers_as_tiers_are_names(tmp_path: Path) -> None:
    found = evaluate(says(IDENTITY_PARAMS), [make_pair(tmp_path, "a", tier=2.0)])
    assert list(found.tiers) == ["2"]


def test_a_pair_that_cannot_be_used_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    items = [make_pair(tmp_path, name) for name in ("broken", "good", "lost", "odd")]
    items[0].input.write_bytes(items[0].input.read_bytes()[:400])
    items[2].target.unlink()
    save(items[3].target, textured(90, 144))
    seen = []
    found = evaluate(says(LENS), items, on_result=seen.append)
    assert [photo.task.item.image_id for photo in found.photos] == ["good"]
    assert [failure["image_id"] for failure in found.failed] == ["broken", "lost", "odd"]
    assert "broken_original.png" in found.failed[0]["error"]
    assert "lost_generated.png" in found.failed[1]["error"]
    assert "144x96 px, but its target is 144x90 px" in found.failed[2]["error"]
    assert len(seen) == 4
    assert sum(isinstance(result, PhotoResult) for result in seen) == 1


def test_a_lens_of_the_manifest_that_leads_nowhere_is_a_bad_pair(tmp_path: Path) -> None:
    items = [make_pair(tmp_path, name) for name in ("good", "absurd")]
    items[1].params[:3] = 1e300
    found = evaluate(says(LENS), items)
    assert [failure["image_id"] for failure in found.failed] == ["absurd"]
    assert "absurd_original.png: its lens" in found.failed[0]["error"]


def test_if_nothing_can_be_read_that_is_an_error(tmp_path: Path) -> None:
    item = make_pair(tmp_path, "a")
    item.input.unlink()
    with pytest.raises(WarpTrainError, match="none of the 1 pairs"):
        evaluate(says(LENS), [item])


def test_worker_processes_measure_the_same(tmp_path: Path) -> None:
    items = [make_pair(tmp_path, f"h{i}_g0", seed=i) for i in range(4)]
    items[1].target.write_text("no image")
    here, there = (evaluate(says(OTHER, LENS), items, workers=count) for count in (0, 1))
    assert here.to_json() == there.to_json()
    assert [photo.task.item.image_id for photo in there.photos] == ["h0_g0", "h2_g0", "h3_g0"]


def test_a_worker_that_dies_costs_its_own_photo_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "start_measuring", start_mishaps)
    items = [make_pair(tmp_path, name) for name in ("a", "killed", "b", "raises", "c")]
    found = evaluate(says(LENS), items, workers=1)
    assert [photo.task.item.image_id for photo in found.photos] == ["a", "b", "c"]
    process = "original.png: the process that measured it"
    killed, raised = (failure["error"].rpartition("_")[2] for failure in found.failed)
    assert killed == f"{process} was killed by signal 9 (out of memory?)"
    assert raised == f"{process} raised MemoryError: no room"
