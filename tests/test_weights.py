"""The network that comes with the package works from any folder, without a network connection."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import warp_train
from warp_train import Straightener
from warp_train.cli import main
from warp_train.data.lens_config import LensConfig
from warp_train.data.lenses import sample_lens
from warp_train.data.sources.scenes import draw_pair
from warp_train.geometry import IDENTITY_PARAMS, build_parametric_grid, end_point_error
from warp_train.models import from_pretrained
from warp_train.recipe import load_recipe
from warp_train.runtime.errors import WarpTrainError
from warp_train.weights import model_folder

FOLDER = Path(warp_train.__file__).parent / "weights" / "tiny"
ROOT = Path(__file__).parents[1]
SIZE = (320, 480)
STRONG = LensConfig(bend=(-0.3, -0.15), tangential=0.0, decentre=0.0)


@pytest.fixture(autouse=True)
def _elsewhere_and_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_it_is_small_and_described() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
    }
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 1.5e6
    card = (FOLDER / "README.md").read_text()
    for word in ("apache-2.0", "recipes/tiny.yaml", "No photo", "Limits"):
        assert word in card, word


def test_the_recipe_trains_this_network() -> None:
    recipe = load_recipe(ROOT / "recipes" / "tiny.yaml", [])
    described = json.loads((FOLDER / "config.json").read_text())
    assert described["model"] == recipe.model.model_dump(mode="json")
    assert described["trained_on"]["size"] == list(recipe.data.size)
    assert described["trained_on"]["shown"] == recipe.data.shown
    assert recipe.data.source == "scenes"
    assert recipe.data.lenses == "analytic"
    assert recipe.init_from is None


def test_it_straightens_what_it_never_saw() -> None:
    straightener = Straightener.from_pretrained()
    left, whole = [], []
    for seed in range(16):
        rng = np.random.default_rng((seed, 99))
        params = sample_lens(rng, STRONG, *SIZE)
        _, bent = draw_pair(rng, params, *SIZE)
        found = straightener.straighten(bent)
        truth, ours, still = (
            build_parametric_grid(torch.tensor(np.array([lens]), dtype=torch.float64), *SIZE)
            for lens in (params, found.params, IDENTITY_PARAMS)
        )
        left.append(float(end_point_error(ours, truth)))
        whole.append(float(end_point_error(still, truth)))
    assert np.median(left) < 0.15 * np.median(whole)  # a few scenes have hardly a line


def test_a_photo_without_an_edge_is_left_alone() -> None:
    level = np.linspace(90, 160, 480)[None, :, None] + np.zeros((320, 1, 3))
    sky = (level + np.random.default_rng(0).normal(0, 1, level.shape)).round().astype(np.uint8)
    result = Straightener.from_pretrained().straighten(sky)
    assert result.mode == "unchanged"
    assert np.array_equal(result.image, sky)


def test_the_command_line_finds_it_by_name(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    _, bent = draw_pair(rng, sample_lens(rng, STRONG, *SIZE), *SIZE)
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "a.png"), bent[..., ::-1])
    assert main(["rectify", "tiny", "photos", "--out", "corrected", "--workers", "1"]) == 0
    corrected = cv2.imread(str(tmp_path / "corrected" / "a_rectified.png"))
    assert corrected.shape == bent.shape
    assert not np.array_equal(corrected[..., ::-1], bent)


def test_a_folder_of_that_name_is_another_one(tmp_path: Path) -> None:
    assert model_folder("tiny") == FOLDER
    assert model_folder("./tiny") == model_folder(Path("tiny")) == Path("tiny")
    (tmp_path / "tiny").mkdir()
    from_pretrained("tiny")
    with pytest.raises(WarpTrainError, match="tiny"):
        from_pretrained("./tiny")
