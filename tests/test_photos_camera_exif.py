"""The camera and lens of a photo, read from EXIF."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export_helpers import Write, camera_tags, photo_with
from PIL import ExifTags

from warp_train.photos.camera_exif import NoCamera, read_camera


@pytest.mark.parametrize(
    ("tags", "crop"),
    [
        ({"FocalLengthIn35mmFilm": 27}, 1.5),
        ({}, None),
        ({"FocalLengthIn35mmFilm": 0}, None),
        (_pitch := {"ExifImageWidth": 4928, "ExifImageHeight": 3264}, None),
        (
            _sensor := {
                **_pitch,
                "FocalPlaneXResolution": 4928 / 23.6,  # px/mm of 23.6 × 15.6 mm
                "FocalPlaneYResolution": 3264 / 15.6,
                "FocalPlaneResolutionUnit": 4,
            },
            1.529,
        ),
        ({**_sensor, "FocalLengthIn35mmFilm": 27}, 1.529),
        ({**_sensor, "FocalLengthIn35mmFilm": 54}, 3.0),  # resized: the pitch is wrong
    ],
)
def test_the_crop_factor_of_a_photo(
    tmp_path: Path, tags: dict[str, Any], crop: float | None
) -> None:
    camera = read_camera(photo_with(tmp_path / "p.jpg", lambda exif: camera_tags(exif, **tags)))
    assert camera.lens == "18-55mm VR"
    assert camera.lens_maker == camera.maker == "NIKON CORPORATION"
    assert camera.focal == 18
    if crop is None:
        assert camera.crop_factor is None
    else:
        assert camera.crop_factor == pytest.approx(crop, abs=0.002)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda exif: None, "no EXIF"),
        (lambda exif: camera_tags(exif, FocalLength=0.0), "no focal length"),
        (lambda exif: exif.update({ExifTags.Base.Make: "x"}), "no camera model"),
    ],
)
def test_photos_that_do_not_say_what_took_them(tmp_path: Path, write: Write, said: str) -> None:
    with pytest.raises(NoCamera, match=said):
        read_camera(photo_with(tmp_path / "p.jpg", write))


def test_exif_that_is_damaged_is_a_reason(tmp_path: Path) -> None:
    path = photo_with(tmp_path / "p.jpg", lambda exif: camera_tags(exif, FocalLengthIn35mmFilm=27))
    whole = path.read_bytes()
    start = whole.index(b"Exif\0\0") + 6
    rng = np.random.default_rng(0)
    for _ in range(300):
        broken = bytearray(whole)
        for place in rng.integers(start, start + 200, 4):
            broken[place] = rng.integers(256)
        path.write_bytes(broken)
        try:
            camera = read_camera(path)
        except NoCamera:
            continue
        assert camera.lens.isprintable()
        assert camera.focal > 0
