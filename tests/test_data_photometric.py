"""Photos in other looks: nothing moves, both halves of a pair agree, validation is left alone."""

from io import BytesIO

import numpy as np
import pytest
import torch
from data_helpers import as_picture, opencv_correct, save, shift_between, textured
from PIL import Image

from warp_train.data import DataConfig, SampleKey, build_sources
from warp_train.data.photometric import Look, draw_look, graded, taken

SIZE = (128, 192)


@pytest.fixture
def folder(tmp_path):
    for i in range(6):
        save(tmp_path / f"{i}.png", textured(200, 300, i))
    return tmp_path


def samples(folder, count=24, **kwargs):
    config = DataConfig(source="photos", root=folder, size=SIZE, flip=False, **kwargs)
    train, val = build_sources(config, 0)
    drawn = [train[SampleKey(epoch, epoch % len(train))] for epoch in range(count)]
    return drawn, [val[SampleKey(0, i)] for i in range(len(val))]


def test_opencv_turns_the_input_into_the_target_in_any_look(folder):
    changed, _ = samples(folder, photometric=1.0)
    shifts = [shift_between(opencv_correct(s), as_picture(s["target_image"])) for s in changed]
    assert np.median(shifts) < 0.1


def test_the_share_of_the_training_photos_is_changed_and_no_lens(folder):
    (plain, unseen), (half, same) = samples(folder, 60), samples(folder, 60, photometric=0.5)
    kept = [a["input_image"].equal(b["input_image"]) for a, b in zip(plain, half, strict=True)]
    assert 18 <= sum(kept) <= 42
    for a, b in zip(plain + unseen, half + same, strict=True):
        assert a["target_params"].equal(b["target_params"])
    assert all(a["input_image"].equal(b["input_image"]) for a, b in zip(unseen, same, strict=True))


def test_a_look_follows_from_the_key_alone(folder):
    first, second = (samples(folder, 4, photometric=1.0)[0] for _ in range(2))
    assert all(a["input_image"].equal(b["input_image"]) for a, b in zip(first, second, strict=True))


def test_looks_are_drawn_as_often_as_they_are_to_be():
    looks = [draw_look(np.random.default_rng(i)) for i in range(400)]
    shares = [
        np.mean(chosen)
        for chosen in zip(
            *((k.grey, k.blur > 0, k.noise > 0, k.jpeg is not None) for k in looks), strict=True
        )
    ]
    np.testing.assert_allclose(shares, (0.3, 0.35, 0.35, 0.3), atol=0.08)
    # A tone curve never falls: dark stays darker than bright.
    assert all((np.diff(k.tone[0].astype(int), axis=0) >= 0).all() for k in looks)


def test_each_change_is_what_it_says():
    rng, photo = np.random.default_rng(0), textured(60, 90)
    still = Look(np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, 2), False, 0.0, 0.0, None)
    assert np.array_equal(taken(rng, graded(photo, still), still), photo)
    grey = graded(photo, still._replace(grey=True))
    assert (grey == grey[..., :1]).all()
    sharpness = [
        np.abs(np.diff(taken(rng, photo, still._replace(blur=blur)).astype(float), axis=1)).mean()
        for blur in (0.0, 0.6, 1.2)
    ]
    assert sharpness[0] > sharpness[1] > sharpness[2]
    noise = taken(rng, photo, still._replace(noise=6.0)).astype(float) - photo
    inside = (photo > 40) & (photo < 215)
    assert noise[inside].std() == pytest.approx(6.0, rel=0.1)
    for quality in (95, 35):
        stored = BytesIO()
        Image.fromarray(photo).save(stored, "JPEG", quality=quality, subsampling="4:2:0")
        with Image.open(stored) as file:
            expected = np.asarray(file).astype(float)
        got = taken(rng, photo, still._replace(jpeg=quality)).astype(float)
        assert np.abs(got - photo).mean() > 5 * np.abs(got - expected).mean()


def test_scenes_have_looks_too_and_those_to_validate_on_have_none():
    (plain, unseen), (changed, same) = (
        build_sources(DataConfig(source="scenes", photometric=share), 0) for share in (0.0, 1.0)
    )
    one, other = (source[SampleKey(0, 1)] for source in (plain, changed))
    assert torch.equal(one["target_params"], other["target_params"])
    assert not torch.equal(one["input_image"], other["input_image"])
    assert torch.equal(*(source[SampleKey(0, 1)]["input_image"] for source in (unseen, same)))


def test_your_own_loaders_have_no_looks():
    with pytest.raises(ValueError, match=r"data\.photometric has no effect on source 'external'"):
        DataConfig(source="external", external="a:b", photometric=0.5)
