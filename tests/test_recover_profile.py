"""Profiles: what eight parameters leave over of a lens, found by `recover`, used by `data.warps`.

The lenses are PTLens, as lensfun has them: no Brown-Conrady lens is one.
"""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from data_helpers import opencv_maps, save
from recover_helpers import drawn, lines

from warp_train import cli
from warp_train.data import DataConfig, SampleKey, build_sources, collate
from warp_train.data.lenses import backward_map
from warp_train.geometry import build_parametric_grid
from warp_train.registration.estimate import recover_lens

SHAPE = (240, 320)
TERMS = (-0.9, 1.4, -0.7, 1.06)
"""Of r³, r², r and 1: strong odd terms, which no Brown-Conrady lens has."""
FOLDING = (-1.2, 1.8, -0.9, 1.1)
"""Turns back in the frame's corners."""
CENTRE = (0.05, -0.03)


def ptlens(
    x: Any, y: Any, shape: tuple[int, int], centre: Any = (0, 0), terms: Any = TERMS
) -> tuple[Any, Any]:
    """Where the lens reads for positions in pixels; its unit is the half diagonal."""
    half = np.hypot(shape[1] - 1, shape[0] - 1) / 2
    cx, cy = (((n - 1) / 2 + d * half) for n, d in zip(shape[::-1], centre, strict=True))
    r = np.hypot(x - cx, y - cy) / half
    profile = np.polyval(terms, r)
    return cx + (x - cx) * profile, cy + (y - cy) * profile


def lattice(shape: tuple[int, int]) -> tuple[Any, Any]:
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    return x, y


def pair(terms: Any = TERMS) -> tuple[Any, Any]:
    bent = drawn(*SHAPE)
    maps = (np.float32(m) for m in ptlens(*lattice(SHAPE), SHAPE, terms=terms))
    return bent, cv2.remap(bent, *maps, cv2.INTER_CUBIC)


def test_a_lens_that_no_eight_parameters_are_gets_a_profile() -> None:
    found = recover_lens(*pair(), SHAPE)
    x, y = lattice(SHAPE)
    half = np.hypot(319, 239) / 2
    u_x, u_y = (x - 159.5) / half, (y - 119.5) / half
    true = ptlens(x, y, SHAPE)
    lens_x, lens_y = backward_map(found.params, u_x, u_y)
    off_x, off_y = lens_x * half + 159.5 - true[0], lens_y * half + 119.5 - true[1]
    error = np.hypot(off_x, off_y).mean()
    assert error > 0.15
    assert found.error_px == pytest.approx(error, abs=0.05)
    assert not found.ok
    assert found.profile is not None
    v_x, v_y = u_x - found.params[5], u_y - found.params[6]
    r = np.hypot(v_x, v_y)
    outward = np.interp(r, np.linspace(0, 1, 33), found.profile.values) / r * half
    rest = np.hypot(off_x + v_x * outward, off_y + v_y * outward).mean()
    assert rest < 0.06
    assert found.profile.error_px == pytest.approx(rest, abs=0.03)


def test_a_lens_that_eight_parameters_are_gets_none() -> None:
    bent, lens = drawn(*SHAPE), (-0.32, 0.08, -0.01, 0, 0, 0, 0, 0.84)
    straight = cv2.remap(bent, *opencv_maps(lens, *SHAPE), cv2.INTER_CUBIC)
    assert recover_lens(bent, straight, SHAPE).profile is None


def test_what_is_not_sure_gets_none() -> None:
    bent, straight = pair()
    turn = cv2.getRotationMatrix2D((SHAPE[1] / 2, SHAPE[0] / 2), 1, 1)
    found = recover_lens(bent, cv2.warpAffine(straight, turn, SHAPE[::-1]), SHAPE)
    assert not found.ok
    assert found.profile is None


def test_what_folds_gets_none() -> None:
    found = recover_lens(*pair(FOLDING), SHAPE)
    assert not found.ok
    assert found.profile is None


def test_from_photos_to_the_warp_that_is_learned_from(tmp_path: Path) -> None:
    for name, photo in zip(("original", "generated"), pair(), strict=True):
        for house in range(2):
            save(tmp_path / "p" / f"house{house}_g0_{name}.png", photo)
    out = tmp_path / "w.jsonl"
    assert cli.main(["recover", str(tmp_path / "p"), "--out", str(out), "--workers", "0"]) == 0
    for row in lines(out):
        assert row["ok"] is False
        assert len(row["profile"]) == 33
        assert row["profile_error_px"] < 0.1
    grid = learned(tmp_path / "p", out, SHAPE)["target_grid"].double().numpy()
    true = ptlens(*lattice(SHAPE), SHAPE)
    off = [(grid[..., i] + 1) / 2 * (SHAPE[1 - i] - 1) - true[i] for i in (0, 1)]
    assert np.hypot(*off).mean() < 0.06


# data.warps


def learned(root: Path, warps: Path, size: tuple[int, int], epoch: int = 0, **more: Any) -> Any:
    options = {"flip": False, **more}
    config = DataConfig(source="pairs", root=root, warps=warps, size=size, **options)
    train, _ = build_sources(config, 0)
    return train[SampleKey(epoch, 0)]


@pytest.fixture
def decentred(tmp_path: Path) -> Any:
    """A function that writes two pairs of a shape, and a file with a lens that is exact in them:
    the identity about a centre aside, and all of the bending in the profile."""

    def write(shape: tuple[int, int]) -> tuple[Path, Path]:
        half = np.hypot(shape[1] - 1, shape[0] - 1) / 2
        r = np.linspace(0, 1, 501)
        middle = [(n - 1) / 2 + d * half for n, d in zip(shape[::-1], CENTRE, strict=True)]
        along, _ = ptlens(middle[0] + r * half, middle[1], shape, CENTRE)
        row = {
            "params": [0, 0, 0, 0, 0, *CENTRE, 1],
            "error_px": 9.0,
            "ok": False,
            "profile": ((along - middle[0]) / half - r).tolist(),
        }
        for house in range(2):
            for name in ("original", "generated"):
                save(tmp_path / "p" / f"house{house}_g0_{name}.png", drawn(*shape, seed=3))
        warps = tmp_path / "w.jsonl"
        rows = [{"image_id": f"house{house}_g0", **row} for house in range(2)]
        warps.write_text("".join(json.dumps(r) + "\n" for r in rows))
        return tmp_path / "p", warps

    return write


def expected(shape: tuple[int, int], size: tuple[int, int]) -> tuple[Any, Any]:
    """(source in pixels of the frame `[H, W, 2]`, where it is exact `[H, W]`), by the formula.

    The frame is the largest centred crop of the photo, which is turned to the left if it lies
    across.
    """
    turned = (shape[0] > shape[1]) != (size[0] > size[1])
    height, width = shape[::-1] if turned else shape
    scale = max(size[0] / height, size[1] / width)
    left, top = (width - size[1] / scale) / 2, (height - size[0] / scale) / 2
    x, y = lattice(size)
    x, y = (x + 0.5) / scale + left - 0.5, (y + 0.5) / scale + top - 0.5
    if turned:  # the turned photo's (x, y) is (width - 1 - y, x) of the photo
        x, y = shape[1] - 1 - y, x
    half = np.hypot(shape[1] - 1, shape[0] - 1) / 2
    middle = [(n - 1) / 2 + d * half for n, d in zip(shape[::-1], CENTRE, strict=True)]
    inside = np.hypot(x - middle[0], y - middle[1]) < half
    x, y = ptlens(x, y, shape, CENTRE)
    if turned:
        x, y = y, shape[1] - 1 - x
    frame = ((x + 0.5 - left) * scale - 0.5, (y + 0.5 - top) * scale - 0.5)
    return np.stack(frame, axis=-1), inside


@pytest.mark.parametrize("shape", [(96, 128), (192, 256), (256, 192), (200, 401), (130, 128)])
def test_the_warp_follows_turns_crops_scales_and_flips(shape: Any, decentred: Any) -> None:
    root, warps = decentred(shape)
    size = (96, 128)
    true, inside = expected(shape, size)
    plain = learned(root, warps, size)
    grid = plain["target_grid"].double()
    assert grid.shape == (*size, 2)
    pixels = (grid.numpy() + 1) / 2 * (size[1] - 1, size[0] - 1)
    assert inside.mean() > 0.9
    assert np.abs(pixels - true)[inside].max() < 2e-3
    mirrored = grid.flip(1) * torch.tensor([-1.0, 1.0])
    seen = set()
    for epoch in range(6):
        sample = learned(root, warps, size, epoch, flip=True)
        flipped = not torch.equal(sample["input_image"], plain["input_image"])
        wanted = mirrored if flipped else grid
        torch.testing.assert_close(sample["target_grid"].double(), wanted, atol=1e-6, rtol=0)
        seen.add(flipped)
    assert seen == {True, False}


def test_pairs_with_and_without_a_profile_make_one_batch(decentred: Any, tmp_path: Path) -> None:
    root, warps = decentred((96, 128))
    lens = [-0.05, 0.01, 0.002, 0.001, -0.001, 0.01, -0.01, 0.98]
    others = [(root, "house2_g0"), (root, "house3_g0"), (tmp_path / "v", "house4_g0")]
    for folder, image_id in others:
        for name in ("original", "generated"):
            save(folder / f"{image_id}_{name}.png", drawn(96, 128))
    known = {"image_id": "house2_g0", "params": lens, "error_px": 0.01, "ok": True}
    unsure = {"image_id": "house3_g0", "params": lens, "error_px": 3.0, "ok": False}
    warps.write_text(warps.read_text() + json.dumps(known) + "\n" + json.dumps(unsure) + "\n")
    options: Any = {"root": root, "val_root": tmp_path / "v", "warps": warps, "size": (96, 128)}
    train, val = build_sources(DataConfig(source="pairs", flip=False, **options), 0)
    batch = collate([train[SampleKey(0, n)] for n in range(4)])
    assert batch["image_id"] == [f"house{n}_g0" for n in range(4)]
    grids = batch["target_grid"]
    assert grids.dtype == torch.float32
    assert grids[:2].isfinite().all()
    plain = build_parametric_grid(torch.tensor([lens]), 96, 128)[0]
    torch.testing.assert_close(grids[2], plain, atol=1e-6, rtol=0)
    assert grids[3].isnan().all()
    assert "target_grid" not in val[SampleKey(0, 0)]


def test_a_prepared_cache_has_the_same_warps(decentred: Any, tmp_path: Path) -> None:
    root, warps = decentred((256, 192))
    for name in ("original", "generated"):
        save(tmp_path / "v" / f"house2_g0_{name}.png", drawn(96, 128))
    recipe, cache = tmp_path / "r.yaml", tmp_path / "cache"
    keys = f"{{source: pairs, root: {root}, val_root: {tmp_path / 'v'}, warps: {warps}}}"
    recipe.write_text(f"stage: stage1_param_only\ndata: {keys}\n")
    size = "data.size=[96, 128]"
    assert cli.main(["prepare", str(recipe), "--out", str(cache), "--workers", "0", size]) == 0
    for smaller in ((96, 128), (48, 60)):
        options: Any = {"source": "pairs", "size": smaller, "flip": True}
        (files, _), (cached, _) = (
            build_sources(DataConfig(**options, **where), 0)
            for where in (
                {"root": root, "val_root": tmp_path / "v", "warps": warps},
                {"root": cache},
            )
        )
        for epoch in range(3):
            grids = [s[SampleKey(epoch, 1)]["target_grid"] for s in (files, cached)]
            torch.testing.assert_close(*grids, atol=1e-6 if smaller[0] < 96 else 0, rtol=0)
