"""Pairs at another aspect than their photos', and lenses between those of pairs."""

import json

import cv2
import numpy as np
import pytest
from data_helpers import LENS_COLUMNS, opencv_maps, save, textured

from warp_train.data import DataConfig, LensConfig, SampleKey, build_sources, sample_lens
from warp_train.data.lens_samplers import lens_samplers
from warp_train.data.lenses import min_determinant, solve_scale
from warp_train.data.recovered_lenses import recovered_lenses
from warp_train.runtime.errors import WarpTrainError

BARREL, PINCUSHION = [-0.25, 0.04, 0, 0, 0], [0.2, 0.02, 0, 0, 0]


def covering(radial: list[float], height: int, width: int, zoom: float = 1.0) -> np.ndarray:
    """The lens whose input just fills the corrected frame, zoomed in further by `zoom`."""
    lens = solve_scale(np.array([*radial, 0, 0, 1.0]), height, width)
    assert lens is not None
    return lens * (1, 1, 1, 1, 1, 1, 1, zoom)


@pytest.mark.parametrize("zoom", [1.0, 1.05])
@pytest.mark.parametrize("radial", [BARREL, PINCUSHION])
@pytest.mark.parametrize(
    ("shape", "size"),
    [((150, 200), (120, 180)), ((200, 150), (120, 180)), ((120, 180), (120, 160))],
)
def test_the_zoom_of_a_frame_follows_from_the_frame(tmp_path, shape, size, radial, zoom):
    """OpenCV corrects the input frame to the target frame, with the zoom that just fills it, or as
    much more as it is in the photos."""
    lens = covering(radial, *shape, zoom)
    photo = textured(*shape, seed=4)
    save(tmp_path / "in.png", photo)
    save(tmp_path / "out.png", cv2.remap(photo, *opencv_maps(lens, *shape), cv2.INTER_CUBIC))
    save(tmp_path / "other.png", photo)
    numbers = ",".join(f"{value:.9g}" for value in lens)
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(
        f"image_id,split,input,target,{LENS_COLUMNS}\n"
        f"1,train,in.png,out.png,{numbers}\n2,val,in.png,other.png,{numbers}\n"
    )
    config = DataConfig(source="pairs", root=manifest, size=size, flip=False)
    sample = build_sources(config, 0)[0][SampleKey(0, 0)]
    found = sample["target_params"].numpy().astype(float)
    fills = solve_scale(found, *size)
    assert fills is not None
    assert found[-1] / fills[-1] == pytest.approx(zoom, abs=2e-3)
    bent, straight = (sample[n].permute(1, 2, 0).numpy() for n in ("input_image", "target_image"))
    corrected = cv2.remap(bent, *opencv_maps(found, *size), cv2.INTER_LINEAR)
    inner = (slice(5, -5), slice(5, -5))
    apart, before = (np.abs(image - straight)[inner].mean() for image in (corrected, bent))
    assert apart < 0.35 * before


def known_lenses(count: int = 40, zoom: float = 1.0) -> np.ndarray:
    """Weak lenses and strong ones, with nothing between."""
    rng = np.random.default_rng(2)
    weak, strong = LensConfig(bend=(-0.05, -0.03)), LensConfig(bend=(-0.3, -0.25))
    lenses = [sample_lens(rng, (weak, strong)[n % 2], 320, 480) for n in range(count)]
    return np.stack(lenses) * (1, 1, 1, 1, 1, 1, 1, zoom)


@pytest.mark.parametrize("zoom", [1.0, 1.08])
def test_lenses_are_drawn_between_those_of_pairs(zoom):
    known = known_lenses(zoom=zoom)
    sampler = recovered_lenses(known, min_det=0.2)
    rng = np.random.default_rng(0)
    drawn = np.stack([sampler.sample(rng, 120, 180) for _ in range(300)])
    # The two kinds stay apart, as often as they were, and vary as they did.
    corner = drawn[:, :3].sum(1)
    weak = corner > -0.12
    assert 0.35 < weak.mean() < 0.65
    assert ((corner > -0.09) | (corner < -0.17)).mean() > 0.97
    assert len(np.unique(drawn[:, 0])) == len(drawn)
    for kind, of_known in ((weak, known[::2]), (~weak, known[1::2])):
        usual = of_known[:, :3].sum(1)
        assert corner[kind].mean() == pytest.approx(usual.mean(), rel=0.1)
        assert 0.6 * usual.std() < corner[kind].std() < 2.5 * usual.std() + 0.02
    # No folds, and the zoom that the known lenses have.
    assert min(min_determinant(lens, 120, 180) for lens in drawn) > 0.2 / zoom**2 - 1e-6
    fills = np.array([solve_scale(lens, 120, 180)[-1] for lens in drawn])
    assert np.allclose(drawn[:, -1] / fills, zoom, rtol=2e-3)


def test_one_lens_is_enough(tmp_path):
    line = {"image_id": "a", "params": known_lenses(2)[1].tolist(), "error_px": 0.01, "ok": True}
    unsure = {**line, "image_id": "b", "params": [0.9, 0, 0, 0, 0, 0, 0, 1], "ok": False}
    file = tmp_path / "warps.jsonl"
    file.write_text(json.dumps(line) + "\n" + json.dumps(unsure) + "\n")
    sampler, _ = lens_samplers(DataConfig(source="photos", root=tmp_path, lenses=file))
    drawn = np.stack([sampler.sample(np.random.default_rng(n), 90, 120) for n in range(20)])
    assert (drawn[:, :3].sum(1) < -0.15).all()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (None, "data.lenses: FILE: cannot be read"),
        ("{oops\n", "data.lenses: FILE, line 1: not JSON"),
        ('{"image_id": "a", "error": "x"}\n', "contains no lens that was recovered reliably"),
    ],
)
def test_a_bad_file_of_lenses_is_named(tmp_path, text, part):
    file = tmp_path / "warps.jsonl"
    if text is not None:
        file.write_text(text)
    with pytest.raises(WarpTrainError) as failure:
        lens_samplers(DataConfig(source="photos", root=tmp_path, lenses=file))
    assert part.replace("FILE", str(file)) in str(failure.value)


@pytest.mark.parametrize(
    ("keys", "part"),
    [
        ({"rebend": 0.5}, "data.rebend and data.lenses belong together"),
        ({"lenses": "pairs"}, "data.rebend and data.lenses belong together"),
        ({"source": "photos", "rebend": 0.5}, "data.rebend applies only to source 'pairs'"),
        ({"source": "photos", "lenses": "pairs"}, "data.lenses: pairs needs source 'pairs'"),
    ],
)
def test_keys_that_do_not_fit_together_are_refused(tmp_path, keys, part):
    with pytest.raises(ValueError, match=part):
        DataConfig(**{"source": "pairs", "root": tmp_path, **keys})
