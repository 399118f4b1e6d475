"""JPEGs of every coding and oddity: the pixels, the tables, and damage that decoders pass over."""

import io
import re
import struct
from typing import Any

import imagecodecs
import numpy as np
import pytest
from data_helpers import textured
from photo_builders import (
    END,
    Array,
    cmyk_profile,
    exif_segment,
    inserted,
    saved,
    segment,
    upright,
    xmp_segment,
)
from PIL import Image, ImageCms, ImageDraw
from rectify_helpers import pixels

from warp_train.photos.encoding import encode_photo
from warp_train.photos.files import PhotoFile, upright_photo
from warp_train.photos.jpeg_segments import frame_header, jpeg_parts, quantisation_tables

PHOTO = textured(120, 160)


def read(data: bytes) -> PhotoFile:
    return upright_photo(".jpg", data)


def written(photo: PhotoFile) -> bytes:
    return encode_photo(photo, photo.pixels, "jpeg", None)[0]


def as_pillow(data: bytes) -> Array:
    picture = np.asarray(Image.open(io.BytesIO(data)))
    return picture.reshape(*picture.shape[:2], -1)


def tables(data: bytes) -> list[list[int]]:
    """The quantisation table of each component."""
    parts = jpeg_parts(data)
    found = quantisation_tables(parts)
    return [found[number] for _, _, number in frame_header(parts).components]


def sampling(data: bytes) -> list[int]:
    return [factors for _, factors, _ in frame_header(jpeg_parts(data)).components]


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_kind_of_colours_is_turned_once(mode: str, orientation: int) -> None:
    plain = saved(Image.fromarray(PHOTO).convert(mode), quality=90)
    image = Image.open(io.BytesIO(plain))
    shown = np.asarray(image.convert("RGB") if mode == "CMYK" else image).reshape(120, 160, -1)
    photo = read(inserted(plain, exif_segment(orientation)))
    assert np.array_equal(photo.pixels, upright(shown, orientation))
    with Image.open(io.BytesIO(written(photo))) as file:
        assert file.getexif()[0x0112] == 1
        assert file.size == photo.pixels.shape[1::-1]


def with_tables(*, numbers: tuple[int, ...], wide: bool = False) -> bytes:
    """A JPEG whose components use three different tables under these numbers."""
    own = [
        [3 + n % 13 for n in range(64)],
        [20 + n % 7 for n in range(64)],
        [60 - n % 50 for n in range(64)],
    ]
    jpeg = saved(PHOTO, qtables=own, subsampling=0)
    stored = {
        number: quantisation_tables(jpeg_parts(jpeg))[place] for place, number in enumerate(numbers)
    }
    code = "64H" if wide else "64B"
    content = b"".join(
        bytes([16 * wide + number]) + struct.pack(f">{code}", *table)
        for number, table in stored.items()
    )
    pieces = [b"\xff\xd8", segment(0xDB, content)]
    parts = jpeg_parts(jpeg)
    for one in parts.segments:
        frame = one.content
        if one.marker == 0xC0:
            for place, number in enumerate(numbers):
                frame = frame[: 8 + 3 * place] + bytes([number]) + frame[9 + 3 * place :]
        if one.marker != 0xDB:
            pieces.append(segment(0xC1 if wide and one.marker == 0xC0 else one.marker, frame))
    return b"".join((*pieces, jpeg[parts.scans[0].start :]))


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("numbers", [(0, 1, 2), (3, 1, 0), (1, 2, 3), (2, 3, 1)])
def test_tables_are_kept_whatever_their_numbers(numbers: tuple[int, ...], wide: bool) -> None:
    data = with_tables(numbers=numbers, wide=wide)
    photo = read(data)
    assert np.array_equal(photo.pixels, as_pillow(data))
    assert tables(written(photo)) == tables(data)
    for shared in ((0, 0, 1), (0, 1, 0)):
        own = [[2 + n for n in range(64)], [9] * 64]
        data = saved(PHOTO, qtables=[own[n] for n in shared])
        assert tables(written(read(data))) == tables(data)


@pytest.mark.parametrize("name", [0, 1, 2])
def test_chroma_is_not_halved_in_both_directions_by_a_turn(name: int) -> None:
    plain = saved(PHOTO, subsampling=name)
    for orientation in (1, 3):
        turned = inserted(plain, exif_segment(orientation))
        assert sampling(written(read(turned))) == sampling(plain)
    result = sampling(written(read(inserted(plain, exif_segment(6)))))
    assert result == (sampling(saved(PHOTO, subsampling=0)) if name == 1 else sampling(plain))


def test_unusual_sampling_is_read() -> None:
    for name in ("411", "440"):
        data = bytes(imagecodecs.jpeg_encode(PHOTO, level=90, subsampling=name))
        photo = read(data)
        assert np.array_equal(photo.pixels, as_pillow(data))
        assert tables(written(photo)) == tables(data)
        assert sampling(written(photo)) == [0x11] * 3  # none of the colours is lost


def test_kinds_that_are_not_read_are_named() -> None:
    twelve = (pixels(40, 60, 3, np.uint16) >> 4).astype(np.uint16)
    with pytest.raises(ValueError, match=r"of 12 bits a channel cannot be corrected: convert"):
        read(bytes(imagecodecs.jpeg_encode(twelve, bitspersample=12)))
    with pytest.raises(ValueError, match="JPEG-LS file: convert"):
        read(bytes(imagecodecs.jpegls_encode(PHOTO)))
    photo = read(bytes(imagecodecs.jpeg_encode(PHOTO, lossless=True)))
    assert np.array_equal(photo.pixels, PHOTO)
    assert "lossless JPEG" in photo.warnings[0]


def filled(data: bytes, count: int) -> bytes:
    """A JPEG with fill bytes before every marker."""
    parts = jpeg_parts(data)
    fill, pieces = b"\xff" * count, [b"\xff\xd8"]
    for number, one in enumerate(parts.segments):
        pieces += [fill, segment(one.marker, one.content)]
        for scan in parts.scans:
            if scan.number == number:
                coded = data[scan.start : scan.end]
                pieces.append(re.sub(rb"\xff[\xd0-\xd7]", lambda found: fill + found[0], coded))
    return b"".join((*pieces, fill, END))


CODINGS: list[dict[str, Any]] = [
    {},
    {"optimize": True},
    {"progressive": True},
    {"restart_marker_rows": 1},
    {"progressive": True, "restart_marker_rows": 1},
]


@pytest.mark.parametrize("coding", CODINGS)
def test_what_is_harmless_is_read(coding: dict[str, Any]) -> None:
    data = saved(PHOTO, quality=85, **coding)
    expected = read(data).pixels
    body, tables_at = data[:-2], data.index(b"\xff\xdb")
    height = struct.pack(">H", PHOTO.shape[0])
    frame = min(data.index(mark) for mark in (b"\xff\xc0", b"\xff\xc2") if mark in data)
    harmless = {
        "fill bytes": filled(data, 1),
        "many fill bytes": filled(data, 9),
        "bytes between segments": data[:tables_at] + b"ab\xff\0c" + data[tables_at:],
        "zeros behind": data + bytes(99),
        "the height behind the scan": data[: frame + 5]
        + b"\0\0"
        + data[frame + 7 : -2]
        + segment(0xDC, height)
        + END,
    }
    for count in (1, 9, 31, 32, 33, 500, 5000):
        harmless[f"{count} zeros before the end"] = body + bytes(count) + END
        harmless[f"{count} fills before the end"] = body + b"\xff" * count + END
    for name, content in harmless.items():
        photo = read(content)
        assert np.array_equal(photo.pixels, expected), name
        assert photo.warnings == (), name


@pytest.mark.parametrize("coding", CODINGS)
def test_damage_is_named(coding: dict[str, Any]) -> None:
    for seed, quality in ((1, 70), (2, 90), (3, 96)):
        noise = np.random.default_rng(seed).normal(0, 9, (240, 320, 3))
        picture = (textured(240, 320, seed) + noise).clip(0, 255).astype(np.uint8)
        data = saved(picture, quality=quality, **coding)
        start = jpeg_parts(data).scans[0].start
        length = len(data) - 2 - start

        def zeroed(first: float, last: float, data: bytes = data, at: int = start) -> bytes:
            whole = len(data) - 2 - at
            begin, stop = at + int(first * whole), at + int(last * whole)
            return data[:begin] + bytes(stop - begin) + data[stop:]

        damaged = [zeroed(0.8, 1), zeroed(0.97, 1), zeroed(0.4, 0.5), zeroed(0.2, 0.9)]
        damaged += [data[: start + int(share * length)] + END for share in (0.3, 0.9, 0.99)]
        damaged += [data[:-2], data[:-1], data[: len(data) // 2]]
        for number, content in enumerate(damaged):
            with pytest.raises(ValueError, match=r"truncated|damaged"):
                raise AssertionError(f"{number} is read: {read(content).warnings}")


def test_missing_scans_are_named() -> None:
    data = saved(PHOTO, progressive=True)
    scans = jpeg_parts(data).scans
    for scan in scans[:-1]:
        with pytest.raises(ValueError, match="its last scans are missing"):
            read(data[: scan.end] + END)


def flat_pictures() -> list[Image.Image]:
    """Pictures with large areas of one colour, whose coded data may be zeros."""
    found = []
    for colour in ("white", "black", "gray", "#c81e32"):
        for size in ((17, 17), (640, 481), (1500, 900)):
            image = Image.new("RGB", size, colour)
            found.append(image)
            marked = image.copy()
            draw = ImageDraw.Draw(marked)
            draw.rectangle((size[0] // 3, size[1] // 3, size[0] // 2, size[1] // 2), fill="teal")
            draw.text((3, 3), "WARP", fill="navy")
            found.append(marked)
            if size[0] > 160:
                half = image.copy()
                half.paste(Image.fromarray(PHOTO), (0, 0))
                found.append(half)
    return found


@pytest.mark.parametrize("coding", CODINGS)
def test_flat_areas_are_not_called_damaged(coding: dict[str, Any]) -> None:
    zeros = 0
    for number, image in enumerate(flat_pictures()):
        flat = image.convert("L") if number % 3 == 0 else image
        data = saved(flat, quality=(30, 75, 95)[number % 3], subsampling=number % 2 * 2, **coding)
        zeros += bytes(32) in data[300:]
        assert read(data).warnings == ()
        assert read(data[:-2] + bytes(70) + END).warnings == ()
    assert zeros or "optimize" not in coding


def test_pictures_in_other_segments_are_named() -> None:
    small = saved(PHOTO[::4, ::4])
    half = len(small) // 2
    plain = saved(PHOTO)
    jfif = b"JFIF\0\1\1\0\0\1\0\1\2\1" + bytes(6)
    cases = {
        "its JFIF thumbnail": inserted(plain, segment(0xE0, b"JFXX\0\x10" + small)),
        "its JFIF thumbnail was": b"\xff\xd8" + segment(0xE0, jfif) + plain[20:],
        "its preview in APP3": inserted(
            plain, segment(0xE3, small[:half]), segment(0xE3, small[half:])
        ),
        "its second XMP packet": inserted(
            plain, xmp_segment('GCamera:A="1"'), xmp_segment('GCamera:B="1"')
        ),
    }
    for line, data in cases.items():
        photo = read(data)
        assert [one.startswith(line) for one in photo.warnings] == [True], line
        assert small[-99:] not in written(photo)


@pytest.mark.parametrize("number", [3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 15])
def test_segments_of_other_programs_are_kept(number: int) -> None:
    other = segment(0xE0 + number, b"VENDOR\0" + bytes(range(200)))
    photo = read(inserted(saved(PHOTO), other))
    assert photo.warnings == ()
    assert other in written(photo)
    _, lost = encode_photo(photo, photo.pixels, "tiff", None)
    assert f"APP{number}" in lost[0]


@pytest.mark.parametrize("orientation", [1, 6, 7])
@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_with_a_profile_is_turned(kind: str, orientation: int) -> None:
    image, profile = Image.fromarray(PHOTO).convert("CMYK"), cmyk_profile()
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(image, kind, icc_profile=profile, exif=exif)
    stored = Image.open(io.BytesIO(data)) if kind == "JPEG" else image  # Pillow would turn a TIFF
    screen = ImageCms.createProfile("sRGB")
    shown = ImageCms.profileToProfile(stored, io.BytesIO(profile), screen, outputMode="RGB")
    photo = upright_photo(".jpg" if kind == "JPEG" else ".tif", data)
    assert np.array_equal(photo.pixels, upright(np.asarray(shown), orientation))
    assert photo.warnings == ("CMYK was converted to sRGB by the file's colour profile",)
    with Image.open(io.BytesIO(written(photo))) as file:
        assert file.getexif().get(0x0112, 1) == 1
        assert file.size == photo.pixels.shape[1::-1]
        assert file.info["icc_profile"][16:20] == b"RGB "
