"""The run folder and metrics.jsonl."""

import json
import math
import os
from pathlib import Path

import pytest

from warp_train.runtime.atomic_files import write_atomically, write_json
from warp_train.runtime.errors import WarpTrainError
from warp_train.training.run_folder import (
    MetricsWriter,
    claim_run_folder,
    find_run_folder,
    truncate_metrics,
)


def claimed(output_dir: Path, run_name: str) -> tuple[Path, str | None]:
    """The folder of a new run, whose process ends at once, and the notice."""
    folder, lock, notice = claim_run_folder(output_dir, run_name)
    assert folder.is_dir()
    (folder / "recipe.yaml").write_text("")
    lock.release()
    return folder, notice


def test_a_taken_name_is_numbered_and_said(tmp_path: Path) -> None:
    first, notice = claimed(tmp_path / "runs", "quick")
    assert (first.name, notice) == ("quick", None)
    second, notice = claimed(tmp_path / "runs", "quick")
    assert second.name == "quick-2"
    earlier = f"{first}: holds an earlier run, which can be resumed"
    assert notice == f"{earlier}; this run goes to {second}"
    assert claimed(tmp_path / "runs", "quick")[0].name == "quick-3"


def test_a_folder_in_use_is_passed_over_and_its_process_named(tmp_path: Path) -> None:
    first, lock, _ = claim_run_folder(tmp_path, "quick")
    second, notice = claimed(tmp_path, "quick")
    assert second.name == "quick-2"
    assert notice is not None
    assert f"{first}: in use by process {os.getpid()} on " in notice
    lock.release()
    assert claimed(tmp_path, "quick") == (first, None)  # nothing was left there


def test_a_folder_without_results_is_used(tmp_path: Path) -> None:
    (tmp_path / "quick").mkdir()
    (tmp_path / "quick" / "bad_samples.jsonl").write_text("{}")
    (tmp_path / "quick" / ".lock-draft-1").write_text("")
    assert claimed(tmp_path, "quick") == (tmp_path / "quick", None)
    assert not (tmp_path / "quick" / "bad_samples.jsonl").exists()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WarpTrainError, match="file/quick: cannot make the run folder"):
        claim_run_folder(tmp_path / "file", "quick")


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
