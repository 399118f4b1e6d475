"""`export --to opencv`: OpenCV does with the numbers what we do with the lens."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from data_helpers import save, textured
from heif_helpers import avif, exif, heic

from warp_train.cli import main
from warp_train.export.opencv import opencv_lens
from warp_train.inference.photo_warp import PhotoWarp, frame_points
from warp_train.models import HybridModel, ModelConfig, ParamBounds, TrainedOn, save_pretrained
from warp_train.runtime.progress import Progress

LENSES = [
    (-0.12, 0.03, 0.01, 0.002, -0.001, 0.02, -0.01, 0.95),
    (0.25, -0.15, 0.05, -0.004, 0.003, -0.05, 0.04, 1.12),
    (-0.3, 0.2, -0.08, 0.0, 0.0, 0.0, 0.0, 0.85),
    (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0),
]


def constant_model(folder: Path, raw: tuple[float, ...], **bounds: float) -> Path:
    """A model that says the same lens of every photo: `identity + bound · tanh(mixed raw)`."""
    trained = TrainedOn(stage="stage1_param_only", size=(64, 96))
    config = ModelConfig(param_bounds=ParamBounds(**bounds))
    model = HybridModel(config, residual_enabled=False, trained_on=trained)
    with torch.no_grad():
        model.parametric_head.mixing.copy_(torch.eye(8))
        model.parametric_head.votes.bias[:8] = torch.tensor(raw)  # type: ignore[index]
        model.parametric_head.uncertainty.out.bias.fill_(-7)  # sure of it
    save_pretrained(model, folder)
    return folder


@pytest.mark.parametrize("params", LENSES)
@pytest.mark.parametrize("size", [(300, 450), (451, 320), (256, 256)])
def test_opencv_undistorts_to_our_picture(params: tuple[float, ...], size: tuple[int, int]) -> None:
    height, width = size
    photo = cv2.GaussianBlur(textured(height, width), (0, 0), 0.7)  # as sharp as a photo
    lens = torch.tensor(params, dtype=torch.float64)
    grid = PhotoWarp(lens).sources(frame_points(*size, dtype=torch.float64), *size).numpy()
    x, y = np.moveaxis(((grid + 1) / 2 * (width - 1, height - 1)).astype(np.float32), -1, 0)
    told = opencv_lens(lens, height, width)
    theirs = cv2.undistort(
        photo,
        np.array(told["camera_matrix"]),
        np.array(told["dist_coeffs"]),
        None,
        np.array(told["new_camera_matrix"]),
    ).astype(float)
    assert (told["image_width"], told["image_height"]) == (width, height)
    assert np.abs(cv2.remap(photo, x, y, cv2.INTER_LINEAR) - theirs).mean() < 0.1
    # All of it is their rounding of coordinates to 1/32 px.
    rounded = cv2.convertMaps(x, y, cv2.CV_16SC2)
    assert np.abs(cv2.remap(photo, *rounded, cv2.INTER_LINEAR) - theirs).mean() < 0.001


def test_a_line_of_json_a_photo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = constant_model(tmp_path / "model", (-0.15, 0.05, 0.0, 0.1, 0.1, 0.2, -0.1, -0.1))
    photos = [save(tmp_path / "in" / f"{n}.png", textured(64 + n, 96 - n)) for n in (0, 1, 40)]
    out = tmp_path / "lenses.jsonl"
    arguments = ["export", str(model), str(tmp_path / "in"), "--to", "opencv"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert main([*arguments, "--out", str(out)]) == 0
    assert capsys.readouterr().out == ""
    assert out.read_text() == printed
    rows = [json.loads(line) for line in printed.splitlines()]
    assert [row["input"] for row in rows] == sorted(map(str, photos))
    for row in rows:
        assert row["mode_used"] == "lens"
        assert row["warnings"] == []
        told = opencv_lens(
            torch.tensor(row["params"], dtype=torch.float64),
            row["image_height"],
            row["image_width"],
        )
        assert {key: row[key] for key in told} == told
    k1, p1, s = rows[0]["params"][0], rows[0]["params"][3], rows[0]["params"][7]
    assert k1 == pytest.approx(0.8 * np.tanh(-0.15), rel=0.02)
    assert p1 == pytest.approx(0.02 * np.tanh(0.1), rel=0.02)
    assert s == pytest.approx(1 + 0.4 * np.tanh(-0.1), rel=1e-4)


def test_a_bad_photo_is_named_and_the_rest_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = constant_model(tmp_path / "model", (0.1, *(0.0,) * 7))
    good = save(tmp_path / "good.png", textured(64, 96))
    bad = tmp_path / "new\nline.jpg"
    bad.write_text("no photo")
    gone = tmp_path / "gone.jpg"
    code = main(["export", str(model), str(bad), str(gone), str(good), "--to", "opencv"])
    printed, said = capsys.readouterr()
    rows = [json.loads(line) for line in printed.splitlines()]
    assert code == 1
    assert [row["input"] for row in rows] == [str(bad), str(gone), str(good)]
    assert ["error" in row for row in rows] == [True, True, False]
    lines = said.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("warp-train: error: ")
    assert "new line.jpg: " in lines[0]
    assert lines[1].startswith(f"warp-train: error: {gone}: ")


def test_a_refused_lens_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = constant_model(tmp_path / "model", (-9.0, -9.0, -9.0, *(0.0,) * 5))
    photo = save(tmp_path / "photo.png", textured(64, 96))
    assert main(["export", str(model), str(photo), "--to", "opencv"]) == 0
    printed, said = capsys.readouterr()
    row = json.loads(printed)
    assert row["mode_used"] == "lens_clamped"
    assert row["warnings"][0].startswith("lens: ")
    assert max(map(abs, row["dist_coeffs"])) <= 0.1
    assert "photo.png: lens_clamped instead of lens: " in said
    assert main(["export", str(model), str(photo), "--to", "lensfun"]) == 1
    said = capsys.readouterr().err
    assert "left out: its lens was refused (lens: " in said
    assert "no photo is left" in said


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--to", "opencv", "--mount", "Sony E"], 2, "--mount goes with --to lensfun"),
        (["--to", "opencv", "--lens", "X 24mm"], 2, "--lens goes with --to lensfun"),
        (["--to", "opencv", "--crop-factor", "2"], 2, "--crop-factor goes with --to lensfun"),
        (["--to", "lensfun", "--crop-factor", "nan"], 2, "expected a number from 0.1 to 50"),
        (["--to", "hugin"], 2, "invalid choice: 'hugin'"),
        (["--to", "opencv", "--out", "nowhere/x"], 1, "there is no folder nowhere"),
        (["--to", "opencv", "--out", "."], 1, "is a folder"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        found = main(["export", "model", "photo.jpg", *arguments])
    except SystemExit as stop:
        found = int(stop.code or 0)
    lines = capsys.readouterr().err.splitlines()
    assert found == code
    assert len(lines) == 1
    assert said in lines[0]


def test_an_empty_folder_and_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["export", str(tmp_path), str(tmp_path / "empty"), "--to", "opencv"]) == 1
    assert "empty: no photos in this folder" in capsys.readouterr().err


def test_heic_and_avif_are_read_and_raws_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.nef").write_bytes(b"x")
    arguments = ["export", str(tmp_path / "model"), str(folder), "--to", "opencv"]
    unread = "1 .nef file was not read: develop to TIFF or JPEG first"
    assert main(arguments) == 1
    assert (
        f"{folder}: no photos in this folder that can be read: {unread}" in capsys.readouterr().err
    )
    constant_model(tmp_path / "model", (0.1, *(0.0,) * 7))
    (folder / "b.HIF").write_bytes(heic(textured(64, 96), info_exif=exif(orientation=6)))
    (folder / "c.avif").write_bytes(avif(textured(64, 96)))
    (folder / "d.heic").write_bytes(b"x")
    assert main(arguments) == 1
    printed, said = capsys.readouterr()
    rows = [json.loads(line) for line in printed.splitlines()]
    sizes = [(row.get("image_height"), row.get("image_width")) for row in rows]
    assert sizes == [(96, 64), (64, 96), (None, None)]
    assert said.splitlines()[0] == f"warp-train: {unread}"
    assert f"error: {folder}/d.heic: not a picture of a known format, or damaged" in said


def test_progress_is_shown_in_a_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(Progress.__init__.__kwdefaults__, "seconds_between_lines", 0.0)
    model = constant_model(tmp_path / "model", (0.1, *(0.0,) * 7))
    for number in range(2):
        save(tmp_path / "in" / f"{number}.png", textured(64, 96))
    assert main(["export", str(model), str(tmp_path / "in"), "--to", "opencv"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[-1].startswith("warp-train: 2/2 photos, ")
