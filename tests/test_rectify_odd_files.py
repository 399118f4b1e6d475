"""Odd files, odd names and odd disks: reported by name, with nothing left behind."""

import errno
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_helpers import textured
from PIL import Image
from rectify_helpers import BARREL, pixels, run, says, write_photo

from warp_train.inference import straightener
from warp_train.inference.rectify_inputs import Job, Settings
from warp_train.inference.rectify_photo import attempt
from warp_train.photos import files as photo_files
from warp_train.photos.files import read_photo
from warp_train.runtime import atomic_files


def gif(path: Path) -> None:
    frames(path, "GIF")


def frames(path: Path, kind: str) -> None:
    pictures = [Image.fromarray(textured(32, 48, seed)) for seed in range(3)]
    pictures[0].save(path, kind, save_all=True, append_images=pictures[1:])


def cut(kind: str, share: float) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        Image.fromarray(textured(90, 120)).save(path, kind)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    return make


def cut_deep(kind: Any) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        data = write_photo(path, pixels(90, 120, 3, np.uint16), kind).read_bytes()
        path.write_bytes(data[: len(data) * 2 // 3])

    return make


def plain(size: tuple[int, int]) -> Callable[[Path], None]:
    return lambda path: Image.new("RGB", size, "teal").save(path)


def flipped(path: Path) -> None:
    data = bytearray(write_photo(path, textured(90, 120), "png").read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def zero_tail(path: Path) -> None:
    Image.fromarray(textured(90, 120)).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) // 2))


def floats(path: Path) -> None:
    Image.fromarray(np.ones((32, 48), np.float32)).save(path, "TIFF")


def cmyk_profile(path: Path) -> None:
    image = Image.fromarray(textured(32, 48)).convert("CMYK")
    image.save(path, "JPEG", icc_profile=b"no profile" * 20)


def raw_file(path: Path) -> None:
    Image.fromarray(textured(32, 48)).save(path, "TIFF", tiffinfo={50706: b"\x01\x04\x00\x00"})


def bomb(path: Path) -> None:
    header = b"\x00\x00\xea\x60\x00\x00\xea\x60\x08\x02\x00\x00\x00"
    data = write_photo(path, textured(32, 48), "png").read_bytes()
    crc = zlib.crc32(b"IHDR" + header).to_bytes(4, "big")
    path.write_bytes(data[:16] + header + crc + data[33:])


ODD: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "empty": ("x.jpg", lambda path: path.write_bytes(b"") and None, "the file is empty"),
    "one byte": ("x.jpg", lambda path: path.write_bytes(b"\xff") and None, "not a JPEG"),
    "text": ("x.jpg", lambda path: path.write_text("dear diary") and None, "not a JPEG"),
    "noise": ("x.png", lambda path: path.write_bytes(os.urandom(999)) and None, "not a JPEG"),
    "html": ("x.webp", lambda path: path.write_text("<html>") and None, "not a JPEG"),
    "signature only": ("x.png", lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n") and None, "x.png"),
    "start of a JPEG": ("x.jpg", lambda path: path.write_bytes(b"\xff\xd8\xff") and None, "x.jpg"),
    "half a JPEG": ("x.jpg", cut("JPEG", 0.5), "truncated"),
    "a JPEG without its end": ("x.jpg", cut("JPEG", 0.99), "truncated"),
    "a JPEG of zeros from the middle": ("x.jpg", zero_tail, "truncated"),
    "half a PNG": ("x.png", cut("PNG", 0.5), "truncated"),
    "a PNG without its end": ("x.png", cut("PNG", 0.999), "truncated"),
    "half a 16-bit PNG": ("x.png", cut_deep("png"), "truncated"),
    "a flipped bit in a PNG": ("x.png", flipped, "wrong checksum"),
    "half a TIFF": ("x.tif", cut("TIFF", 0.5), "x.tif"),
    "half a 16-bit TIFF": ("x.tif", cut_deep("tiff"), "truncated"),
    "half a WebP": ("x.webp", cut("WEBP", 0.5), "x.webp"),
    "half a BMP": ("x.bmp", cut("BMP", 0.5), "truncated"),
    "one pixel": ("x.png", plain((1, 1)), "1x1 px; at least 16"),
    "a thread": ("x.jpg", plain((20000, 10)), "20000x10 px; at least 16"),
    "a bomb": ("x.png", bomb, "x.png"),
    "animated GIF": ("x.gif", gif, "not a JPEG, PNG"),
    "animated GIF named .jpg": ("x.jpg", gif, "not a JPEG, PNG"),
    "animated PNG": ("x.png", lambda path: frames(path, "PNG"), "animated file (3 pictures)"),
    "animated WebP": ("x.webp", lambda path: frames(path, "WEBP"), "animated file (3 pictures)"),
    "pages": ("x.tif", lambda path: frames(path, "TIFF"), "several pages"),
    "floats": ("x.tif", floats, "floating-point"),
    "Lab": (
        "x.tif",
        lambda path: Image.new("LAB", (32, 48)).save(path),
        "photometric 8",
    ),
    "raw": ("x.tif", raw_file, "raw file"),
    "CMYK with a broken profile": ("x.jpg", cmyk_profile, "CMYK colour profile"),
    "a folder": ("x.jpg", lambda path: path.mkdir(), "not a file"),
    "a pipe": ("x.jpg", lambda path: os.mkfifo(path), "not a file"),
    "a broken link": ("x.jpg", lambda path: path.symlink_to("gone.jpg"), "No such file"),
    "a link to itself": ("x.jpg", lambda path: path.symlink_to(path), "symbolic links"),
    "missing": ("x.jpg", lambda path: None, "No such file"),
    "in a folder that is gone": ("gone/x.jpg", lambda path: None, "No such file"),
    "a name with a newline": ("a\nb.jpg", lambda path: path.write_text("no") and None, "a b.jpg"),
}


@pytest.mark.parametrize(("name", "make", "part"), ODD.values(), ids=ODD.keys())
def test_odd_files_are_reported_by_name_and_leave_nothing(
    name: str, make: Callable[[Path], None], part: str, tmp_path: Path
) -> None:
    source, out = tmp_path / name, tmp_path / "out"
    make(source)
    out.mkdir()
    record = attempt(Job(source, out / "x.png"), says(BARREL), Settings(out))
    assert list(record) == ["input", "error"]
    assert record["input"] == str(source)
    assert " ".join(name.split()) in record["error"]
    assert part in record["error"]
    assert "\n" not in record["error"]
    assert list(out.iterdir()) == []
    json.dumps(record)


@pytest.mark.parametrize(
    "name", ["blank name.jpg", "Kölner Dom 🏰.jpg", "a\nb.jpg", "-o.jpg", "n" * 236 + ".jpg"]
)
def test_odd_names_are_names(name: str, tmp_path: Path) -> None:
    source = write_photo(tmp_path / name, textured(60, 90), "jpeg")
    record = run(source)
    assert Path(record["output"]).name == name
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]


def test_data_under_another_formats_name_stays_what_it_is(tmp_path: Path) -> None:
    source = write_photo(tmp_path / "x.png", pixels(60, 90, 3, np.uint16), "png")
    record = run(source.rename(tmp_path / "x.jpg"))
    assert record["warnings"] == ["its name ends in .jpg, but it contains PNG data"]
    assert read_photo(Path(record["output"])).pixels.dtype == np.uint16


def test_further_pictures_in_a_cameras_jpeg_are_said_to_go(tmp_path: Path) -> None:
    first, second = (Image.fromarray(textured(60, 90, seed)) for seed in (0, 1))
    first.save(tmp_path / "x.jpg", "MPO", save_all=True, append_images=[second])
    record = run(tmp_path / "x.jpg")
    assert "only the first" in record["warnings"][0]


def test_a_full_or_unreadable_disk_is_about_one_photo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_photo(tmp_path / "x.jpg", textured(60, 90), "jpeg")

    def fails(number: int) -> Callable[..., Any]:
        def raises(*_: Any, **__: Any) -> Any:
            raise OSError(number, os.strerror(number))

        return raises

    for where, what, number, reason in (
        (atomic_files.os, "fsync", errno.ENOSPC, "No space left"),
        (atomic_files.os, "link", errno.EIO, ""),
        (photo_files.Path, "read_bytes", errno.EACCES, "Permission denied"),
        (photo_files.Path, "read_bytes", errno.EIO, "Input/output error"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(where, what, fails(number))
            record = run(source)
        if reason:
            assert str(source) in record["error"]
            assert reason in record["error"]
            assert list((tmp_path / "out").iterdir()) == []
        else:  # renamed where links are not to be had
            Path(record["output"]).unlink()


def test_a_folder_that_is_pulled_away_stays_away(tmp_path: Path) -> None:
    source = write_photo(tmp_path / "x.jpg", textured(60, 90), "jpeg")
    gone = tmp_path / "gone"
    record = attempt(Job(source, gone / "sub/x.jpg"), says(BARREL), Settings(gone))
    assert "cannot be written (No such file or directory)" in record["error"]
    assert not gone.exists()


def test_whatever_else_goes_wrong_is_about_one_photo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_photo(tmp_path / "x.jpg", textured(60, 90), "jpeg")
    for error, part in ((MemoryError(), "memory"), (RuntimeError("odd\nthing"), "RuntimeError")):

        def fail(*_: Any, error: Exception = error) -> Any:
            raise error

        monkeypatch.setattr(straightener, "resample", fail)
        record = run(source)
        assert part in record["error"]
        assert "\n" not in record["error"]
    assert list((tmp_path / "out").iterdir()) == []
