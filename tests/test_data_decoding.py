"""Odd files: each becomes upright RGB, or a reason, and never stops the run."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from data_helpers import save, textured
from PIL import Image

from warp_train.data import DataConfig, SampleKey, build_sources
from warp_train.data.decoding import BadSample, decode_image
from warp_train.data.frames import cover_sides, fit_image
from warp_train.runtime.errors import WarpTrainError

PICTURE = textured(48, 64)


def test_plain_files_come_back_as_they_are(tmp_path):
    for name in ("a.png", "a.bmp", "a.tiff"):
        photo = decode_image(save(tmp_path / name, PICTURE))
        assert np.array_equal(photo.pixels, PICTURE)
        assert photo.full_size == (48, 64)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.jpg", PICTURE, exif=exif, quality=98)
    photo = decode_image(path)
    # OpenCV's own reader turns by EXIF too.
    theirs = cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert photo.full_size == photo.pixels.shape[:2] == theirs.shape[:2]
    assert np.abs(photo.pixels.astype(int) - theirs).mean() < 3


def test_grey_and_palette_become_rgb(tmp_path):
    grey = PICTURE[..., 0]
    assert np.array_equal(decode_image(save(tmp_path / "g.png", grey)).pixels[..., 2], grey)
    bits = Image.fromarray((grey > 128).astype(np.uint8) * 255).convert("1")
    bits.save(tmp_path / "b.png")
    assert set(np.unique(decode_image(tmp_path / "b.png").pixels)) == {0, 255}
    palette = Image.fromarray(PICTURE).convert("P", palette=Image.Palette.ADAPTIVE)
    palette.save(tmp_path / "p.png")
    difference = decode_image(tmp_path / "p.png").pixels.astype(int) - PICTURE
    assert np.abs(difference).mean() < 12


def test_cmyk_becomes_rgb(tmp_path):
    Image.fromarray(PICTURE).convert("CMYK").save(tmp_path / "c.jpg", quality=98)
    assert np.abs(decode_image(tmp_path / "c.jpg").pixels.astype(int) - PICTURE).mean() < 8


@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_become_8(tmp_path, suffix, channels):
    deep = PICTURE[..., :channels].astype(np.uint16) * 257
    path = tmp_path / f"deep.{suffix}"
    assert cv2.imwrite(str(path), deep[..., ::-1] if channels == 3 else deep)
    pixels = decode_image(path).pixels
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - PICTURE[..., :channels]).max() <= 1


def test_alpha_lies_over_white(tmp_path):
    veiled = np.dstack([PICTURE, np.full((48, 64), 255, np.uint8)])
    veiled[:, :32, 3] = 0
    veiled[:, 32:40, 3] = 128
    pixels = decode_image(save(tmp_path / "a.png", veiled)).pixels
    assert (pixels[:, :32] == 255).all()
    half = (PICTURE[:, 32:40].astype(float) * 128 + 255 * 127) / 255
    assert np.abs(pixels[:, 32:40] - half).max() <= 1
    assert np.array_equal(pixels[:, 40:], PICTURE[:, 40:])


def test_a_large_jpeg_may_be_reduced_while_decoding(tmp_path):
    path = save(tmp_path / "large.jpg", textured(960, 1280), quality=95)
    whole, reduced = decode_image(path), decode_image(path, enough=200)
    assert reduced.full_size == whole.full_size == (960, 1280)
    assert reduced.pixels.shape == (240, 320, 3)
    small = cv2.resize(whole.pixels, (320, 240), interpolation=cv2.INTER_AREA)
    assert np.abs(reduced.pixels.astype(int) - small).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_frame_from_a_reduced_jpeg_is_that_from_the_whole_one(tmp_path, orientation):
    """Sides that the reduction does not divide, at whichever edges the camera's turn puts them."""
    coarse = np.random.default_rng(0).uniform(20, 235, (33, 49, 3)).astype(np.float32)
    picture = np.uint8(
        np.clip(cv2.resize(coarse, (1193, 801), interpolation=cv2.INTER_CUBIC), 0, 255)
    )
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "p.jpg", picture, quality=90, exif=exif)
    whole, reduced = decode_image(path), decode_image(path, *cover_sides((72, 108)))
    assert max(reduced.pixels.shape) == 299
    assert reduced.full_size == whole.full_size
    size = (108, 72) if orientation >= 5 else (72, 108)
    expected = fit_image(whole.pixels, size).astype(int)
    difference = np.abs(fit_image(reduced.pixels, size, reduced.extent) - expected).mean()
    assert difference < 0.5
    blind = np.abs(fit_image(reduced.pixels, size) - expected).mean()
    assert difference < 0.7 * blind  # without the extent, frames would be off by a part of a pixel


def bad_files(folder: Path) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    whole = save(folder / "whole.jpg", textured(200, 300)).read_bytes()
    (folder / "whole.jpg").unlink()
    contents = {
        "cut.jpg": whole[: len(whole) // 2],
        "empty.jpg": b"",
        "text.jpg": b"this is no photo\n" * 40,
        "header.png": b"\x89PNG\r\n\x1a\n" + b"\0" * 60,
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    save(folder / "one.png", PICTURE[:1, :1])
    bomb = bytearray(save(folder / "bomb.bmp", PICTURE).read_bytes())
    bomb[18:26] = np.array([60000, 60000], "<i4").tobytes()
    (folder / "bomb.bmp").write_bytes(bomb)
    return {path.name: path for path in folder.iterdir()}


def test_hopeless_files_are_named_with_a_reason(tmp_path):
    files = bad_files(tmp_path) | {"gone.jpg": tmp_path / "gone.jpg"}
    assert len(files) == 7
    for path in files.values():
        with pytest.raises(BadSample) as caught:
            decode_image(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert len(str(caught.value)) > len(str(path)) + 8
        assert "\n" not in str(caught.value)


def test_unreadable_photos_are_replaced_by_the_next_and_reported(tmp_path):
    bad_files(tmp_path / "0_bad")
    for i in range(12):
        save(tmp_path / "1_good" / f"p{i:02}.png", textured(160, 240, i))
    config = DataConfig(source="photos", root=tmp_path, size=(64, 96), val_fraction=0.2)
    train, val = build_sources(config, 0)
    assert len(train) + len(val) == 18
    reports = []
    for source in (train, val):
        for index in range(len(source)):
            sample = source[SampleKey(0, index)]
            assert sample["index"] == index
            assert sample["image_id"].startswith("1_good/")
            if sample["replaced"]:
                reports.append(sample["replaced"])
                assert source[SampleKey(0, index)]["image_id"] == sample["image_id"]
    assert sorted(Path(report.split(": ")[0]).name for report in reports) == [
        "bomb.bmp", "cut.jpg", "empty.jpg", "header.png", "one.png", "text.jpg",
    ]  # fmt: skip


def test_a_folder_of_unreadable_files_ends_in_one_line(tmp_path):
    bad_files(tmp_path)
    train, _ = build_sources(DataConfig(source="photos", root=tmp_path, val_fraction=0.2), 0)
    with pytest.raises(WarpTrainError) as caught:
        train[SampleKey(0, 0)]
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
