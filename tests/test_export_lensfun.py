"""`export --to lensfun`: lensfun itself, with the entry loaded, corrects as the lens does."""

import io
import itertools
import json
import math
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import lensfunpy
import numpy as np
import pytest
import torch
from export_helpers import BARREL, CAMERA, REAL, Lens, camera_tags, photo_of, photo_with

from warp_train.cli import main
from warp_train.export.lensfun import lensfun_database
from warp_train.export.lensfun_fit import fit_lensfun, frame_corner, radial_curve
from warp_train.export.photo_lens import PhotoLens
from warp_train.geometry import IDENTITY_PARAMS, apply_lens, half_diagonal
from warp_train.inference.fallback import moved_px
from warp_train.inference.photo_warp import PhotoWarp
from warp_train.models import HybridModel, TrainedOn, save_pretrained


def entry(photos: list[PhotoLens], **options: Any) -> str:
    made = lensfun_database(photos, **options)
    assert made.xml is not None
    assert not made.left_out
    return made.xml


def lensfun_reads(xml: str, focal: float, crop: float, height: int, width: int) -> Any:
    """Where lensfun reads some pixels of the corrected photo, and those pixels: `[N, 2]` both."""
    database = lensfunpy.Database(xml=xml, load_common=False, load_bundled=False)
    modifier = lensfunpy.Modifier(database.lenses[0], crop, width, height)
    modifier.initialize(focal, 8.0, 1000.0, scale=1.0, flags=lensfunpy.ModifyFlags.DISTORTION)
    read = modifier.apply_geometry_distortion()
    rows, columns = np.arange(0, height, height // 40), np.arange(0, width, width // 60)
    x, y = np.meshgrid(columns, rows)
    return read[y, x].reshape(-1, 2).astype(float), np.stack([x, y], -1).reshape(-1, 2)


def differences(
    params: Lens, read: Any, pixels: Any, height: int, width: int
) -> tuple[float, float]:
    """(rms, largest) distance in px to the lens's own warp at the zoom that suits best, within the
    frame that the lens corrects."""
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    offset = (pixels - middle) / middle

    def away(zoom: float) -> Any:
        points = torch.from_numpy(offset * zoom)
        lens = torch.tensor([params], dtype=torch.float64)
        ours = (apply_lens(points[None], lens, height, width)[0].numpy() + 1) * middle
        inside = (np.abs(offset * zoom) <= 1).all(1)
        return np.linalg.norm(ours - read, axis=1)[inside]

    low, high = 0.7, 1.4
    for _ in range(60):
        a, b = low + 0.382 * (high - low), low + 0.618 * (high - low)
        low, high = (low, b) if (away(a) ** 2).mean() < (away(b) ** 2).mean() else (a, high)
    best = away((low + high) / 2)
    assert len(best) > 0.8 * len(pixels)
    return float(np.sqrt((best**2).mean())), float(best.max())


@pytest.mark.parametrize("name", REAL)
def test_lensfun_corrects_as_the_lens_does(name: str) -> None:
    read, pixels = lensfun_reads(entry([photo_of(REAL[name])]), 24, 1.0, 2000, 3000)
    rms, largest = differences(REAL[name], read, pixels, 2000, 3000)
    curve = radial_curve(REAL[name], 2000, 3000)
    assert curve is not None
    fit = fit_lensfun([curve], 2000, 3000)
    assert rms == pytest.approx(fit.rms_px, abs=0.05)  # nothing is added but lensfun's float32
    assert rms < 0.25
    assert largest < 0.8  # in the outermost corner


def test_lensfun_corrects_portrait_photos_and_other_sensors() -> None:
    """The entry is of 3:2 landscape at crop factor 1; what it corrects is not."""
    xml = entry([photo_of(BARREL)])
    read, pixels = lensfun_reads(xml, 24, 1.0, 3000, 2000)
    assert differences(BARREL, read, pixels, 3000, 2000)[0] < 0.2
    # A sensor of half the diagonal sees the inner half of the lens: rescaled terms.
    inner = tuple(k * 0.5**p for k, p in zip(BARREL, (2, 4, 6, 1, 1, 0, 0, 0), strict=True))
    read, pixels = lensfun_reads(xml, 24, 2.0, 2000, 3000)
    assert differences((*inner[:7], 1.0), read, pixels, 2000, 3000)[0] < 0.2


def test_lensfun_finds_the_entry_for_the_camera() -> None:
    photos = [photo_of(BARREL), photo_of(BARREL, focal=50.0)]
    for mount in (None, "Canon EF"):
        database = lensfunpy.Database(xml=entry(photos, mount=mount))
        camera = database.find_cameras(CAMERA.maker, CAMERA.camera)[0]
        lens = database.find_lenses(camera, CAMERA.lens_maker, CAMERA.lens)[0]
        assert (lens.model, lens.min_focal, lens.max_focal) == (CAMERA.lens, 24, 50)


def test_lensfun_finds_a_lens_without_a_name_by_its_camera() -> None:
    photos = [photo_of(BARREL, maker="Acme", camera="Acme X-1", lens="", crop_factor=2.7)]
    database = lensfunpy.Database(xml=entry(photos))
    camera = database.find_cameras("Acme", "Acme X-1")[0]
    assert camera.crop_factor == pytest.approx(2.7)
    assert camera.mount[0].islower()
    lenses = database.find_lenses(camera, loose_search=True)
    assert [lens.model for lens in lenses] == ["Acme X-1 & compatibles (Standard)"]


def test_one_lens_on_several_cameras_is_one_entry() -> None:
    """Of two entries with the same name, range and crop factor, lensfun keeps the last."""
    shots = itertools.product((18.0, 55.0), ("A", "B"), ("one", "two"))
    photos = [photo_of(BARREL, focal=f, lens=lens, camera=camera) for f, lens, camera in shots]
    xml = entry(photos)
    for lens in ET.fromstring(xml).findall("lens"):
        terms = lens.findall("calibration/distortion")
        assert [term.get("focal") for term in terms] == ["18", "55"]
    assert xml.count("mm: 2 photos") == 4
    database = lensfunpy.Database(xml=xml, load_common=False, load_bundled=False)
    assert [lens.model for lens in database.lenses] == ["A", "B"]


def test_the_median_of_the_photos_withstands_a_few_wrong_ones() -> None:
    rng = np.random.default_rng(0)
    lenses = [
        tuple(np.add(BARREL, [*rng.normal(0, 0.004, 3), 0, 0, 0, 0, rng.normal(0, 0.03)]))
        for _ in range(12)
    ]
    wrong = [(0.4, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.3), (-0.3, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.8)]
    made = lensfun_database([photo_of(lens) for lens in [*lenses, *wrong]])
    xml = made.xml
    assert xml is not None
    assert len(made.left_out) == len(wrong)
    read, pixels = lensfun_reads(xml, 24, 1.0, 2000, 3000)
    assert differences(BARREL, read, pixels, 2000, 3000)[0] < 3
    assert "12 photos" in xml


def test_what_the_fit_says_of_itself() -> None:
    bends = (-0.10, -0.115, -0.13)
    curves = [radial_curve((k1, *BARREL[1:]), 2000, 3000) for k1 in bends]
    known = [curve for curve in curves if curve is not None]
    one, three = fit_lensfun(known[1:2], 2000, 3000), fit_lensfun(known, 2000, 3000)
    assert one.spread_pct is None
    assert three.corner_pct == pytest.approx(one.corner_pct, abs=0.02)
    # By hand: where the corner goes once half the short side stays where it is.
    corner, median_corner = frame_corner(2000, 3000), float(np.median([c.corner for c in known]))
    u, moved = np.linspace(0, 2, 200_001), []
    for k1 in bends:
        reads = u * (1 + k1 * u**2 + BARREL[1] * u**4 + BARREL[2] * u**6)
        still = u[np.searchsorted(reads, 1 / corner)]
        read = np.interp(median_corner * still, u, reads) * corner
        moved.append(100 * (read / median_corner - 1))
    assert three.spread_pct == pytest.approx(np.std(moved, ddof=1), rel=0.01)


def test_terms_without_a_place_are_told() -> None:
    off = (*BARREL[:3], 0.001, 0.0, 0.01, 0.0, BARREL[7])
    half = np.hypot(2999, 1999) / 2
    xml = entry([photo_of(off)])
    assert f"optical centre {0.01 * half:.1f} px from the middle" in xml
    assert f"tangential terms of up to {0.003 * half:.1f} px" in xml


def test_photos_that_cannot_go_in_are_left_out_with_a_reason() -> None:
    folding = photo_of((-0.8, -0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    square = photo_of(BARREL, 2000, 2000)
    made = lensfun_database([photo_of(BARREL), photo_of(BARREL), square, folding])
    assert made.xml is not None
    reasons = [reason for _, reason in made.left_out]
    assert reasons == [
        "its lens folds inside the photo",
        "its aspect is 1.00:1, but most photos of its lens have 1.50:1",
    ]
    photo = photo_of(BARREL, crop_factor=None, camera="Canon EOS 12345")
    unknown = lensfun_database([photo])
    assert unknown.xml is None
    assert unknown.left_out[0][1].endswith("photos: give the crop factor")
    given = entry([photo], crop_factor=1.53)
    assert "<cropfactor>1.53</cropfactor>" in given


@pytest.mark.parametrize("share", [0.8, 1.2])
def test_a_lens_with_a_large_expected_error_is_not_exported(
    share: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`rectify` refuses a warp whose expected error is over the displacement."""
    trained = TrainedOn(stage="stage1_param_only", size=(64, 96))
    model = HybridModel(residual_enabled=False, trained_on=trained)
    head = model.parametric_head
    with torch.no_grad():
        head.mixing.copy_(torch.eye(8))
        head.votes.bias[0] = -0.15
        moved = moved_px(
            PhotoWarp(torch.tensor([0.8 * math.tanh(-0.15), *IDENTITY_PARAMS[1:]])), 64, 96
        )
        head.uncertainty.out.bias.fill_(math.log(share * moved * 100 / half_diagonal(64, 96)))
    save_pretrained(model, tmp_path / "model")
    tags = {"FocalLengthIn35mmFilm": 27}
    photo = photo_with(tmp_path / "p.jpg", lambda exif: camera_tags(exif, **tags))
    arguments = ["export", str(tmp_path / "model"), str(photo), "--to"]
    assert main([*arguments, "opencv"]) == 0
    printed, reported = capsys.readouterr()
    row = json.loads(printed)
    code = main([*arguments, "lensfun"])
    database, left_out = capsys.readouterr()
    if share < 1:
        assert (row["mode_used"], row["warnings"], reported) == ("lens", [], "")
        assert code == 0
        assert left_out == "warp-train: 1 photo in 1 lens, 0 left out, 0 not readable\n"
        assert "<distortion" in database
        return
    assert row["mode_used"] == "unchanged"
    assert row["params"] == list(IDENTITY_PARAMS)
    assert row["dist_coeffs"] == [0.0] * 5
    assert row["warnings"][0].startswith("lens: expected to be wrong by ")
    assert "p.jpg: unchanged instead of lens: expected to be wrong by " in reported
    assert code == 1
    assert "left out: its lens was refused (lens: expected to be wrong by " in left_out


def test_the_command_writes_a_database_that_lensfun_loads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = TrainedOn(stage="stage1_param_only", size=(64, 96))
    model = HybridModel(residual_enabled=False, trained_on=trained)
    torch.nn.init.normal_(model.parametric_head.votes.weight, std=0.02)
    torch.nn.init.constant_(model.parametric_head.uncertainty.out.bias, -7)  # sure of it
    save_pretrained(model, tmp_path / "model")
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, focal in enumerate((18.0, 18.0, 55.0)):
        tags = {"FocalLength": focal, "FocalLengthIn35mmFilm": round(focal * 1.5)}
        photo_with(photos / f"{number}.jpg", lambda exif, tags=tags: camera_tags(exif, **tags))  # type: ignore[misc]
    photo_with(photos / "none.jpg", lambda exif: None)
    out = tmp_path / "lens.xml"
    arguments = ["export", str(tmp_path / "model"), str(photos), "--to", "lensfun"]
    assert main([*arguments, "--out", str(out)]) == 0
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert said[0].endswith("none.jpg: left out: no EXIF")
    assert said[1] == "warp-train: 3 photos in 1 lens, 1 left out, 0 not readable"
    assert main(arguments) == 0
    assert capsys.readouterr().out == out.read_text(encoding="utf-8")
    database = lensfunpy.Database(paths=[str(out)], load_common=False, load_bundled=False)
    (lens,) = database.lenses
    assert (lens.model, lens.crop_factor) == ("18-55mm VR", 1.5)
    assert main([*arguments, "--crop-factor", "1.53"]) == 0
    assert "<cropfactor>1.53</cropfactor>" in capsys.readouterr().out
    assert main([*arguments[:2], str(photos / "none.jpg"), *arguments[3:]]) == 1
    assert "no photo is left to make a lensfun entry from" in capsys.readouterr().err


def test_the_command_names_the_lens_of_an_old_body(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = TrainedOn(stage="stage1_param_only", size=(64, 96))
    model = HybridModel(residual_enabled=False, trained_on=trained)
    torch.nn.init.normal_(model.parametric_head.votes.weight, std=0.02)
    torch.nn.init.constant_(model.parametric_head.uncertainty.out.bias, -7)  # sure of it
    save_pretrained(model, tmp_path / "model")
    tags = {"LensModel": "----", "FocalLengthIn35mmFilm": 27}
    for number in range(2):
        photo_with(tmp_path / "in" / f"{number}.jpg", lambda exif: camera_tags(exif, **tags))
    (tmp_path / "in" / "broken.jpg").write_bytes(b"no photo")
    arguments = ["export", str(tmp_path / "model"), str(tmp_path / "in"), "--to", "lensfun"]
    assert main(arguments) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 4
    assert said[1].endswith(
        "0.jpg: left out: its EXIF identifies no lens, and NIKON D7000 takes several: "
        "give the name of the lens"
    )
    assert said[3].endswith("make a lensfun entry from (2 left out, 1 not readable)")
    ascii_terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", ascii_terminal)
    assert main([*arguments, "--lens", "Nikkor Ü 18mm"]) == 1  # one photo is not readable
    ascii_terminal.seek(0)
    written = ascii_terminal.buffer.read().decode()
    database = lensfunpy.Database(xml=written, load_common=False, load_bundled=False)
    assert [lens.model for lens in database.lenses] == ["Nikkor Ü 18mm"]
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "warp-train: 2 photos in 1 lens, 0 left out, 1 not readable"
