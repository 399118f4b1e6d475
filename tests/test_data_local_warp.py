"""A local warp on top of a lens: its grid undoes what the rendering did."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from warp_train.data.config import DataConfig
from warp_train.data.lens_config import LensConfig
from warp_train.data.lenses import AnalyticLenses, inverse_map
from warp_train.data.local_warp import before_the_lens, draw_local_warp, local_grid
from warp_train.data.samples import SampleKey
from warp_train.data.sources.photos import Photos, find_photos
from warp_train.geometry import warp_image

SIZE = (160, 240)


def test_the_grid_is_the_inverse_of_how_the_photo_was_bent() -> None:
    rng = np.random.default_rng(3)
    lens = AnalyticLenses(LensConfig()).sample(rng, *SIZE)
    delta = draw_local_warp(rng, 0.015, *SIZE)
    assert 0.3 < max(np.hypot(*delta).ravel()) / (0.015 * np.hypot(159, 239) / 2) <= 1.001
    at_x, at_y = before_the_lens(inverse_map(lens, *SIZE), delta)
    grid = local_grid(lens, delta, *SIZE)
    # Where each corrected pixel is read, and from there back to the corrected frame.
    x, y = ((grid[..., i] + 1) / 2 * (n - 1) for i, n in ((0, SIZE[1]), (1, SIZE[0])))
    back = [cv2.remap(part, x, y, cv2.INTER_LINEAR) for part in (at_x, at_y)]
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    inside = (x > 1) & (x < SIZE[1] - 2) & (y > 1) & (y < SIZE[0] - 2)
    assert inside.mean() > 0.8
    assert np.abs(back[0] - columns)[inside].max() < 0.05
    assert np.abs(back[1] - rows)[inside].max() < 0.05


def test_a_photo_warped_by_its_grid_is_its_target(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)
    cv2.imwrite(
        str(tmp_path / "a.png"), cv2.resize(noise, (540, 360), interpolation=cv2.INTER_CUBIC)
    )
    lenses = AnalyticLenses(LensConfig())
    items = find_photos(tmp_path, "data.root")
    source = Photos(items, SIZE, lenses, seed=0, split="train", flip=True, local_warp=0.02)
    sample = source[SampleKey(0, 0)]
    assert sample["target_params"].isnan().all()
    straightened = warp_image(sample["input_image"][None], sample["target_grid"][None])[0]
    off = (straightened - sample["target_image"]).abs()[:, 4:-4, 4:-4].mean()
    still = (sample["input_image"] - sample["target_image"]).abs()[:, 4:-4, 4:-4].mean()
    assert off < 0.25 * still


def test_it_is_for_photos_only() -> None:
    with pytest.raises(ValueError, match="local_warp applies only to source 'photos'"):
        DataConfig(local_warp=0.01)
