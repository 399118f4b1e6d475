"""Scenes: the same in every process, straight, and related by exactly the lens they come with."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from data_helpers import as_picture, opencv_correct, opencv_maps, shift_between

from warp_train.data import DataConfig, GlobalBatchSampler, SampleKey, build_loader, build_sources
from warp_train.data.lens_config import LensConfig
from warp_train.data.lenses import AnalyticLenses, inverse_map, sample_lens
from warp_train.data.samples import bend_pair
from warp_train.data.sources.scenes import Scenes

SIZE = (128, 192)
DIGEST = """
import hashlib
from warp_train.data import DataConfig, SampleKey, build_sources
train, val = build_sources(DataConfig(), 5)
digest = hashlib.sha256()
for source in (train, val):
    sample = source[SampleKey(3, 17)]
    for key in ("input_image", "target_image", "target_params"):
        digest.update(sample[key].numpy().tobytes())
print(digest.hexdigest())
"""


def scenes(seed: int = 0, split: str = "train", size: tuple[int, int] = SIZE) -> Scenes:
    return Scenes(64, size, AnalyticLenses(LensConfig()), seed=seed, split=split)


def test_a_scene_is_the_same_in_another_process():
    run = [sys.executable, "-c", DIGEST]
    first, second = (
        subprocess.run(run, capture_output=True, text=True, check=True).stdout for _ in range(2)
    )
    assert first == second


def test_a_scene_is_the_same_in_workers_and_whatever_was_drawn_before():
    sampler = {"length": 64, "batch_size": 4, "seed": 1}
    here = iter(build_loader(scenes(), GlobalBatchSampler(**sampler)))
    there = iter(build_loader(scenes(), GlobalBatchSampler(**sampler), workers=2))
    for _ in range(3):
        a, b = next(here), next(there)
        assert a["image_id"] == b["image_id"]
        assert torch.equal(a["input_image"], b["input_image"])
    later = scenes()[SampleKey(0, int(a["index"][0]))]
    assert torch.equal(later["target_image"], a["target_image"][0])


def test_seed_epoch_index_and_split_each_give_another_scene():
    pictures = [
        scenes()[SampleKey(0, 0)],
        scenes()[SampleKey(0, 1)],
        scenes()[SampleKey(1, 0)],
        scenes(seed=1)[SampleKey(0, 0)],
        scenes(split="val")[SampleKey(0, 0)],
    ]
    assert len({sample["target_image"].numpy().tobytes() for sample in pictures}) == 5


@pytest.mark.parametrize("clutter", [0.0, 1.0])
@pytest.mark.parametrize("size", [SIZE, (192, 128), (64, 64), (480, 32), (32, 480)])
def test_samples_keep_the_contract(size, clutter):
    train, _ = build_sources(DataConfig(size=size, clutter=clutter), 0)
    for index in range(8):  # so that every part of a cluttered scene is drawn
        train[SampleKey(3, index)]
    sample = train[SampleKey(2, 9)]
    for key in ("input_image", "target_image"):
        assert sample[key].shape == (3, *size)
        assert sample[key].dtype == torch.float32
        assert 0 <= sample[key].min() < sample[key].max() <= 1
    assert sample["target_params"].dtype == torch.float32
    assert sample["image_id"] == "scene-train-2-9"
    assert (sample["orig_size"], sample["index"], sample["replaced"]) == (size, 9, "")


@pytest.mark.parametrize("clutter", [0.0, 1.0])
def test_opencv_turns_the_input_into_the_target(clutter):
    before, after, shifts = [], [], []
    # Lenses of every kind, so that what they do stands well above the sensor noise.
    lens = LensConfig(early=(-0.1, 0.4), moustache=0.03, tangential=0.006, decentre=0.02)
    source = Scenes(64, SIZE, AnalyticLenses(lens), clutter=clutter, seed=0, split="train")
    for index in range(30):
        sample = source[SampleKey(0, index)]
        straight, corrected = as_picture(sample["target_image"]), opencv_correct(sample)
        before.append(np.abs(as_picture(sample["input_image"]) - straight).mean())
        after.append(np.abs(corrected - straight).mean())
        shifts.append(shift_between(corrected, straight))
    assert np.mean(after) < 0.25 * np.mean(before)
    assert np.median(shifts) < 0.05


def test_dots_land_where_opencv_reads_them():
    height, width, zoom, pad = 160, 240, 2.0, 160
    for seed in range(40):
        rng = np.random.default_rng((3, seed))
        params = sample_lens(rng, LensConfig(), height, width)
        dot = rng.integers((12, 12), (width - 12, height - 12))
        canvas = np.zeros((int(height * zoom) + 2 * pad, int(width * zoom) + 2 * pad, 3), np.uint8)
        at = np.rint((dot * zoom + pad) * 16).astype(int).tolist()
        cv2.circle(canvas, at, 2 * 16, (255,) * 3, -1, cv2.LINE_AA, 4)
        canvas = cv2.GaussianBlur(canvas, (9, 9), 1.5)
        straight, bent = bend_pair(canvas, inverse_map(params, height, width), zoom, (pad, pad))
        seen = [part[dot[1], dot[0]] for part in opencv_maps(params, height, width)]
        assert np.hypot(*(centroid(straight) - dot)) < 0.05
        assert np.hypot(*(centroid(bent) - seen)) < 0.1


def centroid(picture: np.ndarray) -> np.ndarray:
    weight = picture[..., 0].astype(float)
    rows, columns = np.mgrid[: weight.shape[0], : weight.shape[1]]
    return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()


def test_frames_are_equally_sharp_and_have_independent_noise():
    energy = []
    for index in range(40):
        sample = scenes()[SampleKey(5, index)]
        pair = [as_picture(sample[key]) for key in ("input_image", "target_image")]
        energy.append([cv2.Laplacian(frame[40:88, 64:128], cv2.CV_32F).std() for frame in pair])
        assert not np.array_equal(*pair)
    bent, straight = np.mean(energy, axis=0)
    assert 0.85 < bent / straight < 1.18


def test_few_scenes_are_bare():
    contrast = [float(scenes()[SampleKey(8, i)]["target_image"].std()) for i in range(40)]
    assert np.mean(np.array(contrast) < 0.03) < 0.1


def test_cluttered_scenes_have_more_edges_of_every_direction():
    def share_of_edges(clutter):
        lenses = AnalyticLenses(LensConfig(straight=1.0))
        source = Scenes(64, SIZE, lenses, clutter=clutter, seed=0, split="val")
        turned = []
        for index in range(40):
            grey = as_picture(source[SampleKey(0, index)]["target_image"]).mean(-1)
            x, y = (cv2.Sobel(grey.astype(np.float32), cv2.CV_32F, *d) for d in ((1, 0), (0, 1)))
            angle = np.arctan2(y, x)[np.hypot(x, y) > np.quantile(np.hypot(x, y), 0.9)]
            turned.append(np.abs(np.sin(2 * angle)).mean())  # 0 along the axes, 1 between them
        return np.mean(turned)

    assert share_of_edges(1.0) > share_of_edges(0.0)


def test_clutter_is_for_scenes(tmp_path):
    with pytest.raises(ValueError, match=r"data\.clutter applies only to source 'scenes'"):
        DataConfig(source="photos", root=tmp_path, clutter=0.5)
