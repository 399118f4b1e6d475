"""PNG, WebP and BMP: every layout of pixels, and what else their files contain."""

import io
import os
import stat
import struct
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from photo_builders import Array, chunk, png_file, saved
from PIL import Image, ImageCms
from rectify_helpers import BARREL, pixels, run

from warp_train.photos.encoding import encode_photo
from warp_train.photos.files import PhotoFile, upright_photo

RNG = np.random.default_rng(0)
RGB = pixels(30, 43, 3)
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def read(data: bytes) -> PhotoFile:
    return upright_photo(".png", data)


def written(photo: PhotoFile) -> bytes:
    return encode_photo(photo, photo.pixels, "png", None)[0]


def samples(channels: int, bits: int) -> Array:
    found: Array = RNG.integers(0, 2**bits, (29, 43, channels)).astype(np.uint16)
    found[:5] = min(7, 2**bits - 1)
    return found


def scaled(values: Array, bits: int) -> Array:
    """Samples as they are shown: those of less than 8 bits are spread over 8."""
    if bits == 16:
        return values
    shown: Array = (values * (255 // (2 ** min(bits, 8) - 1))).astype(np.uint8)
    return shown


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_every_layout_and_every_clear_colour_is_read(bits: int, interlaced: bool) -> None:
    opaque, clear = (65535 if bits == 16 else 255), min(7, 2**bits - 1)
    for colour, channels in ((0, 1), (2, 3), (4, 2), (6, 4)):
        if bits < 8 and colour:
            continue
        own = samples(channels, bits)
        photo = read(png_file(own, bits, colour, interlaced=interlaced))
        assert np.array_equal(photo.pixels, scaled(own, bits))
        if colour < 4:
            mark = chunk(b"tRNS", struct.pack(f">{channels}H", *(clear,) * channels))
            photo = read(png_file(own, bits, colour, mark, interlaced=interlaced))
            alpha = np.where((own == clear).all(2, keepdims=True), 0, opaque)
            assert np.array_equal(photo.pixels[..., :-1], scaled(own, bits))
            assert np.array_equal(photo.pixels[..., -1:], alpha)
        back = imagecodecs.png_decode(written(photo))
        assert np.array_equal(back.reshape(photo.pixels.shape), photo.pixels)
    if bits <= 8:
        index, table = samples(1, bits), RNG.integers(0, 256, (2**bits, 4)).astype(np.uint8)
        palette = chunk(b"PLTE", table[:, :3].tobytes())
        photo = read(png_file(index, bits, 3, palette, interlaced=interlaced))
        assert np.array_equal(photo.pixels, table[index[..., 0], :3])
        palette += chunk(b"tRNS", table[:, 3].tobytes())
        photo = read(png_file(index, bits, 3, palette, interlaced=interlaced))
        assert np.array_equal(photo.pixels, table[index[..., 0]])


@pytest.mark.parametrize("bits", [8, 16])
def test_chunks_are_kept_or_named(bits: int) -> None:
    own = samples(3, bits)
    kept = [
        chunk(b"bKGD", struct.pack(">3H", 1, 2, 3)),
        chunk(b"sBIT", b"\5\6\5"),
        chunk(b"tIME", bytes((7, 232, 1, 2, 3, 4, 5))),
        chunk(b"abCd", b"of a program"),  # safe to copy
        chunk(b"zTXt", b"Author\0\0" + zlib.compress(b"me")),
        chunk(b"cICP", bytes((9, 16, 0, 1))),
        chunk(b"pHYs", struct.pack(">IIB", 2, 1, 0)),  # pixels that are not square
    ]
    photo = read(png_file(own, bits, 2, b"".join(kept)))
    data, lost = encode_photo(photo, photo.pixels, "png", None)
    assert (*photo.warnings, *lost) == ()
    assert all(one in data for one in kept)
    named = {
        "content credentials (C2PA)": chunk(b"caBX", b"jumb" * 9),
        "chunk abCD": chunk(b"abCD", b"of a program"),  # depends on the pixels
        "chunk hIST": chunk(b"PLTE", bytes(12)) + chunk(b"hIST", bytes(8)),
    }
    for line, before in named.items():
        photo = read(png_file(own, bits, 2, before))
        data, lost = encode_photo(photo, photo.pixels, "png", None)
        (warning,) = (*photo.warnings, *lost)
        assert line in warning
        assert before[-12:] not in data
    silent = read(png_file(own, bits, 2, chunk(b"iDOT", bytes(28))))  # places in the old file
    assert b"iDOT" not in written(silent)


def test_data_behind_the_end_are_named() -> None:
    plain = png_file(samples(3, 8), 8, 2)
    assert read(plain + bytes(9)).warnings == ()
    assert read(plain + b"and more").warnings == ("8 bytes behind the picture were left out",)
    webp = saved(RGB, "WEBP", lossless=True)
    photo = upright_photo(".webp", webp + b"and more")
    assert np.array_equal(photo.pixels, RGB)
    assert photo.warnings == ("8 bytes behind the picture were left out",)


@pytest.mark.parametrize("bits", [8, 16])
def test_damaged_pixels_are_named(bits: int) -> None:
    own = samples(3, bits)
    rows = b"".join(b"\0" + row.astype(">u2" if bits == 16 else np.uint8).tobytes() for row in own)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 43, 29, bits, 2, 0, 0, 0))
    whole = zlib.compress(rows)
    for coded in (zlib.compress(rows[: len(rows) // 2]), whole[:200] + bytes(99) + whole[299:]):
        data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", coded) + chunk(b"IEND", b"")
        with pytest.raises(ValueError, match=r"truncated|damaged"):
            read(data)
    data = png_file(own, bits, 2)
    with pytest.raises(ValueError, match="wrong checksum"):
        read(data[: len(data) // 2] + bytes(20) + data[len(data) // 2 + 20 :])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_webp_keeps_unknown_chunks_and_names_damage(channels: int) -> None:
    picture = pixels(64, 80, channels)
    plain = saved(picture, "WEBP", lossless=True, icc_profile=ICC)
    other = b"ABCD" + struct.pack("<I", 5) + b"hello\0"
    data = plain[:4] + struct.pack("<I", len(plain) - 8 + len(other)) + plain[8:] + other
    photo = upright_photo(".webp", data)
    result, lost = encode_photo(photo, photo.pixels, "webp", None)
    assert lost == []
    assert result.endswith(other)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(result))), photo.pixels)
    with pytest.raises(ValueError, match=r"truncated|damaged"):
        upright_photo(".webp", plain[:-30])
    noise = RNG.integers(0, 256, (200, 300, 3)).astype(np.uint8)
    lossy = saved(noise, "WEBP", quality=80)
    zeroed = lossy[: len(lossy) * 4 // 5] + bytes(len(lossy) - len(lossy) * 4 // 5)
    assert "may be damaged" in upright_photo(".webp", zeroed).warnings[0]


def bmp(
    rows: bytes, *, header: int = 40, coding: int = 0, height: int = 30, tail: bytes = b""
) -> bytes:
    """A BMP of 32 bits a pixel."""
    size = 14 + header
    fields = struct.pack("<IiiHHIIiiII", header, 43, height, 1, 32, coding, 0, 0, 0, 0, 0)
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) if header > 40 else b""
    fields = (fields + masks).ljust(header, b"\0")
    if tail:
        fields = fields[:56] + b"DEBM" + fields[60:112]
        fields += struct.pack("<IIII", header + len(rows), len(tail), 0, 0)[: header - 112]
    return struct.pack("<2sI4xI", b"BM", size + len(rows) + len(tail), size) + fields + rows + tail


def test_bmps_are_read_upright_with_the_alpha_that_they_declare() -> None:
    alpha = np.linspace(0, 255, 43).astype(np.uint8)[None, :, None].repeat(30, 0)
    stored = np.concatenate((RGB[..., ::-1], alpha), axis=2)
    full = np.concatenate((RGB, alpha), axis=2)
    cases = {
        "bottom up": (bmp(stored[::-1].tobytes(), header=108, coding=3), full),
        "top down": (bmp(stored.tobytes(), header=124, coding=3, height=-30), full),
        "undeclared": (bmp(stored[::-1].tobytes()), RGB),
        "unused": (bmp((stored * np.array((1, 1, 1, 0), np.uint8))[::-1].tobytes()), RGB),
    }
    for name, (data, expected) in cases.items():
        photo = upright_photo(".bmp", data)
        assert np.array_equal(photo.pixels, expected), name
        assert [("fourth channel" in one) for one in photo.warnings] == [True] * (
            name == "undeclared"
        )
    profiled = bmp(stored[::-1].tobytes(), header=124, coding=3, tail=ICC)
    photo = upright_photo(".bmp", profiled)
    assert photo.metadata.icc == ICC
    assert encode_photo(photo, photo.pixels, "bmp", None)[1] == [
        "BMP files cannot hold the colour profile: left out"
    ]
    with Image.open(io.BytesIO(encode_photo(photo, photo.pixels, "png", None)[0])) as file:
        assert file.info["icc_profile"] == ICC


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("mode", [0o600, 0o444, 0o640])
def test_permissions_are_kept_and_times_if_asked(tmp_path: Path, mode: int, kind: Any) -> None:
    source = tmp_path / f"x.{kind.lower()}"
    source.write_bytes(saved(RGB, kind))
    source.chmod(mode)
    os.utime(source, (10**9, 11 * 10**8))
    for lens in (BARREL, (0, 0, 0, 0, 0, 0, 0, 1.0)):  # written anew, and copied
        for keep in (False, True):
            record = run(source, lens, keep_times=keep, overwrite=True)
            found = Path(record["output"]).stat()
            assert stat.S_IMODE(found.st_mode) == mode
            assert (found.st_mtime == 11 * 10**8) == keep
