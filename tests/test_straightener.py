"""The front door: a photo in memory becomes what `rectify` writes, or one clear error."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from rectify_helpers import BARREL, PINCUSHION, lens_warp, pixels, run, says, write_photo
from runs_helpers import ROOT

from warp_train import Straightener, WarpTrainError
from warp_train.geometry import IDENTITY_PARAMS, percent_to_px
from warp_train.inference.photo_warp import frame_points
from warp_train.inference.predictor import Predictor
from warp_train.inference.rectify import Plan, rectify
from warp_train.inference.rectify_inputs import Job, Settings
from warp_train.models import HybridModel, TrainedOn, save_pretrained
from warp_train.photos.files import read_photo

FLOW = (torch.rand(1, 2, 6, 9, generator=torch.Generator().manual_seed(0)) - 0.5) * 0.1


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with random weights: its lens and its residual depend on the photo."""
    torch.manual_seed(1)
    network = HybridModel(trained_on=TrainedOn(stage="stage2_hybrid", size=(96, 144)))
    torch.nn.init.normal_(network.parametric_head.votes.weight, std=0.05)
    torch.nn.init.normal_(network.residual_head.flow.weight, std=0.02)
    folder = tmp_path_factory.mktemp("model")
    save_pretrained(network, folder)
    return folder


KINDS: dict[str, Any] = {"jpeg": np.uint8, "png": np.uint8, "tiff": np.uint16}


def test_three_lines_are_rectify_bit_for_bit(model: Path, tmp_path: Path) -> None:
    jobs = [
        Job(
            write_photo(tmp_path / f"{kind}-{size[0]}.{kind}", pixels(*size, 3, depth), kind),
            tmp_path / f"out-{kind}-{size[0]}.tif",
        )
        for kind, depth in KINDS.items()
        for size in ((300, 450), (420, 280))
    ]
    records = rectify(
        Plan(tuple(jobs), ()), str(model), Settings(tmp_path, format="tiff"), device="cpu"
    )
    seen = {record["input"]: record for record in records}
    for job in jobs:
        record = seen[str(job.input)]
        assert record["resampled"], record
        assert record["mode_used"] == "hybrid"
        photo = read_photo(job.input).pixels

        straightener = Straightener.from_pretrained(model, device="cpu")
        result = straightener.straighten(photo)

        assert job.output is not None
        assert result.image.dtype == photo.dtype
        np.testing.assert_array_equal(result.image, read_photo(job.output).pixels)
        assert list(result.params) == record["params"]
        assert result.expected_error_px == record["expected_error_px"]
        assert list(result.reasons) == record["refused"]


@pytest.mark.parametrize("crop", ["fill", "none", "max"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_the_options_are_those_of_rectify(
    model: Path, tmp_path: Path, crop: Any, interpolation: Any
) -> None:
    source = write_photo(tmp_path / "photo.png", pixels(200, 300, 3), "png")
    straightener = Straightener.from_pretrained(model, "cpu")
    record = run(source, straightener, crop=crop, interpolation=interpolation)
    photo = read_photo(source).pixels
    result = straightener.straighten(photo, crop=crop, interpolation=interpolation)
    np.testing.assert_array_equal(result.image, read_photo(Path(record["output"])).pixels)


def test_an_image_is_never_the_array_that_was_given() -> None:
    photo = pixels(120, 180, 3)
    before = photo.copy()
    result = says(IDENTITY_PARAMS).straighten(photo)
    np.testing.assert_array_equal(result.image, before)
    result.image[:] = 0
    np.testing.assert_array_equal(photo, before)


def test_any_memory_layout_gives_the_same_image() -> None:
    photo = pixels(120, 180, 3)
    views = (photo[:, :, ::-1].copy()[:, :, ::-1], np.asfortranarray(photo), photo.copy())
    views[2].setflags(write=False)
    expected = says(BARREL).straighten(photo).image
    for view in views:
        np.testing.assert_array_equal(says(BARREL).straighten(view).image, expected)


@pytest.mark.parametrize(
    ("rgb", "reason"),
    [
        ([[1, 2], [3, 4]], "got list"),
        (torch.zeros(64, 96, 3, dtype=torch.uint8), "got Tensor"),
        (np.zeros((64, 96, 3), np.float32), r"got float32 \[64, 96, 3\]"),
        (np.zeros((64, 96, 3), ">u2"), r"got >u2 \[64, 96, 3\]"),
        (np.zeros((64, 96), np.uint8), r"got uint8 \[64, 96\]"),
        (np.zeros((64, 96, 4), np.uint8), r"got uint8 \[64, 96, 4\]"),
        (np.zeros((3, 64, 96), np.uint8), r"got uint8 \[3, 64, 96\]"),
        (np.zeros((0, 0, 3), np.uint8), "at least 16 px a side; got 0x0 px"),
        (np.zeros((64, 15, 3), np.uint8), "at least 16 px a side; got 15x64 px"),
    ],
)
def test_anything_but_an_rgb_photo_is_one_clear_line(rgb: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^expected .*{reason}$"):
        says(BARREL).straighten(rgb)


def test_unknown_options_and_models_are_one_clear_line(tmp_path: Path) -> None:
    straightener, photo = says(PINCUSHION), pixels(64, 96, 3)
    with pytest.raises(ValueError, match=r"^crop 'square': expected one of fill, none, max$"):
        straightener.straighten(photo, crop="square")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^interpolation 'cubic': expected one of bilinear, "):
        straightener.straighten(photo, interpolation="cubic")  # type: ignore[arg-type]
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WarpTrainError, match=r"config\.json"):
        Straightener.from_pretrained(tmp_path)
    with pytest.raises(WarpTrainError, match=r"^device 'gpu': expected auto, cpu, cuda or mps$"):
        Straightener.from_pretrained(tmp_path, device="gpu")


def test_a_prediction_with_a_large_expected_error_is_not_applied() -> None:
    class Unsure(HybridModel):
        def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
            params = torch.tensor([BARREL])
            return {"params": params, "residual_flow": FLOW, "uncertainty": torch.tensor([50.0])}

    unsure = Straightener(Predictor(Unsure(), torch.device("cpu"), "0"))
    photo = pixels(120, 180, 3)
    result = unsure.straighten(photo)
    assert result.mode == "unchanged"
    assert result.expected_error_px == pytest.approx(percent_to_px(50.0, 120, 180))
    np.testing.assert_array_equal(result.image, photo)
    assert [line.split(":")[0] for line in result.reasons] == ["hybrid", "lens", "lens_clamped"]
    lens = unsure.look(photo, lens_only=True)
    assert lens.predicted.residual is None
    assert [line.split(":")[0] for line in lens.chosen.refused] == ["lens", "lens_clamped"]


def test_the_lens_alone_is_the_lens_of_the_whole_warp() -> None:
    straightener, photo = says(BARREL, FLOW), pixels(120, 180, 3)
    whole, lens = straightener.look(photo), straightener.look(photo, lens_only=True)
    assert whole.chosen.mode == "hybrid"
    assert lens.chosen.mode == "lens"
    assert torch.equal(whole.chosen.warp.params, lens.chosen.warp.params)
    assert lens.expected_error_px == whole.expected_error_px


@pytest.mark.parametrize("residual", [None, FLOW[0].permute(1, 2, 0) * 0.2])
@pytest.mark.parametrize("lens", [BARREL, PINCUSHION, IDENTITY_PARAMS])
def test_targets_are_the_inverse_of_sources(lens: Any, residual: torch.Tensor | None) -> None:
    warp = lens_warp(lens, residual)
    points = frame_points(40, 60, dtype=torch.float64)
    there = warp.sources(points, 40, 60)
    assert (warp.targets(there, 40, 60) - points).abs().max() < 1e-8


def test_the_front_door_is_imported_when_it_is_used() -> None:
    code = (
        "import sys, warp_train; assert warp_train.__version__; "
        "print({'torch', 'numpy', 'cv2', 'pydantic'} & sys.modules.keys()); "
        "from warp_train import Straightener, WarpTrainError, from_pretrained; "
        "print('torch' in sys.modules, Straightener.__name__, from_pretrained.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.splitlines() == ["set()", "True Straightener from_pretrained"]


def test_the_cameras_sixteen_bits_are_predicted_from_at_eight() -> None:
    deep = pixels(120, 180, 3, np.uint16)
    assert says(BARREL).straighten(deep).image.dtype == np.uint16
    shallow = np.rint(deep / 257).astype(np.uint8)
    near = cv2.convertScaleAbs(says(BARREL).straighten(deep).image, alpha=1 / 257)
    off = np.abs(near.astype(int) - says(BARREL).straighten(shallow).image)
    assert np.percentile(off, 99) <= 1
