"""`warp-train rectify` as it is typed: many photos, several workers, interruptions, memory."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from data_helpers import textured
from PIL import Image
from rectify_helpers import PINCUSHION, save_lens_model

from warp_train import cli
from warp_train.inference import rectify as module
from warp_train.inference.rectify import Plan, rectify
from warp_train.inference.rectify_inputs import Job, Settings
from warp_train.runtime.atomic_files import incoming_path
from warp_train.runtime.worker_process import JobError

COMMAND = [sys.executable, "-m", "warp_train", "rectify"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_lens_model(tmp_path_factory.mktemp("model"), PINCUSHION)


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "rectify.jsonl").read_text().splitlines()]


def test_a_folder_with_a_bad_file(model: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    (photos / "day 2").mkdir(parents=True)
    for number, name in enumerate(("a.jpg", "b.png", "day 2/c.jpg")):
        Image.fromarray(textured(120 + number, 180)).save(photos / name)
    (photos / "day 2/bad.jpg").write_text("not a photo")
    out = tmp_path / "out"
    arguments = [str(model), str(photos), str(tmp_path / "gone*.jpg"), "--out", str(out)]
    run = subprocess.run(
        [*COMMAND, *arguments, "--workers", "2"], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 1
    assert run.stdout == ""
    said = run.stderr.splitlines()
    assert sorted(said[:-1]) == [
        f"warp-train: error: {tmp_path}/gone*.jpg: no such file",
        f"warp-train: error: {photos}/day 2/bad.jpg: not a JPEG, PNG, TIFF, WebP, BMP, "
        "HEIC or AVIF file, or damaged",
    ]
    assert said[-1] == "warp-train: 3 corrected, 2 failed (lens 3)"
    written = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert written == [
        "a_rectified.jpg",
        "b_rectified.png",
        "day 2/c_rectified.jpg",
        "rectify.jsonl",
    ]
    records = {Path(record["input"]).name: record for record in lines(out)}
    assert len(records) == 5
    assert set(records["bad.jpg"]) == {"input", "error"}
    good = records["c.jpg"]
    assert good["params"] == pytest.approx(PINCUSHION, abs=0.03)  # of the frame of 96 x 144
    assert good["output"] == str(out / "day 2/c_rectified.jpg")
    assert (good["height"], good["width"]) == (122, 180)
    assert good["safety"]["safe"]
    assert good["crop"]["zoom"] > 1
    assert set(good["jacobian"]) == {
        "negative_det_pct",
        "det_min",
        "det_p01",
        "det_mean",
        "oob_ratio",
    }


def test_the_last_line_names_what_was_not_read(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    photos = tmp_path / "photos"
    (photos / "@eaDir").mkdir(parents=True)
    Image.fromarray(textured(120, 180)).save(photos / "a.JFIF", "JPEG")
    Image.fromarray(textured(120, 180)).save(photos / "b.png", "JPEG")
    for name in ("c.HEIC", "d.heic", "e.cr2", "@eaDir/a.jpg"):
        (photos / name).write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    arguments = ["rectify", str(model), "photos", "--out", "out", "--workers", "1"]
    assert cli.main(arguments) == 0
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "warp-train: folders that were not searched: 1 @eaDir (thumbnails)",
        "warp-train: warning: photos/b.png: its name ends in .png, but it contains JPEG data",
        "warp-train: 2 corrected, 1 with warnings, see rectify.jsonl (lens 2); "
        "1 .cr2 file was not read: develop to TIFF or JPEG first; "
        "2 .heic files were not read: pip install 'warp_train[heic]'",
    ]
    for name in ("a.JFIF", "b.png"):
        (photos / name).unlink()
    assert cli.main(arguments) == 1
    told = capsys.readouterr().err.splitlines()
    unread = told[-1].removeprefix("warp-train: 1 failed; ")
    assert unread.startswith("1 .cr2 file was not read")
    assert told[1:-1] == [f"warp-train: error: photos: no photos that can be read: {unread}"]


def test_params_only_writes_lines_and_no_pictures(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(textured(120, 180)).save(tmp_path / "a.jpg")
    out = tmp_path / "out"
    arguments = [str(model), str(tmp_path / "a.jpg"), "--out", str(out), "--params-only"]
    assert cli.main(["rectify", *arguments]) == 0
    assert [path.name for path in out.iterdir()] == ["rectify.jsonl"]
    [record] = lines(out)
    assert (record["width"], record["height"], record["output"]) == (180, 120, None)
    assert len(record["params"]) == 8
    assert "1 measured (lens 1)" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_whole_photos_only(
    number: signal.Signals, model: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(textured(900, 1350)).save(photos / "00.png", compress_level=1)
    for name in range(1, 60):
        (photos / f"{name:02}.png").hardlink_to(photos / "00.png")
    out = tmp_path / "out"
    process = subprocess.Popen(
        [*COMMAND, str(model), str(photos), "--out", str(out), "--workers", "1"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    journal = out / "rectify.jsonl"
    until = time.monotonic() + 90
    while time.monotonic() < until and not (journal.exists() and journal.stat().st_size):
        time.sleep(0.05)
    os.killpg(process.pid, number)  # as a terminal does: to the workers, too
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in said
    assert "not corrected" in said
    left = {path.name for path in out.iterdir()} - {"rectify.jsonl"}
    assert 0 < len(left) < 60
    for name in left:
        Image.open(out / name).load()
    assert {Path(record["output"]).name for record in lines(out)} <= left


def test_a_model_that_cannot_be_loaded_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(textured(120, 180)).save(tmp_path / "a.jpg")
    (tmp_path / "model").mkdir()
    arguments = [str(tmp_path / "model"), str(tmp_path / "a.jpg"), "--out", str(tmp_path / "out")]
    assert cli.main(["rectify", *arguments, "--workers", "1"]) == 1
    said = capsys.readouterr().err
    assert f"error: {tmp_path}/model/config.json: cannot be read" in said
    assert "Traceback" not in said


def test_the_options_reach_every_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Settings] = []

    def record(jobs: list[Job], model: str, settings: Settings, **rest: Any) -> Any:
        seen.append(settings)
        yield {"input": "a.jpg", "error": "a.jpg: no"}

    monkeypatch.setattr("warp_train.commands.rectify.rectify", record)
    (tmp_path / "a.jpg").write_bytes(b"x")
    plain = ["rectify", "m", str(tmp_path / "a.jpg"), "--out", str(tmp_path / "out")]
    assert cli.main(plain) == 1
    assert cli.main([*plain, "--keep-times", "--even-if-corrected"]) == 1
    assert [(s.keep_times, s.even_if_corrected) for s in seen] == [(False, False), (True, True)]


USAGE = {
    "no input": (["m", "--out", "o"], "INPUT"),
    "no out": (["m", "a.jpg"], "--out"),
    "quality 0": (["m", "a.jpg", "--out", "o", "--quality", "0"], "--quality"),
    "quality of a PNG": (["m", "a", "--out", "o", "--quality", "9", "--format", "png"], "png"),
    "workers 0": (["m", "a.jpg", "--out", "o", "--workers", "0"], "--workers"),
    "a path as suffix": (["m", "a.jpg", "--out", "o", "--suffix", "x/y"], "--suffix"),
    "unknown format": (["m", "a.jpg", "--out", "o", "--format", "gif"], "--format"),
    "unknown crop": (["m", "a.jpg", "--out", "o", "--crop", "some"], "--crop"),
    "unknown option": (["m", "a.jpg", "--out", "o", "--speed", "9"], "--speed"),
}


@pytest.mark.parametrize(("arguments", "part"), USAGE.values(), ids=USAGE.keys())
def test_usage_errors_exit_2(
    arguments: list[str],
    part: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        cli.main(["rectify", *arguments])
    assert stop.value.code == 2
    assert part in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_help_shows_every_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["rectify", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for part in ("default: fill", "default: bicubic", "default: _rectified", "default: auto"):
        assert part in shown
    assert "examples:" in shown


def test_out_that_is_a_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").write_text("")
    assert cli.main(["rectify", "m", "gone.jpg", "--out", str(tmp_path / "out")]) == 1
    assert f"--out {tmp_path}/out: File exists" in capsys.readouterr().err


def test_what_a_killed_worker_left_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(tmp_path / "a.jpg", tmp_path / "a_rectified.jpg")
    part = incoming_path(tmp_path / "a_rectified.jpg", 4321)
    part.write_bytes(b"half")

    def killed(*_: Any) -> Any:
        yield job, JobError(4321, "was killed by signal 9")

    monkeypatch.setattr(module, "run_jobs", killed)
    [record] = rectify(Plan((job,), ()), "model", Settings(tmp_path))
    assert record["error"].endswith("a.jpg: the process that worked on it was killed by signal 9")
    assert list(tmp_path.iterdir()) == []


_MEASURE = """
import re, sys
from pathlib import Path
from warp_train.inference.rectify import load_rectifier
from warp_train.inference.rectify_inputs import Job, Settings
model, photo, out = sys.argv[1:]
work = load_rectifier(model, "cpu", Settings(Path(out), crop="fill"))
record = work(Job(Path(photo), Path(out) / Path(photo).name))
assert record["resampled"], record
# Not getrusage, which counts what the starting process held before the exec.
print(int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024)
"""


@pytest.mark.parametrize("kind", ["jpg", "tif"])
def test_memory_stays_below_four_photos_and_a_gigabyte(
    kind: str, model: Path, tmp_path: Path
) -> None:
    depth: Any = np.uint8 if kind == "jpg" else np.uint16
    photo = tmp_path / f"x.{kind}"
    times = 8 if kind == "jpg" else 4
    picture = np.tile(textured(500, 750), (times, times, 1)).astype(depth)
    if kind == "jpg":
        Image.fromarray(picture).save(photo)
    else:
        cv2.imwrite(str(photo), picture * 257)
    (tmp_path / "out").mkdir()
    run = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(model), str(photo), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 4 * picture.nbytes + 2**30
