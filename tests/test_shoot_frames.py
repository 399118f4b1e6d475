"""The frame and the camera of a photo, by which its shoot is found, in every format."""

import io
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import pytest
import tifffile
from data_helpers import textured
from export_helpers import camera_tags
from heif_helpers import avif, avif_of, heic, with_property
from photo_builders import chunk, saved
from PIL import Image

from warp_train.inference.rectify import plan_shoots
from warp_train.inference.rectify_inputs import Job
from warp_train.inference.shoot_keys import read_frame
from warp_train.photos.decoding import decode, kind_of
from warp_train.photos.formats import SUFFIXES, Kind
from warp_train.photos.sizes import picture_size

PICTURE = textured(40, 70)
DEEP = PICTURE.astype(np.uint16) * 257
APERTURE = struct.pack(">8i", 50, 1, 30, 1, 2, 1, -3, 1)


def camera(orientation: int = 1) -> bytes:
    tags = Image.Exif()
    camera_tags(tags)
    tags[0x0112] = orientation
    return tags.tobytes()


def tiff(picture: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, picture, photometric="rgb", **options)
    return file.getvalue()


def old_bmp() -> bytes:
    """With the header of OS/2, whose sizes have 16 bits."""
    rows = np.pad(PICTURE[::-1, :, ::-1].reshape(40, -1), ((0, 0), (0, 2))).tobytes()
    head = struct.pack("<2sIHHI", b"BM", 26 + len(rows), 0, 0, 26)
    return head + struct.pack("<IHHHH", 12, 70, 40, 1, 24) + rows


def top_down_bmp() -> bytes:
    data = bytearray(saved(PICTURE, "BMP"))
    data[22:26] = struct.pack("<i", -40)
    return bytes(data)


WITH_CAMERA: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: saved(PICTURE, exif=camera()),
    "jpeg, turned": lambda: saved(PICTURE, exif=camera(6), progressive=True),
    "png": lambda: saved(PICTURE, "PNG", exif=camera()),
    "tiff": lambda: saved(PICTURE, "TIFF", exif=camera()),
    "webp": lambda: saved(PICTURE, "WEBP", exif=camera()),
    "heic": lambda: heic(PICTURE, info_exif=camera()),
    "heic, turned": lambda: heic(PICTURE, info_exif=camera(6)),
    "avif": lambda: avif(PICTURE, exif=camera()),
    "avif, turned": lambda: avif(PICTURE, exif=camera(8)),
}
WITHOUT: dict[str, Callable[[], bytes]] = {
    "png, 16 bits": lambda: cv2.imencode(".png", DEEP)[1].tobytes(),
    "tiff, 16 bits": lambda: tiff(DEEP),
    "tiff, planes": lambda: tiff(DEEP.transpose(2, 0, 1), planarconfig="separate"),
    "tiff, big and big-endian": lambda: tiff(PICTURE, bigtiff=True, byteorder=">"),
    "webp, simple": lambda: saved(PICTURE, "WEBP"),
    "webp, lossless": lambda: saved(PICTURE, "WEBP", lossless=True),
    "bmp": lambda: saved(PICTURE, "BMP"),
    "bmp, old": old_bmp,
    "bmp, from the top": top_down_bmp,
    "avif, 10 bits": lambda: avif_of(10, DEEP >> 6),
    "avif, aperture": lambda: with_property(avif(PICTURE), "clap", APERTURE),
    "heic, aperture": lambda: with_property(heic(PICTURE), "clap", APERTURE),
}
FILES = WITH_CAMERA | WITHOUT


def test_the_files_are_of_every_format_that_is_read() -> None:
    assert {kind_of(make()) for make in FILES.values()} == set(get_args(Kind))


@pytest.mark.parametrize("name", FILES)
def test_the_frame_is_that_of_the_decoded_pixels(name: str, tmp_path: Path) -> None:
    data = FILES[name]()
    kind = kind_of(data)
    assert kind is not None
    path = tmp_path / f"photo{SUFFIXES[kind][0]}"
    path.write_bytes(data)
    frame = read_frame(path)
    assert frame is not None
    assert (frame.height, frame.width) == decode(data).pixels.shape[:2]
    if name in WITH_CAMERA:
        assert frame.camera is not None
        assert (frame.camera.camera, frame.camera.focal) == ("NIKON D7000", 18.0)
    else:
        assert frame.camera is None


def test_photos_of_all_formats_through_one_lens_are_one_shoot(tmp_path: Path) -> None:
    jobs = []
    for number, make in enumerate(WITH_CAMERA.values()):
        data = make()
        jobs.append(Job(tmp_path / f"{number}.{kind_of(data)}"))
        jobs[-1].input.write_bytes(data)
    (shoot,) = plan_shoots(jobs, "auto").shoots
    assert shoot.photos == tuple(range(len(jobs)))


def test_a_photo_that_pillow_takes_for_a_bomb_has_a_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 89_478_485)  # Pillow's own limit
    path = tmp_path / "wide.png"
    width, height = 15000, 13000
    whole = saved(PICTURE, "PNG")
    header = chunk(b"IHDR", struct.pack(">II", width, height) + whole[24:29])
    path.write_bytes(whole[:8] + header + whole[33:])
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path)
    frame = read_frame(path)
    assert frame is not None
    assert (frame.height, frame.width) == (height, width)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_off_has_a_size_or_a_reason(name: str) -> None:
    data = FILES[name]()
    for length in (0, 3, 13, 25, 60, len(data) // 2):
        try:
            picture_size(data[:length])
        except ValueError as error:
            assert str(error)  # noqa: PT017


def test_what_is_no_file_has_no_frame(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    for name in ("pipe.jpg", "missing.jpg", "."):
        assert read_frame(tmp_path / name) is None
