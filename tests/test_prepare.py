"""Prepared caches: the samples of the photos themselves, readable by WebDataset, never half."""

import io
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
from data_helpers import LENS_COLUMNS, save, textured
from PIL import Image
from runs_helpers import ENVIRONMENT, as_if_killed_after, assert_same_weights, losses, train

from warp_train.cli import main
from warp_train.data import DataConfig, LensConfig, SampleKey, build_sources, sample_lens
from warp_train.data.shards import layout
from warp_train.runtime.errors import WarpTrainError

SIZE = (32, 48)
KILLED = """
import os, sys
from warp_train.cli import main
from warp_train.data.shards import layout, writing
layout.SHARD_ITEMS = 3
written = []
add = writing._add
def add_until_killed(*sample):
    written.append(sample)
    if len(written) == 5:
        os.kill(os.getpid(), 9)
    return add(*sample)
writing._add = add_until_killed
main(sys.argv[1:])
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "r.yaml"
    path.write_text("stage: stage1_param_only\ndata: {size: [32, 48], workers: 0}\n")
    return path


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Ten pairs of five houses, upright and across, with lenses for all but one."""
    lines = [f"image_id,group,input,target,tier,{LENS_COLUMNS}"]
    for number in range(10):
        shape = [(60, 90), (90, 60), (170, 255)][number % 3]
        for role in ("in", "out"):
            path = tmp_path / "pairs" / f"{number}{role}.{'png' if number % 3 else 'jpg'}"
            save(path, textured(*shape, seed=number + 20 * (role == "in")))
        lens = sample_lens(np.random.default_rng(number), LensConfig(), *shape)
        cells = ",".join(str(float(value)) for value in lens) if number else ",,,,,,,"
        suffix = "png" if number % 3 else "jpg"
        names = f"{number}in.{suffix},{number}out.{suffix}"
        lines.append(f"h{number // 2}.x_g{number % 2},h{number // 2},{names},real,{cells}")
    (tmp_path / "pairs" / "manifest.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "pairs"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Eight small photos."""
    for number in range(8):
        save(tmp_path / "photos" / f"p{number}.jpg", textured(60, 90 + number, number))
    return tmp_path / "photos"


def prepare(recipe: Path, source: str, root: Path, out: Path, *more: str) -> int:
    options = (f"data.source={source}", f"data.root={root}", "--out", str(out), *more)
    return main(["prepare", str(recipe), "--workers", "0", *options])


def sources(source: str, root: Path, **more):
    return build_sources(DataConfig(source=source, root=root, size=SIZE, **more), 0)


def assert_same_samples(one, other) -> None:
    assert len(one) == len(other)
    for index in range(2 * len(one)):
        key = SampleKey(index // len(one), index % len(one))
        first, second = one[key], other[key]
        assert first.keys() == second.keys()
        for name, value in first.items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(value.nan_to_num(9), second[name].nan_to_num(9)), name
            else:
                assert value == second[name], name


def test_pairs_are_bit_for_bit_those_of_the_files(recipe, pairs, tmp_path):
    assert prepare(recipe, "pairs", pairs, tmp_path / "cache") == 0
    for files, cached in zip(
        sources("pairs", pairs), sources("pairs", tmp_path / "cache"), strict=True
    ):
        assert_same_samples(files, cached)


def test_small_photos_are_stored_as_they_are(recipe, photos, tmp_path):
    assert prepare(recipe, "photos", photos, tmp_path / "cache") == 0
    for files, cached in zip(
        sources("photos", photos), sources("photos", tmp_path / "cache"), strict=True
    ):
        assert_same_samples(files, cached)


def test_a_large_photo_is_stored_at_what_frames_are_cropped_from(recipe, tmp_path):
    for number in range(2):
        save(tmp_path / "large" / f"{number}.jpg", textured(301, 407, number), quality=95)
    assert prepare(recipe, "photos", tmp_path / "large", tmp_path / "cache") == 0
    (item,) = sources("photos", tmp_path / "cache")[0].items
    content = next(iter(webdataset.WebDataset(str(item.target.parent), shardshuffle=False)))
    small = np.asarray(Image.open(io.BytesIO(content["target.jpg"]))).astype(int)
    assert small.shape == (89, 120, 3)  # 2.5 x 48 by the photo's own aspect
    (file,) = sources("photos", tmp_path / "large")[0].items
    whole = Image.open(file.target).resize((120, 89), Image.Resampling.HAMMING)
    assert np.abs(small - np.asarray(whole)).mean() < 4
    assert item.orig_size == (301, 407)


def test_webdataset_reads_the_shards(recipe, pairs, tmp_path):
    assert prepare(recipe, "pairs", pairs, tmp_path / "cache") == 0
    train, _ = sources("pairs", tmp_path / "cache", flip=False)
    urls = [str(path) for path in sorted((tmp_path / "cache").glob("train-*.tar"))]
    read = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8"))
    assert len(read) == len(train)
    for index, theirs in enumerate(read):
        ours, about = train[SampleKey(0, index)], theirs["json"]
        frames = [theirs["input.ppm"], theirs["target.ppm"]]
        if frames[0].shape[0] > frames[0].shape[1]:
            frames = [np.rot90(frame) for frame in frames]
        for frame, name in zip(frames, ("input_image", "target_image"), strict=True):
            assert np.array_equal(frame, (ours[name] * 255).round().permute(1, 2, 0).numpy())
        assert about["image_id"] == ours["image_id"]
        assert (about["params"] is None) == bool(ours["target_params"].isnan().any())


def test_a_killed_prepare_goes_on_where_it_stopped(recipe, pairs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(layout, "SHARD_ITEMS", 3)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert prepare(recipe, "pairs", pairs, whole) == 0
    options = [str(recipe), "data.source=pairs", f"data.root={pairs}", "--out", str(cut)]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, "prepare", "--workers=0", *options], env=ENVIRONMENT
    )
    assert killed.returncode == -signal.SIGKILL
    assert [path.name for path in cut.glob("train-*.tar")] == ["train-000000.tar"]
    with pytest.raises(WarpTrainError, match="unfinished"):
        sources("pairs", cut)
    capsys.readouterr()
    assert prepare(recipe, "pairs", pairs, cut, "--workers", "2") == 0
    assert "3 of 10 pairs are in" in capsys.readouterr().err
    for path in whole.iterdir():
        assert (cut / path.name).read_bytes() == path.read_bytes(), path.name
    assert {path.name for path in cut.iterdir()} == {path.name for path in whole.iterdir()}


def test_a_run_from_a_cache_is_that_from_the_files_also_when_resumed(recipe, pairs, tmp_path):
    assert prepare(recipe, "pairs", pairs, tmp_path / "cache") == 0
    more = ("data.source=pairs", "train.epochs=1", "checkpoint.every_steps=1", "train.batch_size=2")
    for name, root in (("files", pairs), ("cached", tmp_path / "cache")):
        options = (f"data.root={root}", f"run_name={name}", *more)
        assert train("stage1_param_only", tmp_path, *options) == 0
    as_if_killed_after(tmp_path / "cached", 2, tmp_path / "resumed")
    options = (f"data.root={tmp_path / 'cache'}", "run_name=resumed", *more)
    resume = ("--resume-from", str(tmp_path / "resumed"))
    assert train("stage1_param_only", tmp_path, *options, *resume) == 0
    for name in ("cached", "resumed"):
        assert_same_weights(tmp_path / "files", tmp_path / name)
        assert losses(tmp_path / name) == losses(tmp_path / "files")


def test_unreadable_photos_are_named_and_left_out(recipe, photos, tmp_path, capsys):
    train, _ = sources("photos", photos)
    broken = train.items[2].target
    broken.write_text("not a picture")
    for again in range(2):  # a finished cache says again that something is missing
        assert prepare(recipe, "photos", photos, tmp_path / "cache") == 1
        said = capsys.readouterr().err
        assert said.count(str(broken)) == 1 - again
        assert "1 could not be read" in said
    cached, _ = sources("photos", tmp_path / "cache")
    expected = [item.image_id for item in train.items if item.target != broken]
    assert [item.image_id for item in cached.items] == expected


def _touch_a_photo(photos: Path, cache: Path) -> None:
    save(next(photos.iterdir()), textured(60, 91, 77))


def _put_a_file_beside(photos: Path, cache: Path) -> None:
    (cache / "cache.json").rename(cache / "notes.json")


REFUSED = {
    "another size": ([], "data.size=[32,64]", "contains photos for data.size [32, 48]"),
    "another kind": ([], "data.source=scenes", "only photos and pairs"),
    "other photos": ([_touch_a_photo], "seed=0", "other photos"),
    "no cache": ([_put_a_file_beside], "seed=0", "contains other files"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_folder_is_not_mixed_with_anything_else(recipe, photos, tmp_path, capsys, case):
    changes, override, message = REFUSED[case]
    cache = tmp_path / "cache"
    assert prepare(recipe, "photos", photos, cache) == 0
    for change in changes:
        change(photos, cache)
    before = {path.name: path.read_bytes() for path in cache.iterdir()}
    capsys.readouterr()
    assert prepare(recipe, "photos", photos, cache, override) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == before


def test_a_cache_serves_only_what_it_was_made_for(recipe, photos, tmp_path):
    cache = tmp_path / "cache"
    assert prepare(recipe, "photos", photos, cache) == 0
    config = {"source": "photos", "root": cache, "size": SIZE}
    wrong = {
        "larger than the": {"size": (32, 64)},
        "contains photos, but": {"source": "pairs"},
        "data.val_root": {"val_root": photos},
    }
    for message, change in wrong.items():
        with pytest.raises(WarpTrainError, match=message):
            build_sources(DataConfig(**{**config, **change}), 0)
    turned, _ = build_sources(DataConfig(**{**config, "size": (48, 32)}), 0)
    assert turned[SampleKey(0, 0)]["input_image"].shape == (3, 48, 32)
    shard = cache / "train-000000.tar"
    shard.write_bytes(shard.read_bytes()[:-512])
    with pytest.raises(WarpTrainError, match="were written"):
        build_sources(DataConfig(**config), 0)
    (cache / "cache.json").write_text(json.dumps({"format": 2}))
    with pytest.raises(
        WarpTrainError, match=r"cache.json: is not a valid file of warp-train prepare"
    ):
        build_sources(DataConfig(**config), 0)


def test_a_photo_damaged_in_its_shard_is_replaced_by_name(recipe, photos, tmp_path):
    cache = tmp_path / "cache"
    assert prepare(recipe, "photos", photos, cache) == 0
    train, _ = sources("photos", cache)
    row = json.loads((cache / "train-000000.jsonl").read_text().splitlines()[1])
    ((name, start, length),) = row["files"]
    with (cache / "train-000000.tar").open("rb+") as tar:
        tar.seek(start)
        tar.write(bytes(length))
    assert f"train-000000.tar/{name}" in train[SampleKey(0, 1)]["replaced"]
    assert train[SampleKey(0, 0)]["replaced"] == ""
