"""A model at work on photos: its warp at any size and orientation, and what is refused of it."""

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from data_helpers import textured

from warp_train.geometry import (
    IDENTITY_PARAMS,
    SafetyConfig,
    build_parametric_grid,
    evaluate_safety,
    fit_lens,
    identity_grid,
    upsample_residual_flow,
)
from warp_train.inference.fallback import CONSERVATIVE_BOUNDS, check_warp, choose_warp
from warp_train.inference.photo_warp import PhotoWarp, frame_points
from warp_train.inference.predictor import Predictor, load_predictor
from warp_train.models import HybridModel, ModelConfig, TrainedOn, save_pretrained

LENS = (-0.12, 0.03, 0.01, 0.002, -0.001, 0.02, -0.01, 0.95)


class Says(HybridModel):
    """A model that says the same of every photo, and notes the size of what it was shown."""

    def __init__(
        self, lens: tuple[float, ...], flow: torch.Tensor | None = None, shown: float = 1.0
    ) -> None:
        trained = TrainedOn(stage="stage2_hybrid", size=(96, 144), shown=shown)
        super().__init__(ModelConfig(), residual_enabled=flow is not None, trained_on=trained)
        self.lens, self.said_flow = lens, flow

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        self.shown = tuple(image.shape)
        flow = torch.zeros(1, 2, 6, 9) if self.said_flow is None else self.said_flow
        params = torch.tensor([self.lens])
        return {"params": params, "residual_flow": flow, "uncertainty": torch.tensor([0.01])}


def says(lens: tuple[float, ...], flow: torch.Tensor | None = None) -> Predictor:
    return Predictor(Says(lens, flow), torch.device("cpu"), "0")


@pytest.mark.parametrize("size", [(300, 450), (450, 300), (200, 400)])
def test_a_photo_is_looked_at_as_large_as_its_parts_were_in_training(size: tuple[int, int]) -> None:
    # Training cut frames of 96 × 144 that showed three quarters of a photo's sides, so that the
    # whole photo would have been 128 × 192.
    model = Says(LENS, shown=0.75)
    warp = Predictor(model, torch.device("cpu"), "0").predict(textured(*size))
    height, width = model.shown[2:]
    assert height * width == pytest.approx(128 * 192, rel=0.03)
    assert width / height == pytest.approx(max(size) / min(size), rel=0.02)
    # How large it was looked at is nothing to the lens.
    torch.testing.assert_close(
        warp.params, says(LENS).predict(textured(*size)).params, atol=2e-3, rtol=0
    )


@pytest.mark.parametrize("size", [(300, 450), (500, 400), (240, 241), (97, 610)])
def test_a_lens_said_of_the_small_copy_is_the_photos(size: tuple[int, int]) -> None:
    predictor = says(LENS)
    warp = predictor.predict(textured(*size))
    height, width = predictor.model.shown[2:]
    assert height < width
    assert height * width == pytest.approx(96 * 144, rel=0.03)
    # The centre of the small copy is the photo's, and one factor scales both axes: a point of the
    # small frame, mapped by the lens there, is the same point of the photo mapped by its lens.
    small = build_parametric_grid(torch.tensor([LENS]), height, width)[0].numpy()
    turned = size[0] > size[1]
    tall, wide = (size[1], size[0]) if turned else size
    factor = min(tall / height, wide / width)
    pixels = (small + 1) / 2 * (width - 1, height - 1)
    ours = warp.sources(frame_points(*size), *size).numpy()
    ours = (ours + 1) / 2 * (size[1] - 1, size[0] - 1)
    for row, column in itertools.product((0, height // 3, height - 1), (0, width // 4, width - 1)):
        centre = np.array([(width - 1) / 2, (height - 1) / 2])
        at = (np.array([column, row]) - centre) * factor
        source = (pixels[row, column] - centre) * factor
        if turned:  # back, clockwise
            at, source = np.array([-at[1], at[0]]), np.array([-source[1], source[0]])
        middle = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])
        x, y = (at + middle).astype(np.float32)
        if 0 <= x <= size[1] - 1 and 0 <= y <= size[0] - 1:
            maps = np.float32([[x]]), np.float32([[y]])
            read = cv2.remap(ours.astype(np.float32), *maps, cv2.INTER_LINEAR)[0, 0]
            assert read == pytest.approx(source + middle, abs=0.05)


def test_a_residual_turns_with_the_photo() -> None:
    flow = torch.rand(1, 2, 6, 9, generator=torch.Generator().manual_seed(0)) - 0.5
    across = says(IDENTITY_PARAMS, flow).predict(textured(96, 144))
    expected = identity_grid(96, 144) + upsample_residual_flow(flow, 96, 144)[0]
    ours = across.sources(frame_points(96, 144), 96, 144)
    assert (ours - expected).abs().max() < 1e-5
    upright = says(IDENTITY_PARAMS, flow).predict(textured(144, 96))
    turned = upright.sources(frame_points(144, 96), 144, 96).numpy()
    # As pictures: what the upright photo's grid reads is the turned reading of the other's.
    reads = np.rot90(turned)[..., ::-1] * (1, -1)
    assert np.abs(reads - ours.numpy()).max() < 1e-5


def test_points_and_tiles_are_the_whole_frames_grid() -> None:
    warp = PhotoWarp(torch.tensor(LENS, dtype=torch.float64))
    whole = build_parametric_grid(torch.tensor([LENS], dtype=torch.float64), 61, 90)[0]
    tiles = [
        warp.sources(frame_points(61, 90, slice(a, a + 20), torch.float64), 61, 90)
        for a in range(0, 61, 20)
    ]
    assert (torch.cat(tiles) - whole).abs().max() < 1e-12


def test_an_untrained_model_leaves_a_photo_exactly_as_it_is(tmp_path: Path) -> None:
    save_pretrained(HybridModel(), tmp_path)
    warp = load_predictor(tmp_path, "cpu").predict(textured(200, 300))
    assert warp.is_identity


def test_the_conservative_lens_cannot_fold() -> None:
    identity = torch.tensor(IDENTITY_PARAMS, dtype=torch.float64)
    bounds = torch.tensor(CONSERVATIVE_BOUNDS, dtype=torch.float64)
    for signs in itertools.product((-1, 1), repeat=8):
        lens = identity + torch.tensor(signs) * bounds
        for size in ((90, 135), (120, 120), (150, 60)):
            assert check_warp(PhotoWarp(lens), *size)["metrics"]["det_min"] > 0.1


def test_the_first_safe_warp_of_the_chain_is_taken() -> None:
    tame, wild = (
        torch.tensor(LENS, dtype=torch.float64),
        torch.tensor([-0.8, -0.8, -0.5, *LENS[3:]]),
    )
    torn = (torch.rand(6, 9, 2, generator=torch.Generator().manual_seed(1)) - 0.5) * 0.9
    still = torch.zeros(6, 9, 2)
    assert choose_warp(PhotoWarp(tame, still), 200, 300).mode == "hybrid"
    lens = choose_warp(PhotoWarp(tame, torn), 200, 300)
    assert lens.mode == "lens"
    assert lens.warp.residual is None
    assert lens.refused[0].startswith("hybrid: ")
    clamped = choose_warp(PhotoWarp(wild.double(), torn), 200, 300)
    assert clamped.mode == "lens_clamped"
    assert [line.split(":")[0] for line in clamped.refused] == ["hybrid", "lens"]
    strict = SafetyConfig(max_oob_ratio=0.0)
    unchanged = choose_warp(PhotoWarp(-wild.double()), 200, 300, strict)
    assert unchanged.mode == "unchanged"
    assert unchanged.warp.is_identity


@pytest.mark.parametrize("size", [(333, 500), (1500, 1000)])
def test_nothing_that_passes_folds_a_pixel(size: tuple[int, int]) -> None:
    """Parameters and residuals at random and at their bounds, against every pixel cell."""
    rng = np.random.default_rng(0)
    bounds = np.array([0.8, 0.8, 0.5, 0.02, 0.02, 0.08, 0.08, 0.4])
    seen = set()
    for _ in range(12):
        signs = rng.choice([-1.0, 1.0], 8) * rng.choice([0.1, 0.3, 1.0])
        lens = torch.from_numpy(np.array(IDENTITY_PARAMS) + signs * bounds)
        flow = torch.from_numpy(rng.choice([-1.0, 1.0], (6, 9, 2)) * rng.choice([0.02, 0.1, 0.3]))
        chosen = choose_warp(PhotoWarp(lens, flow.float()), *size)
        seen.add(chosen.mode)
        grid = chosen.warp.sources(frame_points(*size, dtype=torch.float64), *size)
        assert evaluate_safety(grid[None])["metrics"]["jacobian_negative_det_pct"] == 0
    assert len(seen) >= 3


def test_a_lens_is_fitted_back_from_its_grid() -> None:
    grid = build_parametric_grid(torch.tensor([LENS], dtype=torch.float64), 41, 61)[0]
    lens = fit_lens(identity_grid(41, 61).reshape(-1, 2), grid.reshape(-1, 2), 41, 61)
    assert lens.tolist() == pytest.approx(LENS, abs=1e-5)


def test_the_fit_is_the_nearest_lens_to_a_warp_that_is_none() -> None:
    points = frame_points(21, 31, dtype=torch.float64).reshape(-1, 2)
    grid = build_parametric_grid(torch.tensor([LENS], dtype=torch.float64), 21, 31)[0]
    source = grid.reshape(-1, 2) + 0.01 * torch.sin(5 * points)
    best = fit_lens(points, source, 21, 31)

    def error(lens: torch.Tensor) -> float:
        off = (PhotoWarp(lens).sources(points[None], 21, 31)[0] - source) * points.new_tensor(
            (30 / np.hypot(20, 30), 20 / np.hypot(20, 30))
        )
        return float(off.square().sum())

    for place, sign in itertools.product(range(8), (-1e-3, 1e-3)):
        nudged = best.clone()
        nudged[place] += sign
        assert error(nudged) > error(best)
