"""`warp-train recover`: lenses found by registration, resumed runs, and `data.warps`."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from data_helpers import LENS_COLUMNS, opencv_maps, save
from recover_helpers import drawn, lines
from runs_helpers import one_line_error

from warp_train import cli
from warp_train.data import DataConfig, SampleKey, build_sources
from warp_train.data.lenses import backward_map
from warp_train.geometry import build_parametric_grid, end_point_error
from warp_train.registration.estimate import Recovery, recover_lens
from warp_train.registration.field import Field, nearest_lens, place, plain_field
from warp_train.registration.frames import pyramid
from warp_train.registration.pairs import PairJob, recover_files
from warp_train.registration.refine import align, normal_equations
from warp_train.registration.start import best_starts
from warp_train.runtime.errors import WarpTrainError

SHAPE = (240, 320)
LENSES = {
    "nothing": (0, 0, 0, 0, 0, 0, 0, 1),
    "mild barrel": (-0.05, 0.01, 0, 0, 0, 0, 0, 0.98),
    "strong barrel": (-0.32, 0.08, -0.01, 0, 0, 0, 0, 0.84),
    "strong pincushion": (0.45, 0.1, 0.05, 0, 0, 0, 0, 1.3),
    "moustache": (-0.2, 0.35, -0.15, 0, 0, 0, 0, 1.0),
    "tangential": (-0.1, 0.02, 0, 0.01, -0.008, 0, 0, 0.97),
    "decentred": (-0.25, 0.05, 0, 0, 0, 0.03, -0.02, 0.9),
    "all at once": (-0.2, 0.06, -0.02, 0.004, 0.006, -0.02, 0.03, 0.93),
}


def pair(lens: Any, shape: tuple[int, int] = SHAPE, seed: int = 0) -> tuple[Any, Any]:
    """(bent, straight): the straight one made from the bent one by OpenCV."""
    bent = drawn(*shape, seed=seed)
    return bent, cv2.remap(bent, *opencv_maps(lens, *shape), cv2.INTER_CUBIC)


def recovered(bent: Any, straight: Any) -> Recovery:
    return recover_lens(bent, straight, bent.shape[:2])


def true_error(params: Any, lens: Any, shape: tuple[int, int] = SHAPE) -> float:
    grids = [
        build_parametric_grid(torch.tensor([p], dtype=torch.float64), *shape)
        for p in (np.asarray(params, float).tolist(), np.asarray(lens, float).tolist())
    ]
    return float(end_point_error(*grids))


@pytest.mark.parametrize("lens", LENSES.values(), ids=LENSES.keys())
def test_the_lens_is_found_and_trusted(lens: tuple[float, ...]) -> None:
    found = recovered(*pair(lens))
    assert true_error(found.params, lens) < 0.05
    assert found.ok
    assert found.error_px < 0.1


@pytest.mark.parametrize("shape", [(320, 240), (200, 401), (90, 120)])
def test_on_frames_of_any_form(shape: tuple[int, int]) -> None:
    lens = LENSES["strong barrel"]
    assert true_error(recovered(*pair(lens, shape)).params, lens, shape) < 0.05


def test_light_may_differ() -> None:
    lens = LENSES["strong barrel"]
    bent, straight = pair(lens)
    rows = np.linspace(-1, 1, SHAPE[0])[:, None, None]
    changed = (255 * (straight / 255.0) ** 0.85 * 0.8 + 25) * (1 - 0.1 * rows**2)
    found = recovered(bent, changed.astype(np.uint8))
    assert true_error(found.params, lens) < 0.1


def test_a_large_photo_is_measured_small() -> None:
    lens, shape = LENSES["all at once"], (1500, 2000)
    bent, straight = pair(lens, shape)
    whole = recovered(bent, straight)
    assert true_error(whole.params, lens, shape) < 0.3
    small = [
        cv2.resize(p, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for p in (bent, straight)
    ]
    reduced = recover_lens(*small, shape)
    assert true_error(reduced.params, lens, shape) < 0.3
    assert whole.ok
    assert reduced.ok


@pytest.mark.parametrize("shape", [(16, 16), (40, 60), (16, 700), (700, 16)])
def test_tiny_and_narrow_photos_are_no_trouble(shape: tuple[int, int]) -> None:
    found = recovered(*pair(LENSES["mild barrel"], shape))
    assert all(math.isfinite(value) for value in (*found.params, found.error_px))
    assert not found.ok or true_error(found.params, LENSES["mild barrel"], shape) < 0.3


def flat(bent: Any, straight: Any) -> tuple[Any, Any]:
    return np.full_like(bent, 200), np.full_like(straight, 200)


def others(bent: Any, straight: Any) -> tuple[Any, Any]:
    return bent, drawn(*SHAPE, seed=99)


def turned(bent: Any, straight: Any) -> tuple[Any, Any]:
    centre = (SHAPE[1] / 2, SHAPE[0] / 2)
    return bent, cv2.warpAffine(straight, cv2.getRotationMatrix2D(centre, 3, 1), SHAPE[::-1])


def noisy(bent: Any, straight: Any) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return tuple(rng.integers(0, 256, p.shape).astype(np.uint8) for p in (bent, straight))


@pytest.mark.parametrize("spoil", [flat, others, turned, noisy])
def test_what_cannot_be_registered_is_not_trusted(spoil: Any) -> None:
    found = recovered(*spoil(*pair(LENSES["mild barrel"])))
    assert not found.ok
    assert found.error_px > 0.15
    assert all(math.isfinite(value) for value in (*found.params, found.error_px))


def test_the_start_is_within_reach_of_refinement() -> None:
    lens = LENSES["strong pincushion"]
    frames = pyramid(*(p[..., 1].astype(np.float32) / 255 for p in pair(lens)), SHAPE, 640)[0]
    (start,) = best_starts(frames, 1)
    x, y = frames.points()
    placed, read = (
        place(start, x, y),
        backward_map(np.array(lens, float), x.astype(float), y.astype(float)),
    )
    assert np.hypot(placed.x - read[0], placed.y - read[1]).mean() * frames.geometry.unit_x < 1.5


def test_derivatives_are_those_of_the_residuals() -> None:
    values = plain_field(0.95, 0.1).values + np.random.default_rng(0).normal(0, 0.003, 11)
    planes = [
        cv2.GaussianBlur(p[..., 1].astype(np.float32) / 255, (0, 0), 5)
        for p in pair(LENSES["nothing"])
    ]
    frames = pyramid(*planes, SHAPE, 640)[-1]
    view = align(frames, Field(values))
    inner = (slice(30, -30), slice(30, -30))
    for unknown in range(11):
        step = np.eye(11)[unknown] * 2e-3
        ends = [align(frames, Field(values + way * step), view.light).residual for way in (1, -1)]
        slope = ((ends[0] - ends[1]) / 4e-3)[inner]
        columns = one_column(frames, Field(values), view, unknown)[inner]
        assert np.corrcoef(slope.ravel(), columns.ravel())[0, 1] > 0.98, unknown
        assert np.linalg.norm(columns) == pytest.approx(np.linalg.norm(slope), rel=0.1), unknown
    assert np.linalg.eigvalsh(normal_equations(frames, Field(values), view).normal)[0] > 0


def one_column(frames: Any, field: Field, view: Any, unknown: int) -> Any:
    from warp_train.registration.field import derivatives

    across = view.light.gain * view.across * frames.geometry.unit_x
    down = view.light.gain * view.down * frames.geometry.unit_y
    return derivatives(place(field, *frames.points()), across, down)[unknown]


@pytest.mark.parametrize("lens", LENSES.values(), ids=LENSES.keys())
def test_the_nearest_lens_of_a_lens_is_itself(lens: tuple[float, ...]) -> None:
    k1, k2, k3, p1, p2, dcx, dcy, s = lens
    nodes = np.cos(np.linspace(0, np.pi, 7))
    r = (nodes + 1) / 2 / s
    profile = np.polynomial.chebyshev.chebfit(nodes, (1 + k1 * r**2 + k2 * r**4 + k3 * r**6) / s, 6)
    field = Field(np.array([*profile, p2 / s**2, p1 / s**2, dcx, dcy]))
    x, y = np.random.default_rng(0).uniform(-0.7, 0.7, (2, 500))
    found = nearest_lens(field, x, y)
    assert found == pytest.approx(lens, abs=1e-6)
    placed = place(field, np.float32(x[None]), np.float32(y[None]))
    read = backward_map(np.array(lens, float), x, y)
    assert np.allclose([placed.x[0], placed.y[0]], read, atol=1e-5)


# The command


def write_pairs(folder: Path, count: int, shape: tuple[int, int] = (96, 128)) -> Path:
    for number in range(count):
        bent, straight = pair(LENSES["mild barrel"], shape, seed=number)
        save(folder / f"house{number}_g0_original.png", bent)
        save(folder / f"house{number}_g0_generated.png", straight)
    return folder


def test_a_folder_with_files_that_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, out = write_pairs(tmp_path / "p", 4), tmp_path / "warps.jsonl"
    (photos / "house1_g0_original.png").write_text("no photo")
    save(photos / "house2_g0_generated.png", drawn(50, 60))
    assert cli.main(["recover", str(photos), "--out", str(out), "--workers", "2"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3
    assert re.fullmatch(r"warp-train: 2 failed, 2 recovered \(.* pairs/s\)", said[-1])
    rows = {row["image_id"]: row for row in lines(out)}
    assert sorted(rows) == [f"house{n}_g0" for n in range(4)]
    assert rows["house1_g0"].keys() == rows["house2_g0"].keys() == {"image_id", "error"}
    assert "is 128x96 px, but its target is 60x50 px" in rows["house2_g0"]["error"]
    for name in ("house0_g0", "house3_g0"):
        assert rows[name].keys() == {"image_id", "params", "error_px", "ok"}
        assert true_error(rows[name]["params"], LENSES["mild barrel"], (96, 128)) < 0.1
        assert rows[name]["ok"] is True

    # Again, with the files mended: only what failed is tried, and nothing is there twice.
    before = [row for row in lines(out) if "params" in row]
    write_pairs(photos, 4)
    assert cli.main(["recover", str(photos), "--out", str(out), "--workers", "0"]) == 0
    assert lines(out)[:2] == before
    assert sorted(row["image_id"] for row in lines(out)) == sorted(rows)
    assert "2 of 4 pairs are in" in capsys.readouterr().err
    after = out.read_bytes()
    assert cli.main(["recover", str(photos), "--out", str(out)]) == 0
    assert out.read_bytes() == after


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    photos, out = write_pairs(tmp_path / "p", 24, (240, 320)), tmp_path / "warps.jsonl"
    arguments = ["recover", str(photos), "--out", str(out), "--workers", "0"]
    run = subprocess.Popen([sys.executable, "-m", "warp_train", *arguments], stderr=subprocess.PIPE)
    while not (out.exists() and out.read_bytes().count(b"\n") >= 2):
        assert run.poll() is None
        time.sleep(0.01)
    os.kill(run.pid, signal.SIGKILL)
    run.communicate()
    whole = out.read_bytes().rpartition(b"\n")[0]
    assert 2 <= whole.count(b"\n") + 1 < 24
    out.write_bytes(whole + b'\n{"image_id": "house9_g0", "par')  # as a crash may leave it
    assert cli.main(arguments) == 0
    assert out.read_bytes().startswith(whole + b"\n")
    assert sorted(row["image_id"] for row in lines(out)) == sorted(
        f"house{n}_g0" for n in range(24)
    )


def test_jpegs_whose_reduction_does_not_come_out_even(tmp_path: Path) -> None:
    """They are decoded at half their size, which holds half a pixel that is not of the photo."""
    shape = (1281, 1361)
    lens = LENSES["strong barrel"]
    for name, photo in zip(("bent", "straight"), pair(lens, shape), strict=True):
        save(tmp_path / f"{name}.jpg", photo)
    line = recover_files(PairJob("a", tmp_path / "bent.jpg", tmp_path / "straight.jpg"))
    assert true_error(line["params"], lens, shape) < 0.12


def test_lens_columns_are_not_looked_at(tmp_path: Path) -> None:
    write_pairs(tmp_path, 1)
    files = "house0_g0_original.png,house0_g0_generated.png"
    rows = f"image_id,input,target,{LENS_COLUMNS}\nmine,{files},9,9,9,9,9,9,9,9\n"
    (tmp_path / "m.csv").write_text(rows)
    out = tmp_path / "warps.jsonl"
    assert cli.main(["recover", str(tmp_path / "m.csv"), "--out", str(out), "--workers", "0"]) == 0
    (row,) = lines(out)
    assert row["image_id"] == "mine"
    assert true_error(row["params"], LENSES["mild barrel"], (96, 128)) < 0.1


BAD_ARGUMENTS = {
    "no pairs": (["nowhere", "--out", "w.jsonl"], "nowhere does not exist"),
    "out is a folder": (["p", "--out", "p"], "--out p: is a folder"),
    "no folder for out": (["p", "--out", "no/w.jsonl"], "there is no folder no"),
    "out is something else": (["p", "--out", "p/other.txt"], "line 1: not written by `recover`"),
    "one id twice": (["p/twice.csv", "--out", "w.jsonl"], "two pairs have the image_id 'a'"),
}


@pytest.mark.parametrize(("arguments", "part"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS.keys())
def test_what_is_wrong_is_said_in_one_line(
    arguments: list[str],
    part: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_pairs(Path("p"), 1)
    row = "house0_g0_original.png,house0_g0_generated.png,a\n"
    Path("p/twice.csv").write_text(f"input,target,image_id\n{row}{row}")
    Path("p/other.txt").write_text("valuable")
    assert cli.main(["recover", *arguments]) == 1
    assert part in one_line_error(capsys)
    assert Path("p/other.txt").read_text() == "valuable"


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["recover", "--help"])
    assert stop.value.code == 0
    assert "\n  warp-train recover " in capsys.readouterr().out


# data.warps

LENS = [-0.05, 0.01, 0.002, 0.001, -0.001, 0.01, -0.01, 0.98]


def warp_line(image_id: str, **changes: Any) -> str:
    row = {"image_id": image_id, "params": LENS, "error_px": 0.01, "ok": True, **changes}
    return json.dumps(row) + "\n"


def sources(root: Path, warps: Path, **more: Any) -> Any:
    config = DataConfig(source="pairs", root=root, warps=warps, size=(96, 128), flip=False, **more)
    return build_sources(config, 0)


def test_pairs_get_the_lenses_that_are_sure(tmp_path: Path) -> None:
    photos, warps = write_pairs(tmp_path / "p", 5), tmp_path / "w.jsonl"
    error = json.dumps({"image_id": "house2_g0", "error": "unreadable"}) + "\n"
    warps.write_text(
        warp_line("house0_g0") + warp_line("house1_g0", ok=False) + error + warp_line("house4_g0")
    )
    samples = [
        source[SampleKey(0, n)] for source in sources(photos, warps) for n in range(len(source))
    ]
    lenses = {sample["image_id"]: sample["target_params"] for sample in samples}
    assert len(lenses) == 5
    for name in ("house0_g0", "house4_g0"):
        torch.testing.assert_close(lenses[name], torch.tensor(LENS))
    for name in ("house1_g0", "house2_g0", "house3_g0"):
        assert lenses[name].isnan().all()


def test_the_file_of_warps_goes_before_a_manifest(tmp_path: Path) -> None:
    write_pairs(tmp_path, 2)
    rows = [f"image_id,input,target,{LENS_COLUMNS}"]
    for n in range(2):
        files = f"house{n}_g0_original.png,house{n}_g0_generated.png"
        rows.append(f"house{n}_g0,{files},0.2,0,0,0,0,0,0,1")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "w.jsonl").write_text(warp_line("house1_g0"))
    train, val = sources(tmp_path, tmp_path / "w.jsonl")
    lenses = {item.image_id: item.params for item in (*train.items, *val.items)}
    assert lenses["house1_g0"] == pytest.approx(LENS)
    assert lenses["house0_g0"][0] == 0.2


BAD_WARPS = {
    "no JSON": (warp_line("house0_g0") + "{oops\n", "line 2: not JSON"),
    "no object": ("[]\n", "line 1: must be an object with an 'image_id'"),
    "too few": (warp_line("house0_g0", params=[0.0]), "line 1: 'params' must be eight numbers"),
    "a word": (warp_line("house0_g0", params=["a"] * 8), "line 1: 'params' must be eight numbers"),
    "not finite": (warp_line("house0_g0", params=[math.nan] * 8), "line 1: 'params' must be eight"),
    "short profile": (
        warp_line("house0_g0", profile=[0.0]),
        "line 1: 'profile' must be two or more",
    ),
    "no profile": (
        warp_line("house0_g0", profile=[0.0, "a"]),
        "'profile' must be two or more numbers",
    ),
    "s of 0": (warp_line("house0_g0", params=[0] * 8), "with s > 0"),
    "ok is a word": (warp_line("house0_g0", ok="yes"), "line 1: 'ok' must be true or false"),
    "twice": (2 * warp_line("house0_g0"), "line 2: a second line for image_id 'house0_g0'"),
    "others' pairs": (warp_line("flat7"), "names none of the pairs"),
    "empty": ("", "names none of the pairs"),
}


@pytest.mark.parametrize(("text", "part"), BAD_WARPS.values(), ids=BAD_WARPS.keys())
def test_a_bad_file_of_warps_is_named(text: str, part: str, tmp_path: Path) -> None:
    photos, warps = write_pairs(tmp_path / "p", 2), tmp_path / "w.jsonl"
    warps.write_text(text)
    with pytest.raises(WarpTrainError, match=re.escape(part)) as failure:
        sources(photos, warps)
    assert str(failure.value).startswith(f"data.warps: {warps}")


def test_a_missing_file_of_warps_and_an_id_in_both_folders(tmp_path: Path) -> None:
    photos, warps = write_pairs(tmp_path / "p", 2), tmp_path / "w.jsonl"
    with pytest.raises(WarpTrainError, match="cannot be read"):
        sources(photos, warps)
    warps.write_text(warp_line("1"))
    for name in ("a", "b"):
        for role in ("original", "generated"):
            save(tmp_path / name / f"1_{role}.png", drawn(64, 64))
    with pytest.raises(WarpTrainError, match="'1' is the image_id of a training and of a valid"):
        sources(tmp_path / "a", warps, val_root=tmp_path / "b")


def test_warps_are_for_pairs_only(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.warps applies only to source 'pairs'"):
        DataConfig(source="scenes", warps=tmp_path / "w.jsonl")
