"""One photo from file to file: bit for bit where nothing moves, safe where the model is not."""

import itertools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from data_helpers import opencv_maps, textured
from PIL import Image
from rectify_helpers import BARREL, PINCUSHION, exif_block, pixels, run, says, write_photo

from warp_train.geometry import IDENTITY_PARAMS, evaluate_safety
from warp_train.inference import straightener
from warp_train.inference.photo_warp import PhotoWarp, frame_points
from warp_train.inference.rectify_inputs import Job, Settings
from warp_train.inference.rectify_photo import attempt
from warp_train.photos.files import read_photo
from warp_train.photos.metadata import Metadata

KEYS = [
    *("input", "output", "width", "height", "params", "mode_used", "safety", "refused"),
    *("jacobian", "expected_error_px", "crop", "resampled", "warnings", "model_hash", "seconds"),
]


def every_kind(folder: Path) -> list[Path]:
    """A photo in each format, depth, channel layout and orientation."""
    metadata = Metadata(exif=exif_block(1))
    photos = [
        write_photo(folder / f"{channels}x{depth.__name__}.{kind}", picture, kind, metadata)
        for channels, depth in itertools.product((1, 2, 3, 4), (np.uint8, np.uint16))
        for picture in [pixels(60, 90, channels, depth)]
        for kind in ("png", "tiff")
    ]
    for orientation in range(1, 9):
        for suffix in ("jpg", "png", "tif", "webp"):
            photos.append(folder / f"turned{orientation}.{suffix}")
            exif = b"Exif\x00\x00" + exif_block(orientation)
            Image.fromarray(textured(60, 90)).save(photos[-1], exif=exif)
    for name, image in {
        "grey.jpg": Image.fromarray(textured(60, 90)).convert("L"),
        "cmyk.jpg": Image.fromarray(textured(60, 90)).convert("CMYK"),
        "palette.png": Image.fromarray(textured(60, 90)).quantize(),
        "bits.png": Image.fromarray(textured(60, 90)).convert("1"),
        "grey.bmp": Image.fromarray(textured(60, 90)).convert("L"),
        "colour.bmp": Image.fromarray(textured(60, 90)),
    }.items():
        photos.append(folder / name)
        image.save(photos[-1])
    return photos


def test_identity_is_every_format_bit_for_bit(tmp_path: Path) -> None:
    predictor = says(IDENTITY_PARAMS)
    for source in every_kind(tmp_path):
        for crop in ("fill", "none", "max"):
            record = run(source, predictor, crop, crop=crop)
            assert "error" not in record, record
            assert not record["resampled"]
            assert record["warnings"] == []
            ours, theirs = read_photo(Path(record["output"])), read_photo(source)
            assert np.array_equal(ours.pixels, theirs.pixels)
            assert ours.metadata == theirs.metadata


def test_identity_is_bit_for_bit_in_another_lossless_format(tmp_path: Path) -> None:
    predictor = says(IDENTITY_PARAMS)
    for source in every_kind(tmp_path):
        for kind, suffix in (("png", ".png"), ("tiff", ".tif")):
            record = run(source, predictor, kind, format=kind, name=source.name + suffix)
            ours, theirs = read_photo(Path(record["output"])).pixels, read_photo(source).pixels
            if ours.shape[2] != theirs.shape[2]:  # 16 bits of grey with alpha, as a TIFF
                ours = ours[..., [0, 3]]
            assert np.array_equal(ours, theirs), source


def test_a_lens_is_opencvs(tmp_path: Path) -> None:
    photo = textured(201, 300)
    source = write_photo(tmp_path / "x.png", photo, "png")
    record = run(source, crop="none", interpolation="bilinear")
    maps = opencv_maps(record["params"], 201, 300)
    theirs = cv2.remap(photo, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    ours = read_photo(Path(record["output"])).pixels
    assert np.abs(ours.astype(int) - theirs)[1:-1, 1:-1].mean() < 0.2
    assert list(record) == KEYS
    assert record["mode_used"] == "lens"
    assert record["resampled"]


def test_a_turned_photo_is_corrected_as_it_is_seen(tmp_path: Path) -> None:
    photo = textured(120, 180)
    upright = run(write_photo(tmp_path / "upright.png", photo, "png"), PINCUSHION)
    expected = read_photo(Path(upright["output"])).pixels
    stored = cv2.rotate(photo, cv2.ROTATE_90_COUNTERCLOCKWISE)
    for kind, suffix in (("png", ".png"), ("tiff", ".tif")):
        source = tmp_path / f"turned{suffix}"
        exif = b"Exif\x00\x00" + exif_block(6)
        Image.fromarray(stored).save(source, exif=exif)
        record = run(source, PINCUSHION)
        assert (record["width"], record["height"]) == (180, 120)
        assert np.array_equal(read_photo(Path(record["output"])).pixels, expected), kind


def test_crops_and_formats_are_as_asked(tmp_path: Path) -> None:
    source = write_photo(tmp_path / "x.tif", pixels(120, 180, 3, np.uint16), "tiff")
    largest = run(source, PINCUSHION, "max", crop="max")
    height, width = read_photo(Path(largest["output"])).pixels.shape[:2]
    assert (largest["crop"]["height"], largest["crop"]["width"]) == (height, width)
    assert width < 180
    filled = run(source, PINCUSHION, "fill")
    assert filled["crop"]["zoom"] > 1
    webp = run(source, PINCUSHION, "webp", format="webp", name="x.webp", quality=80)
    assert webp["warnings"] == ["16 bits a channel were reduced to 8: WEBP files hold no more"]
    with Image.open(webp["output"]) as file:
        assert file.format == "WEBP"
    blank = run(source, PINCUSHION, "none", crop="none")
    assert read_photo(Path(blank["output"])).pixels[0, 0].tolist() == [0, 0, 0]


def test_no_fold_reaches_an_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lenses and residuals at random and at their bounds: what is sampled never folds."""
    sampled: list[tuple[PhotoWarp, Any]] = []
    plain = straightener.resample

    def watched(photo: Any, warp: PhotoWarp, view: Any, kernel: Any) -> Any:
        sampled.append((warp, view))
        return plain(photo, warp, view, kernel)

    monkeypatch.setattr(straightener, "resample", watched)
    source = write_photo(tmp_path / "x.png", textured(150, 220), "png")
    rng, modes = np.random.default_rng(0), set()
    bounds = np.array([0.8, 0.8, 0.5, 0.02, 0.02, 0.08, 0.08, 0.4])
    for number in range(24):
        signs = rng.choice([-1.0, 1.0], 8) * rng.choice([0.05, 0.2, 1.0])
        lens = tuple(np.array(IDENTITY_PARAMS) + signs * bounds)
        flow = torch.from_numpy(rng.choice([-1.0, 1.0], (1, 2, 6, 9))).float()
        flow *= float(rng.choice([0.02, 0.3, 1.0]))
        crop = ("fill", "none", "max")[number % 3]
        record = run(source, says(lens, flow), f"out{number}", crop=crop)
        assert "error" not in record, record
        modes.add(record["mode_used"])
        assert len(record["refused"]) == ["hybrid", "lens", "lens_clamped", "unchanged"].index(
            record["mode_used"]
        )
        assert record["safety"]["safe"]
    assert {"hybrid", "lens", "lens_clamped"} <= modes
    for warp, view in sampled:
        nodes = view.points(*np.meshgrid(np.arange(view.size[1]) * 1.0, np.arange(view.size[0])))
        grid = warp.sources(nodes, *view.frame)
        assert evaluate_safety(grid[None])["metrics"]["jacobian_negative_det_pct"] == 0
        whole = warp.sources(frame_points(150, 220, dtype=torch.float64), 150, 220)
        assert evaluate_safety(whole[None])["metrics"]["det_min"] > 0


def test_a_model_that_says_nan_leaves_the_photo_alone(tmp_path: Path) -> None:
    source = write_photo(tmp_path / "x.jpg", textured(60, 90), "jpeg")
    record = run(source, (np.nan,) * 8)
    assert "error" not in record
    assert record["refused"][0] == "lens: the warp is not finite"
    assert Path(record["output"]).read_bytes() == source.read_bytes()
    assert record["mode_used"] in ("lens_clamped", "unchanged")


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    source = write_photo(tmp_path / "x.png", textured(60, 90), "png")
    before = source.read_bytes()
    own = Job(source, source)
    refused = attempt(own, says(BARREL), Settings(tmp_path))
    assert refused["error"] == f"{source}: {source} exists already (overwrite replaces it)"
    assert source.read_bytes() == before
    assert "error" in run(run_twice(source))
    attempt(own, says(BARREL), Settings(tmp_path, overwrite=True))
    assert source.read_bytes() != before
    (tmp_path / "out/y.png").mkdir()
    folder = run(source, name="y.png", overwrite=True)
    assert folder["error"].endswith("y.png is a folder")


def run_twice(source: Path) -> Path:
    run(source)
    return source
