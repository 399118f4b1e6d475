"""`warp-train evaluate`: its table, its JSON, its exit codes."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from evaluate_helpers import LENS, OTHER, make_pair, save_model, write_manifest

from warp_train import cli
from warp_train.runtime.progress import Progress

ROW = {"epe_px", "total_score", "sub_scores", "flags", "negative_det_pct", "oob_ratio"}
TOTAL_ROW = {"photos", "hard_fails"} | ROW - {"flags"}
TOTALS = {
    "photos",
    "groups",
    "identity",
    "fixed_warp",
    "model",
    "ceiling",
    "already_straight",
    "gap_closed",
    "gap_closed_interval",
}
STRAIGHT_TOTALS = {
    "photos",
    "epe_px",
    "epe_px_interval",
    "epe_px_p90",
    "epe_px_worst",
    "changed_share",
}
IMAGE = {"image_id", "group", "tier", "size", "mode_used", "refused", "params", "expected_error_px"}
STRAIGHT = {"already_straight"}
SUBS = {"edge", "line", "grad", "ssim", "mae"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_model(tmp_path_factory.mktemp("model"), LENS, OTHER))


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    lenses = {"h1_g0": LENS, "h1_g1": LENS, "h2_g0": OTHER}
    items = [
        make_pair(tmp_path, name, lens, seed=i, tier="real" if lens is OTHER else "strong")
        for i, (name, lens) in enumerate(lenses.items())
    ]
    return write_manifest(tmp_path, items, "tier")


def evaluate(*arguments: str | Path) -> int:
    return cli.main(["evaluate", *map(str, arguments), "--workers", "0", "--device", "cpu"])


def evaluated(tmp_path: Path, *arguments: str | Path) -> dict[str, Any]:
    assert evaluate(*arguments, "--json", tmp_path / "out.json") == 0
    result: dict[str, Any] = json.loads((tmp_path / "out.json").read_text())
    return result


def test_the_json_is_as_the_contract_says(model: str, manifest: Path, tmp_path: Path) -> None:
    found = evaluated(tmp_path, model, "--data", manifest)
    assert set(found) == TOTALS | {"tiers", "images", "model_hash", "failed"}
    for totals in (found, *found["tiers"].values()):
        assert set(totals) >= TOTALS
        assert set(totals["gap_closed"]) == {"total_score", "epe_px"}
        for row in ("identity", "fixed_warp", "model", "ceiling"):
            assert set(totals[row]) == TOTAL_ROW
            assert set(totals[row]["sub_scores"]) == SUBS
        assert set(totals["already_straight"]) == STRAIGHT_TOTALS
    assert set(found["tiers"]) == {"real", "strong"}
    for image in found["images"]:
        assert set(image) == IMAGE | {"identity", "fixed_warp", "model", "ceiling"} | STRAIGHT
        assert set(image["model"]) == ROW
        assert len(image["params"]) == 8
    assert found["photos"] == 3
    assert found["failed"] == []


def test_a_network_that_votes_for_the_lens_closes_the_gap_where_it_is_right(
    model: str, manifest: Path, tmp_path: Path
) -> None:
    found = evaluated(tmp_path, model, "--data", manifest)
    assert found["images"][0]["params"] == pytest.approx(LENS, abs=1e-4)
    assert found["images"][0]["mode_used"] == "hybrid"
    assert found["tiers"]["strong"]["gap_closed"]["epe_px"] == pytest.approx(1, abs=0.01)
    assert found["tiers"]["real"]["gap_closed"]["epe_px"] < 0
    assert found["tiers"]["real"]["fixed_warp"]["epe_px"] == pytest.approx(0, abs=1e-3)
    low, high = found["gap_closed_interval"]["epe_px"]
    assert low <= found["gap_closed"]["epe_px"] <= high
    assert found["tiers"]["real"]["gap_closed_interval"]["epe_px"] is None  # one house


def test_the_table_has_a_block_for_each_tier_and_one_for_all(
    model: str, manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(model, "--data", manifest) == 0
    out, err = capsys.readouterr()
    blocks = out.strip().split("\n\n")
    assert [block.split("  ")[0] for block in blocks] == [
        "tier real",
        "tier strong",
        "all photos",
        "gap closed",
        "already straight",
    ]
    names = [line.split("  ")[0] for line in blocks[2].splitlines()[2:]]
    assert names == ["identity", "fixed warp", "model", "ceiling", "already straight"]
    assert len({len(line) for line in blocks[2].splitlines()}) == 1
    assert err == ""  # the bar is for terminals


def test_a_folder_without_a_manifest_has_scores_and_nulls(model: str, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for name in ("h1_g0", "h2_g0"):
        make_pair(photos, name)
    found = evaluated(tmp_path, model, "--data", photos)
    assert found["ceiling"] is None
    assert found["images"][0]["ceiling"] is None
    assert found["images"][0]["model"]["epe_px"] is None
    assert found["gap_closed"] == {"total_score": None, "epe_px": None}
    assert "tiers" not in found
    assert found["model"]["total_score"] > found["identity"]["total_score"]


def test_of_a_manifest_with_a_split_the_held_out_pairs_are_measured(
    model: str, tmp_path: Path
) -> None:
    splits = ("train", "val", "val", "")
    items = [make_pair(tmp_path, f"p{i}", split_of=s) for i, s in enumerate(splits)]
    path = write_manifest(tmp_path, items, "split_of")
    path.write_text(path.read_text().replace("split_of", "split"))
    found = evaluated(tmp_path, model, "--data", path)
    assert [image["image_id"] for image in found["images"]] == ["p1", "p2"]


def test_max_photos_are_spread_over_all(model: str, tmp_path: Path) -> None:
    for number in range(6):
        make_pair(tmp_path / "photos", f"p{number}")
    found = evaluated(tmp_path, model, "--data", tmp_path / "photos", "--max-photos", "3")
    assert [image["image_id"] for image in found["images"]] == ["p0", "p2", "p4"]


def test_a_broken_pair_is_one_line_and_exit_1(
    model: str, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "h1_g1_original.png").write_bytes(b"no image")
    assert evaluate(model, "--data", manifest, "--json", tmp_path / "out.json") == 1
    out, err = capsys.readouterr()
    assert err.count("\n") == 1
    assert "h1_g1_original.png" in err
    assert "all photos" in out
    found = json.loads((tmp_path / "out.json").read_text())
    assert [failure["image_id"] for failure in found["failed"]] == ["h1_g1"]
    assert found["photos"] == 2


def test_bytes_in_a_name_that_are_no_characters_can_be_written(model: str, tmp_path: Path) -> None:
    make_pair(tmp_path / "photos", "caf\udce9_g0")
    page = tmp_path / "page.html"
    found = evaluated(tmp_path, model, "--data", tmp_path / "photos", "--report", page)
    assert found["images"][0]["image_id"] == "caf\\udce9_g0"
    assert "caf\\udce9_g0" in page.read_text()


ERRORS = {
    "no such data": (["--data", "nowhere"], "--data: nowhere does not exist"),
    "no folder for the json": (["--data", ".", "--json", "no/x.json"], "--json no/x.json"),
    "a folder as report": (["--data", ".", "--report", "."], "--report .: is a folder"),
    "no such device": (
        ["--data", "manifest.csv", "--device", "mps"],
        "device 'mps'",
    ),
}


@pytest.mark.parametrize(("arguments", "part"), ERRORS.values(), ids=ERRORS.keys())
def test_what_cannot_work_is_said_at_once(
    arguments: list[str],
    part: str,
    model: str,
    manifest: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(manifest.parent)
    assert cli.main(["evaluate", model, *arguments]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert part in err


@pytest.mark.parametrize(
    "arguments",
    [[], ["m"], ["--data", "d"], ["m", "--data", "d", "--workers", "-1"]]
    + [["m", "--data", "d", "--max-photos", value] for value in ("0", "few", "1.5")],
)
def test_usage_errors_exit_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["evaluate", *arguments])
    assert stop.value.code == 2


@pytest.mark.parametrize("seconds", [0.0, 2.5])
def test_ctrl_c_ends_quietly_while_workers_start_and_while_they_measure(
    seconds: float, model: str, tmp_path: Path
) -> None:
    pair = make_pair(tmp_path, "a_g0", size=(600, 900))
    items = [replace(pair, image_id=f"a_g{number}") for number in range(400)]
    arguments = [model, "--data", str(write_manifest(tmp_path, items)), "--workers", "1"]
    program = subprocess.Popen(
        [sys.executable, "-m", "warp_train", "evaluate", *arguments, "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not workers_of(program.pid):
        time.sleep(0.01)
    workers = workers_of(program.pid)
    time.sleep(seconds)
    os.killpg(program.pid, signal.SIGINT)
    assert program.communicate(timeout=20) == ("", "")
    assert program.returncode == 130
    assert workers
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


def workers_of(program: int) -> list[int]:
    """Process ids of the workers that a program has started."""
    started = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == program and "spawn_main" in (process / "cmdline").read_text():
                started.append(int(process.name))
    return started


def test_progress_is_shown_in_a_pipe(
    model: str,
    manifest: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(Progress.__init__.__kwdefaults__, "seconds_between_lines", 0.0)
    assert evaluate(model, "--data", manifest) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[-1].startswith("warp-train: 3/3 photos, ")
