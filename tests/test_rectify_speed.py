"""What makes `rectify` fast, against the slow way; and the benchmark, which must be fair."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from data_helpers import textured
from numpy.typing import NDArray
from PIL import Image
from rectify_helpers import PINCUSHION, Says, save_lens_model

from warp_train.benchmark.rectify_speed import opencv_once, rectify_once, what_was_done
from warp_train.data.frames import fit_image, turn_image
from warp_train.geometry import IDENTITY_PARAMS
from warp_train.inference.fallback import check_warp
from warp_train.inference.photo_warp import PhotoWarp
from warp_train.inference.predictor import Predictor
from warp_train.photos.encoding import encode_photo
from warp_train.photos.files import read_photo


class Watched(Says):
    """A model that keeps what it was shown."""

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        self.shown = (image[0].permute(1, 2, 0) * 255).round().numpy()
        return super().forward(image)


@pytest.mark.parametrize("size", [(800, 1200), (1200, 800), (1601, 2402), (600, 3200)])
def test_the_model_is_shown_what_an_exact_filter_makes(size: tuple[int, int]) -> None:
    photo: NDArray[np.uint8] = textured(*size)
    model = Watched(IDENTITY_PARAMS)
    Predictor(model, torch.device("cpu"), "0").predict(photo)
    upright = turn_image(photo) if size[0] > size[1] else photo
    height, width = model.shown.shape[:2]
    exact = fit_image(upright, (height, width)).astype(float)
    assert np.abs(model.shown - exact).mean() < 1
    # The halves must not be shifted: no other place fits as well as this one.
    for shift in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        moved = np.roll(exact, shift, (0, 1))
        assert np.abs(model.shown - exact).mean() < 0.2 * np.abs(model.shown - moved).mean()


def test_a_fold_between_the_coarse_nodes_is_seen() -> None:
    """A residual that folds within one of its 900 columns, everywhere else a smooth lens."""
    residual = torch.zeros(3, 900, 2)
    residual[:, 401, 0] = -0.003
    lens = torch.tensor((-0.05, 0.01, 0, 0, 0, 0, 0, 1), dtype=torch.float64)
    assert check_warp(PhotoWarp(lens), 4000, 6000)["safe"]
    assert not check_warp(PhotoWarp(lens, residual), 4000, 6000)["safe"]


def test_a_jpeg_is_the_one_that_pillow_writes(tmp_path: Path) -> None:
    source = tmp_path / "x.jpg"
    Image.fromarray(textured(97, 131)).save(source, quality=83, subsampling=1)
    photo = read_photo(source)
    ours, _ = encode_photo(photo, photo.pixels, "jpeg", 71)
    theirs = tmp_path / "theirs.jpg"
    Image.fromarray(photo.pixels).save(theirs, quality=71, subsampling=1)
    assert ours == theirs.read_bytes()


@pytest.mark.parametrize("kernel", ["bilinear", "bicubic"])
def test_the_benchmark_compares_like_with_like(tmp_path: Path, kernel: str) -> None:
    model = save_lens_model(tmp_path / "model", PINCUSHION)
    photo = tmp_path / "x.jpg"
    Image.fromarray(textured(240, 360)).save(photo, quality=95)
    _, record = rectify_once(str(model), tmp_path, kernel, photo)  # type: ignore[arg-type]
    ours = cv2.imread(record["output"])
    assert record["crop"]["zoom"] > 1
    for method in ("fixed", "float", "built"):
        asked = what_was_done(photo, record)
        opencv_once(tmp_path, kernel, method, asked)  # type: ignore[arg-type]
        (output,) = tmp_path.glob("opencv-*.jpg")
        theirs = cv2.imread(str(output))
        assert ours is not None
        assert theirs is not None
        off = np.abs(ours.astype(int) - theirs)[2:-2, 2:-2].mean()
        assert off < 1
        assert off < 0.1 * np.abs(cv2.imread(str(photo)).astype(int) - theirs).mean()  # type: ignore[union-attr]
        assert output.stat().st_size == pytest.approx(
            Path(record["output"]).stat().st_size, rel=0.02
        )
