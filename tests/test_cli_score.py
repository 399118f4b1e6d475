"""`warp-train score`: table, JSON, and exit 1 for whatever could not be compared."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from metrics_helpers import bend, drawn
from PIL import Image

from warp_train.cli import main
from warp_train.metrics import WEIGHTS, compute_proxy_score
from warp_train.runtime.progress import Progress


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """`pred` and `gt` with three pairs in the working directory; their scores by id."""
    monkeypatch.chdir(tmp_path)
    expected = {}
    for number, gt in enumerate(drawn(3, size=(96, 128))):
        pred = bend(gt, 0.05 * number)
        save(Path(f"gt/house{number}_generated.png"), gt)
        save(Path(f"pred/house{number}_original.png"), pred)
        expected[f"house{number}"] = compute_proxy_score(pred, gt)["total_score"]
    return expected


def save(path: Path, picture: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def errors(capsys: pytest.CaptureFixture[str]) -> list[str]:
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("warp-train: error: ") for line in lines)
    return [line.removeprefix("warp-train: error: ") for line in lines]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_scores_are_those_of_the_function(
    workers: str, folders: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", "pred", "gt", "--json", "s.json", "--workers", workers]) == 0
    out, err = capsys.readouterr()
    assert err == ""  # no bar in a pipe
    report = json.loads(Path("s.json").read_text())
    assert list(report) == ["total_score", "sub_scores", "images"]
    assert {i["image_id"]: i["total_score"] for i in report["images"]} == folders
    assert folders["house0"] == 1
    assert report["total_score"] == pytest.approx(np.mean(list(folders.values())))
    for name in WEIGHTS:
        parts = [image["sub_scores"][name] for image in report["images"]]
        assert report["sub_scores"][name] == pytest.approx(np.mean(parts))
    assert report["images"][0]["flags"] == {"hard_fail": False, "reasons": []}
    assert f"mean of 3  {report['total_score']:.4f}" in out
    rows = [line.split()[0] for line in out.splitlines() if line.startswith("house")]
    assert rows == ["house2", "house1", "house0"]  # the worst first


def test_every_problem_is_named_and_the_others_are_scored(
    folders: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    save(Path("gt/small.png"), drawn(1, size=(40, 60))[0])
    save(Path("pred/small.png"), drawn(1, size=(60, 40))[0])
    save(Path("pred/alone.png"), drawn(1, size=(40, 60))[0])
    save(Path("gt/missing.png"), drawn(1, size=(40, 60))[0])
    Path("pred/text.jpg").write_text("no image")
    save(Path("gt/text.jpg"), drawn(1, size=(40, 60))[0])
    assert main(["score", "pred", "gt", "--json", "s.json"]) == 1
    found = errors(capsys)
    assert [line.split(":")[0] for line in found] == [
        "gt/missing.png",
        "pred/alone.png",
        "pred/small.png",
        "pred/text.jpg",
    ]
    assert found[0] == "gt/missing.png: has no counterpart in pred"
    assert found[2] == "pred/small.png: size mismatch: 40x60 px, but the ground truth is 60x40"
    assert "not a picture of a known format" in found[3]
    report = json.loads(Path("s.json").read_text())
    scores = {image["image_id"]: image["total_score"] for image in report["images"]}
    assert scores == {**folders, "small": 0}
    assert report["total_score"] == pytest.approx(sum(folders.values()) / 4)


def test_hard_fails_are_shown_and_do_not_fail(
    folders: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    blank = np.zeros((96, 128, 3), np.uint8)
    save(Path("pred/house1_original.png"), blank)
    assert main(["score", "pred", "gt"]) == 0
    out = capsys.readouterr().out
    assert "hard fails: 1 of 3" in out
    assert "edge collapse: 0 edge pixels" in out


def test_two_files_are_compared(
    folders: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", "pred/house2_original.png", "gt/house2_generated.png"]) == 0
    assert f"{folders['house2']:.4f}" in capsys.readouterr().out


def test_a_failed_write_is_one_line_and_leaves_no_file(
    folders: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", "pred", "gt", "--json", "no/s.json"]) == 1
    assert errors(capsys) == ["--json no/s.json: there is no folder no"]
    Path("taken.json").mkdir()
    assert main(["score", "pred", "gt", "--json", "taken.json"]) == 1
    assert errors(capsys) == ["--json taken.json: is a folder"]
    assert [p.name for p in Path().glob("*.json")] == ["taken.json"]
    assert not list(Path().glob(".*"))


@pytest.mark.parametrize(
    "arguments",
    [["score", "pred"], ["score", "a", "b", "c"], ["score", "a", "b", "--workers", "-1"]],
)
def test_usage_errors_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["score", "--help"])
    assert stop.value.code == 0
    assert "\n  warp-train score corrected/ photos/val/" in capsys.readouterr().out


def test_ctrl_c_ends_it_at_once_without_a_traceback(tmp_path: Path) -> None:
    for side in ("pred", "gt"):
        save(tmp_path / side / "0.png", drawn(1, size=(1200, 1600))[0])
        for number in range(1, 40):
            (tmp_path / side / f"{number}.png").symlink_to("0.png")
    process = subprocess.Popen(
        [sys.executable, "-m", "warp_train", "score", "pred", "gt", "--workers", "2"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while len(children.read_text().split()) < 3:  # the workers, and Python's resource tracker
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: every process gets it
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (130, "", "")


def test_progress_is_shown_in_a_pipe(
    folders: dict[str, float], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(Progress.__init__.__kwdefaults__, "seconds_between_lines", 0.0)
    assert main(["score", "pred", "gt"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[-1].startswith("warp-train: 3/3 images, ")
