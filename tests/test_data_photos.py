"""Photos bent on the fly: related by their lens, and nothing in them is invented."""

import numpy as np
import pytest
from data_helpers import as_picture, opencv_correct, save, shift_between, textured
from PIL import Image

from warp_train.data import DataConfig, SampleKey, build_sources
from warp_train.data.sources.photos import find_photos
from warp_train.data.splits import group_of, held_out, id_of
from warp_train.runtime.errors import WarpTrainError

SIZE = (64, 96)


def photos(root, **kwargs):
    return build_sources(DataConfig(source="photos", root=root, size=SIZE, **kwargs), 0)


@pytest.mark.parametrize("shape", [(90, 130), (100, 150), (300, 200), (400, 900), (700, 700)])
def test_opencv_turns_the_input_into_the_target(tmp_path, shape):
    for i in range(4):
        save(tmp_path / f"{i}.png", textured(*shape, seed=i))
    train, _ = photos(tmp_path)
    before, after, shifts = [], [], []
    for epoch in range(12):
        sample = train[SampleKey(epoch, epoch % len(train))]
        assert sample["orig_size"] == shape
        straight, corrected = as_picture(sample["target_image"]), opencv_correct(sample)
        before.append(np.abs(as_picture(sample["input_image"]) - straight).mean())
        after.append(np.abs(corrected - straight).mean())
        shifts.append(shift_between(corrected, straight))
    assert np.mean(after) < 0.35 * np.mean(before)
    assert np.median(shifts) < 0.1


@pytest.mark.parametrize("shape", [(50, 75), (70, 100), (150, 260), (160, 900), (800, 1000)])
def test_neither_frame_shows_the_photos_border(tmp_path, shape):
    """A photo framed by a 1 px red line: a pixel read from its middle, or past it, would be red."""
    for i in range(3):
        picture = np.full((*shape, 3), 128, np.uint8)
        picture[[0, -1]] = picture[:, [0, -1]] = (255, 0, 0)
        save(tmp_path / f"{i}.png", picture)
    train, _ = photos(tmp_path)
    for epoch in range(60):
        sample = train[SampleKey(epoch, epoch % len(train))]
        for key in ("input_image", "target_image"):
            red, green, _ = sample[key]
            assert (red - green).max() < 0.5  # 1 where only red is read


def test_a_photo_far_too_small_is_replaced(tmp_path):
    save(tmp_path / "a_small.png", textured(20, 30))
    for i in range(6):
        save(tmp_path / f"{i}.png", textured(100, 150, i))
    train, val = photos(tmp_path)
    reports = [s[SampleKey(0, i)]["replaced"] for s in (train, val) for i in range(len(s))]
    assert len([r for r in reports if "a_small.png: 30x20 px is too small" in r]) == 1


def test_the_distorted_half_of_pairs_is_left_out(tmp_path):
    for house in ("a", "b", "c"):
        for role in ("original", "generated"):
            save(tmp_path / house / f"{house}_g1_{role}.png", textured(100, 150))
    train, val = photos(tmp_path)
    ids = {
        source[SampleKey(0, i)]["image_id"] for source in (train, val) for i in range(len(source))
    }
    assert ids == {"a/a_g1", "b/b_g1", "c/c_g1"}


def test_flips_and_lenses_follow_from_the_key_alone(tmp_path):
    for i in range(4):
        save(tmp_path / f"{i}.png", textured(100, 150, i))
    first, second = (photos(tmp_path)[0] for _ in range(2))
    second[SampleKey(0, 1)]
    a, b = first[SampleKey(5, 1)], second[SampleKey(5, 1)]
    assert a["input_image"].equal(b["input_image"])
    assert not a["target_params"].equal(first[SampleKey(6, 1)]["target_params"])


@pytest.mark.parametrize("bend", [(-0.15, 0.15), (-0.02, 0.02)])
def test_frames_show_about_as_much_of_a_photo_as_is_said(tmp_path, bend):
    # Grey rises by 1 per 4 px to the right, red downwards: a frame's colours say what it shows.
    ramps = np.zeros((600, 900, 3), np.uint8)
    ramps[..., 1] = np.arange(900) // 4
    ramps[..., 0] = np.arange(600)[:, None] // 4
    for i in range(2):
        save(tmp_path / f"{i}.png", ramps)
    train, _ = photos(tmp_path, flip=False, lens={"bend": bend})
    shares = []
    for epoch in range(80):
        frame = 255 * as_picture(train[SampleKey(epoch, 0)]["target_image"])
        across, down = np.ptp(frame[..., 1]) * 4 / 900, np.ptp(frame[..., 0]) * 4 / 600
        shares.append(np.sqrt(across * down))
    said = DataConfig(source="photos", root=tmp_path).shown
    assert np.mean(shares) == pytest.approx(said, rel=0.1)
    assert DataConfig(source="pairs", root=tmp_path).shown == 1


def test_groups_come_from_names():
    assert id_of("house001_g2_original") == "house001_g2"
    assert group_of("house001_g2") == "house001"
    assert group_of("trip_g1_g12") == "trip_g1"
    assert group_of("DSC_0001") == "DSC_0001"


def test_a_split_shares_no_group_and_is_stable_when_files_are_added():
    groups = [f"house{i}" for i in range(300)]
    some = held_out(groups[:200], 0.2, "x")
    every = held_out(groups, 0.2, "x")
    assert some == every & set(groups[:200])
    assert 0.13 < len(every) / 300 < 0.27
    assert len(held_out(["a", "b"], 1e-9, "x")) == len(held_out(["a", "b"], 0.999, "x")) == 1


def test_houses_are_never_divided(tmp_path):
    for house in range(12):
        for view in range(3):
            save(tmp_path / f"house{house}_g{view}.png", textured(70, 100))
    train, val = photos(tmp_path, val_fraction=0.4)
    houses = [
        {group_of(source[SampleKey(0, i)]["image_id"]) for i in range(len(source))}
        for source in (train, val)
    ]
    assert houses[0] | houses[1] == {f"house{i}" for i in range(12)}
    assert not houses[0] & houses[1]


def test_validation_is_capped_evenly(tmp_path):
    for split, count in (("train", 3), ("val", 10)):
        for i in range(count):
            save(tmp_path / split / f"{split}{i}.png", textured(70, 100))
    _, val = photos(tmp_path / "train", val_root=tmp_path / "val", val_samples=5)
    assert [val[SampleKey(0, i)]["image_id"] for i in range(5)] == [
        f"val{i}" for i in (0, 2, 4, 6, 8)
    ]


def test_unusable_folders_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    save(tmp_path / "one" / "h_g1.png", PICTURE := textured(70, 100))
    save(tmp_path / "other" / "h_g2.png", PICTURE)
    for root, val_root, message in [
        ("gone", None, "data.root: .*gone does not exist"),
        ("empty", None, "data.root: .*empty contains no images"),
        ("one", None, "data.root: .*one: .* data.val_root"),
        ("one", "gone", "data.val_root: .*gone does not exist"),
        ("one", "other", "h_g2.png: its group 'h' is in both"),
        ("one", "one", "h_g1.png: its group 'h' is in both"),
    ]:
        with pytest.raises(WarpTrainError, match=message):
            photos(tmp_path / root, val_root=val_root and tmp_path / val_root)


def test_pictures_that_are_not_trained_on_are_named(tmp_path, capsys):
    root = tmp_path / "photos"
    for name in ("a_g1.png", "b_g1.JFIF", "@eaDir/a_g1.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(textured(70, 100)).save(root / name, "JPEG")
    for name in ("c.nef", "deep/d.NEF", "e.heic", "._f.nef", "notes.txt"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"x")
    assert [item.image_id for item in find_photos(root, "data.root")] == ["a_g1", "b_g1"]
    line = (
        "1 .heic file was not read: convert to JPEG, PNG or TIFF first; "
        "2 .nef files were not read: develop to TIFF or JPEG first"
    )
    assert capsys.readouterr().err == f"warp-train: data.root: {root}: {line}\n"
    for name in ("a_g1.png", "b_g1.JFIF"):
        (root / name).unlink()
    with pytest.raises(WarpTrainError, match="contains no images") as error:
        find_photos(root, "data.root")
    assert str(error.value) == f"data.root: {root} contains no images ({line})"
