"""The run folder and metrics.jsonl."""

import json
import math
from pathlib import Path

import pytest

from warp_train.runtime.atomic_files import write_atomically, write_json
from warp_train.runtime.errors import WarpTrainError
from warp_train.training.run_folder import (
    MetricsWriter,
    create_run_folder,
    find_run_folder,
    truncate_metrics,
)


def test_a_taken_name_is_numbered_and_said(tmp_path: Path) -> None:
    first, notice = create_run_folder(tmp_path / "runs", "quick")
    assert (first.name, notice) == ("quick", None)
    (first / "recipe.yaml").write_text("")
    second, notice = create_run_folder(tmp_path / "runs", "quick")
    assert second.name == "quick-2"
    assert notice is not None
    assert str(first) in notice
    assert str(second) in notice
    (second / "recipe.yaml").write_text("")
    assert create_run_folder(tmp_path / "runs", "quick")[0].name == "quick-3"


def test_an_empty_folder_of_that_name_is_used(tmp_path: Path) -> None:
    (tmp_path / "quick").mkdir()
    assert create_run_folder(tmp_path, "quick") == (tmp_path / "quick", None)


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WarpTrainError, match="file/quick: cannot make the run folder"):
        create_run_folder(tmp_path / "file", "quick")


def test_the_latest_run_of_a_name_is_found(tmp_path: Path) -> None:
    assert find_run_folder(tmp_path, "quick") is None
    for name in ("quick", "quick-2", "quick-10", "quick-look", "quicker-11"):
        (tmp_path / name).mkdir()
    found = find_run_folder(tmp_path, "quick")
    assert found is not None
    assert found.name == "quick-10"


def test_metrics_are_on_disk_at_once_and_never_hold_nan(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsWriter(path)
    metrics.write(3, 0, "train", {"loss/total": 0.5, "epe_px": math.nan, "lr": math.inf})
    row = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert row == {
        "step": 3,
        "epoch": 0,
        "split": "train",
        "loss/total": 0.5,
        "epe_px": None,
        "lr": None,
    }


def test_resuming_drops_later_steps_and_a_cut_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsWriter(path)
    for step in range(10, 60, 10):
        metrics.write(step, 0, "train", {})
        metrics.write(step, 0, "val", {})
    with path.open("a") as file:
        file.write('{"step": 60, "epo')
    truncate_metrics(path, 30, validated_step=20)  # 30 was saved, but not yet validated
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["step"] for row in rows if row["split"] == "train"] == [10, 20, 30]
    assert [row["step"] for row in rows if row["split"] == "val"] == [10, 20]
    metrics.write(31, 0, "train", {})
    assert len(path.read_text().splitlines()) == 6
    truncate_metrics(path, 0, validated_step=None)
    assert path.read_text() == ""
    truncate_metrics(tmp_path / "none.jsonl", 30, validated_step=30)
    assert not (tmp_path / "none.jsonl").exists()


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "summary.json"
    write_json(path, {"epe_px": math.nan, "stages": {"one": [1.0, math.inf]}})
    assert json.loads(path.read_text()) == {"epe_px": None, "stages": {"one": [1.0, None]}}

    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "half")
    assert json.loads(path.read_text())["epe_px"] is None
