"""Lenses are drawn as stated: covering, without folds, and inverted to a fraction of a pixel."""

import numpy as np
import pytest
import torch
from data_helpers import opencv_project
from pydantic import ValidationError

from warp_train.data.config import DataConfig
from warp_train.data.lens_config import LensConfig
from warp_train.data.lenses import inverse_map, sample_lens
from warp_train.geometry import build_parametric_grid, jacobian_determinant
from warp_train.runtime.errors import WarpTrainError

SIZES = [(128, 192), (192, 128), (96, 96)]


def draw(count: int, size: tuple[int, int]) -> np.ndarray:
    lens = LensConfig()
    return np.stack([sample_lens(np.random.default_rng((7, i)), lens, *size) for i in range(count)])


@pytest.mark.parametrize("size", SIZES)
def test_the_input_just_covers_the_corrected_frame(size):
    grids = build_parametric_grid(torch.from_numpy(draw(170, size)), *size)
    farthest = grids.abs().amax((1, 2, 3))
    assert farthest.max() <= 1
    assert farthest.min() > 1 - 1e-4  # under 0.01 px from the border


@pytest.mark.parametrize("size", SIZES)
def test_no_lens_folds_or_nearly_folds(size):
    grids = build_parametric_grid(torch.from_numpy(draw(170, size)), *size)
    assert jacobian_determinant(grids).min() > 0.3 - 0.02  # finite differences, not the formula


def test_bends_spread_over_the_stated_range_on_both_sides():
    bend = draw(400, (128, 192))[:, :3].sum(1)
    assert -0.35 <= bend.min() < -0.28
    assert 0.35 >= bend.max() > 0.32
    assert 0.42 < (bend < 0).mean() < 0.58


@pytest.mark.parametrize("size", SIZES)
def test_opencv_projects_the_inverse_back_onto_the_pixels(size):
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    for params in draw(100, size):
        seen_x, seen_y = opencv_project(params, inverse_map(params, height, width))
        assert np.hypot(seen_x - columns, seen_y - rows).max() < 0.05


def test_a_distribution_without_usable_lenses_is_refused_in_one_line():
    hopeless = LensConfig(bend=(-0.5, -0.5), early=(1, 1), moustache=0, ripple=0)
    with pytest.raises(WarpTrainError, match=r"data\.lens") as caught:
        sample_lens(np.random.default_rng(0), hopeless, 128, 192)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        (LensConfig, "bend", (0.2, 0.1)),
        (LensConfig, "bend", (-0.9, 0.1)),
        (LensConfig, "tangential", -1),
        (DataConfig, "size", (16, 64)),
        (DataConfig, "size", (64,)),
        (DataConfig, "external", "no_colon"),
        (DataConfig, "val_fraction", 1),
        (DataConfig, "source", "photos"),  # without a root
        (DataConfig, "source", "external"),
        (DataConfig, "sizes", (64, 64)),
    ],
)
def test_settings_out_of_range_are_refused(section, key, value):
    with pytest.raises(ValidationError):
        section(**{key: value})
