"""What follows the picture of a JPEG: gain maps move along, videos stay, claims are never false."""

import io
import itertools
import re
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from photo_builders import (
    Array,
    exif_segment,
    inserted,
    jpegs_in,
    saved,
    segment,
    upright,
    xmp_segment,
)
from PIL import Image
from rectify_helpers import BARREL, PINCUSHION, run

from warp_train.inference.rectify_inputs import Record
from warp_train.photos.formats import SUFFIXES
from warp_train.photos.jpeg_segments import Segment

DOTS = list(itertools.product((0.12, 0.27, 0.5, 0.73, 0.87), (0.15, 0.35, 0.63, 0.85)))
ISO = b"urn:iso:std:iso:ts:21496:-1\0"
HDRGM = 'hdrgm:Version="1.0" hdrgm:GainMapMin="0" hdrgm:GainMapMax="3.5"'
APPLE = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF'
    b' xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""'
    b' xmlns:HDRGainMap="http://ns.apple.com/HDRGainMap/1.0/"'
    b' HDRGainMap:HDRGainMapVersion="65536"/></rdf:RDF></x:xmpmeta>'
)
VIDEO = b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 9 + b"\xff\xd8\xff\xe0 no picture \0\0\0"


def dotted(height: int, width: int) -> Array:
    """Bright dots on grey, at the same relative places whatever the size."""
    y, x = np.mgrid[:height, :width] + 0.5
    radius, picture = 0.03 * min(height, width), np.full((height, width), 60.0)
    for across, down in DOTS:
        distance = (x - across * width) ** 2 + (y - down * height) ** 2
        picture += 150 * np.exp(-distance / radius**2)
    drawn: Array = np.clip(picture, 0, 255).astype(np.uint8)
    return drawn


def centres(picture: Array) -> Array:
    """The centres of the dots as shares of the sides, sorted by row and column."""
    grey = picture.reshape(*picture.shape[:2], -1)[..., 0].astype(float)
    light = (grey - 100).clip(0)
    count, labels = cv2.connectedComponents((light > 0).astype(np.uint8))
    found = []
    for number in range(1, count):
        y, x = np.nonzero(labels == number)
        weights = light[y, x] / light[y, x].sum()
        found.append(((x + 0.5) @ weights, (y + 0.5) @ weights))
    shares: Array = np.array(found) / (grey.shape[1], grey.shape[0])
    return shares


def item(spelling: str, mime: str, meaning: str, **more: object) -> str:
    values = {"Mime": mime, "Semantic": meaning, **more}
    if spelling == "attributes":
        text = " ".join(f'Item:{name}="{value}"' for name, value in values.items())
        return f'<rdf:li rdf:parseType="Resource"><Container:Item {text}/></rdf:li>'
    text = "".join(f"<Item:{name}>{value}</Item:{name}>" for name, value in values.items())
    inside = f'<Container:Item rdf:parseType="Resource">{text}</Container:Item>'
    return f'<rdf:li rdf:parseType="Resource">{inside}</rdf:li>'


def listing(spelling: str, length: int, video: int, padding: int = 0) -> bytes:
    """The XMP of a photo with a gain map, a video or both, by their lengths."""
    items = item(spelling, "image/jpeg", "Primary", **({"Padding": padding} if padding else {}))
    if length:
        items += item(spelling, "image/jpeg", "GainMap", Length=length)
    if video:
        items += item(spelling, "video/mp4", "MotionPhoto", Length=video, Padding=0)
    motion = 'GCamera:MotionPhoto="1" GCamera:MotionPhotoVersion="1"' if video else ""
    directory = f"<Container:Directory><rdf:Seq>{items}</rdf:Seq></Container:Directory>"
    version = 'hdrgm:Version="1.0"' if length else ""
    return xmp_segment(f"{version} {motion}", directory)


def index(before: int, total: int, sizes: list[int]) -> bytes:
    """A list of the pictures (CIPA DC-007), little-endian as no test expects it back.

    Args:
        before: bytes in front of it; it has 16 bytes for each picture and 58 others.
        total: bytes of the first picture.
    """
    count = len(sizes) + 1
    data = b"II*\0\x08\0\0\0\x03\0" + struct.pack("<HHI4s", 0xB000, 7, 4, b"0100")
    data += struct.pack("<HHII", 0xB001, 4, 1, count)
    data += struct.pack("<HHIII", 0xB002, 7, 16 * count, 50, 0)
    data += struct.pack("<IIIHH", 0x030000, total, 0, 0, 0)
    at = total - before - 8
    for size in sizes:
        data += struct.pack("<IIIHH", 0, size, at, 0, 0)
        at += size
    return segment(0xE2, b"MPF\0" + data)


def ultra_hdr(
    *,
    size: tuple[int, int] = (240, 320),
    map_size: tuple[int, int] = (60, 80),
    colours: int = 1,
    orientation: int = 1,
    spelling: str = "attributes",
    marks: str = "xmp mpf",
    video: bytes = b"",
    padding: int = 0,
) -> bytes:
    """A photo with a gain map; `marks` of `xmp`, `mpf`, `iso` and `apple` announce it."""
    picture = np.repeat(dotted(*size)[..., None], 3, axis=2)
    gains = dotted(*map_size)[..., None].repeat(colours, axis=2)
    parameters = {"xmp": xmp_segment(HDRGM), "iso": segment(0xE2, ISO + bytes(64))}
    parameters["apple"] = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + APPLE)
    own = [part for name, part in parameters.items() if name in marks]
    gain_map = inserted(saved(gains, quality=95), *own)
    head = exif_segment(orientation)
    if "xmp" in marks:
        head += listing(spelling, len(gain_map), len(video), padding)
    if "iso" in marks:
        head += segment(0xE2, ISO + bytes(4))
    photo = saved(picture, quality=95, subsampling=0)
    if "mpf" in marks:
        total = len(photo) + len(head) + 58 + 32
        head += index(2 + len(head), total, [len(gain_map)])
    return inserted(photo, head) + bytes(padding) + gain_map + video


def corrected(tmp_path: Path, data: bytes, **options: Any) -> tuple[bytes, Record]:
    (tmp_path / "x.jpg").write_bytes(data)
    record = run(tmp_path / "x.jpg", overwrite=True, **options)
    return Path(record["output"]).read_bytes(), record


def starting(segments: tuple[Segment, ...], header: bytes) -> list[bytes]:
    return [one.content for one in segments if one.content.startswith(header)]


def listed_pictures(data: bytes) -> list[tuple[int, int]]:
    """(position, length) of the pictures of a file by its index, as a reader of DC-007 finds it."""
    at = data.index(b"MPF\0") + 4
    order = {b"II": "<", b"MM": ">"}[data[at : at + 2]]
    (first,) = struct.unpack_from(order + "I", data, at + 4)
    (count,) = struct.unpack_from(order + "H", data, at + first)
    for entry in range(at + first + 2, at + first + 2 + 12 * count, 12):
        tag, _, length, place = struct.unpack_from(order + "HHII", data, entry)
        if tag == 0xB002:
            entries = [
                struct.unpack_from(order + "III", data, at + place + 16 * n)
                for n in range(length // 16)
            ]
            return [(at + offset if offset else 0, size) for _, size, offset in entries]
    raise AssertionError("no list of pictures")


def assert_map_fits(data: bytes) -> tuple[bytes, bytes]:
    """Checks that picture and map have their dots in the same places.

    Returns:
        The map, and the bytes behind it.
    """
    pictures, rest = jpegs_in(data)
    (first, _), (gain_map, _) = pictures
    picture, gains = (np.asarray(Image.open(io.BytesIO(one))) for one in (first, gain_map))
    own, theirs = centres(picture), centres(gains)
    assert len(own) == len(theirs) == len(DOTS)
    distances = np.abs(own[:, None] - theirs[None]) * (gains.shape[1], gains.shape[0])
    assert np.hypot(*np.moveaxis(distances, -1, 0)).min(1).max() < 0.5
    return gain_map, rest


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("spelling", ["attributes", "elements"])
def test_a_gain_map_is_warped_along_and_listed_rightly(
    tmp_path: Path, spelling: str, colours: int
) -> None:
    source = ultra_hdr(spelling=spelling, colours=colours)
    data, record = corrected(tmp_path, source)
    assert record["warnings"] == []
    gain_map, rest = assert_map_fits(data)
    assert rest == b""
    moved = centres(np.asarray(Image.open(io.BytesIO(gain_map)))) * (80, 60)
    before = np.array(DOTS) * (80, 60)
    assert np.hypot(*(moved[:, None] - before[None]).T).min(0).max() > 1  # it was warped
    assert listed_pictures(data) == [
        (0, len(data) - len(gain_map)),
        (len(data) - len(gain_map), len(gain_map)),
    ]
    (packet,) = starting(jpegs_in(data)[0][0][1].segments, b"http://ns.adobe.com/xap/1.0/\0")
    length = f'Item:Length="{len(gain_map)}"' if spelling == "attributes" else f">{len(gain_map)}<"
    assert length.encode() in packet
    assert b'GainMapMax="3.5"' in gain_map
    assert Image.open(io.BytesIO(gain_map)).mode == {1: "L", 3: "RGB"}[colours]


@pytest.mark.parametrize("marks", ["xmp", "mpf xmp iso", "iso", "iso mpf", "apple mpf"])
def test_every_announcement_of_a_gain_map_is_read(tmp_path: Path, marks: str) -> None:
    data, record = corrected(tmp_path, ultra_hdr(marks=marks))
    assert record["warnings"] == []
    gain_map, _ = assert_map_fits(data)
    pictures = jpegs_in(data)[0]
    assert (b"MPF\0" in data) == ("mpf" in marks)
    for _, parts in pictures:
        assert len(starting(parts.segments, ISO)) == ("iso" in marks)
    assert (APPLE in gain_map) == ("apple" in marks)


@pytest.mark.parametrize("lens", [BARREL, PINCUSHION])
@pytest.mark.parametrize("crop", ["fill", "none", "max"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_gain_map_follows_turn_and_crop(
    tmp_path: Path, orientation: int, crop: str, lens: Any
) -> None:
    source = ultra_hdr(orientation=orientation, size=(241, 323), map_size=(59, 83))
    data, record = corrected(tmp_path, source, lens=lens, crop=crop)
    assert record["warnings"] == []
    assert_map_fits(data)
    first, second = (Image.open(io.BytesIO(one)) for one, _ in jpegs_in(data)[0])
    scales = (83 / 323, 59 / 241) if orientation == 1 else (59 / 241, 83 / 323)
    for scale, own, theirs in zip(scales, first.size, second.size, strict=True):
        assert abs(theirs - own * scale) <= 0.5


@pytest.mark.parametrize("spelling", ["attributes", "elements"])
def test_map_and_video_share_a_file(tmp_path: Path, spelling: str) -> None:
    source = ultra_hdr(video=VIDEO, spelling=spelling, padding=40)
    data, record = corrected(tmp_path, source)
    assert record["warnings"] == []
    gain_map, rest = assert_map_fits(data)
    assert rest == VIDEO
    (packet,) = starting(jpegs_in(data)[0][0][1].segments, b"http://ns.adobe.com/xap/1.0/\0")
    stated = re.findall(rb'(Length|Padding)(?:="|>)(\d+)', packet)
    expected = [("Padding", 0), ("Length", len(gain_map)), ("Length", len(VIDEO)), ("Padding", 0)]
    assert stated == [(name.encode(), str(value).encode()) for name, value in expected]
    assert b'MotionPhoto="1"' in packet


PHOTO = saved(dotted(60, 90))
TRAILERS = {
    "MicroVideo": inserted(
        PHOTO, xmp_segment(f'GCamera:MicroVideo="1" GCamera:MicroVideoOffset="{len(VIDEO)}"')
    )
    + VIDEO,
    "MotionPhoto": inserted(PHOTO, listing("attributes", 0, len(VIDEO))) + VIDEO,
    "padded": PHOTO + bytes(24) + VIDEO,
    "Samsung": PHOTO
    + VIDEO
    + b"\0\0\x30\x0a\x10\0\0\0MotionPhoto_Data"
    + b"SEFH"
    + struct.pack("<3I", 107, 1, 0x300A0000)
    + b"SEFT",
    "text": PHOTO + b"\r\nhand-made",
}


@pytest.mark.parametrize("name", TRAILERS)
def test_data_behind_the_picture_stay_or_are_named(tmp_path: Path, name: str) -> None:
    source = TRAILERS[name]
    (_, parts), *_ = jpegs_in(source)[0]
    data, record = corrected(tmp_path, source)
    assert record["warnings"] == []
    assert jpegs_in(data)[1] == source[parts.end :]
    assert (b"MicroVideo" in data[: len(data) - len(VIDEO)]) == (name == "MicroVideo")
    for kind in ("tiff", "png", "webp"):
        other, record = corrected(tmp_path, source, format=kind, name=f"y{SUFFIXES[kind][0]}")
        assert "such as a video, were left out" in record["warnings"][0]
        for claim in (b"MotionPhoto", b"MicroVideo", b"photos/1.0/container"):
            assert claim not in other


@pytest.mark.parametrize("kind", ["tiff", "png", "webp"])
def test_a_gain_map_that_cannot_move_is_named_and_not_claimed(tmp_path: Path, kind: Any) -> None:
    for marks in ("xmp mpf", "iso mpf"):
        data, record = corrected(
            tmp_path, ultra_hdr(marks=marks), format=kind, name=f"y{SUFFIXES[kind][0]}"
        )
        assert record["warnings"] == ["its gain map (HDR) was left out"]
        for claim in (b"hdr-gain-map", b"GainMap", b"photos/1.0/container", ISO):
            assert claim not in data


def test_claims_of_what_is_not_in_the_file_go(tmp_path: Path) -> None:
    source = inserted(PHOTO, listing("elements", 999, 777))
    data, _ = corrected(tmp_path, source)
    for claim in (b"hdr-gain-map", b"GainMap", b"MotionPhoto", b"photos/1.0/container"):
        assert claim not in data


def test_further_pictures_are_named(tmp_path: Path) -> None:
    second = dotted(60, 90)[:, ::-1]
    stereo = saved(
        dotted(60, 90), "MPO", save_all=True, append_images=[Image.fromarray(second.copy())]
    )
    preview = ultra_hdr(marks="mpf")
    for source in (stereo, preview):
        data, record = corrected(tmp_path, source)
        assert "contains 2 pictures: only the first" in record["warnings"][0]
        assert b"MPF\0" not in data
        assert jpegs_in(data)[1] == b""


def test_a_map_is_only_turned_if_the_photo_is_only_turned(tmp_path: Path) -> None:
    identity = (0, 0, 0, 0, 0, 0, 0, 1.0)
    source = ultra_hdr(orientation=3)
    data, _ = corrected(tmp_path, source, lens=identity, quality=80)
    gain_map, _ = assert_map_fits(data)
    shown = np.asarray(Image.open(io.BytesIO(gain_map)))
    stored = np.asarray(Image.open(io.BytesIO(jpegs_in(source)[0][1][0])))
    expected = upright(stored[..., None], 3)[..., 0]
    assert np.abs(shown.astype(int) - expected).mean() < 1
