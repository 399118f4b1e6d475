"""TIFFs of every layout: the pixels that went in, turned once, and outputs that others open."""

import io
import itertools
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from photo_builders import Array, saved, tiff_file, upright
from PIL import Image
from rectify_helpers import pixels, run

from warp_train.photos.encoding import encode_photo
from warp_train.photos.files import PhotoFile, upright_photo

PHOTOMETRIC = {1: "minisblack", 2: "minisblack", 3: "rgb", 4: "rgb"}


def tiff(
    picture: Array, *, planar: bool = False, order: Any = "<", big: bool = False, **tags: Any
) -> bytes:
    """A TIFF of [H, W, C] by tifffile."""
    channels, file = picture.shape[2], io.BytesIO()
    tags = {"photometric": PHOTOMETRIC.get(channels), **tags}
    if channels in (2, 4) and tags["photometric"] != "separated":
        tags.setdefault("extrasamples", ["unassalpha"])
    if channels > 1:
        tags["planarconfig"] = "separate" if planar else "contig"
    stored = np.moveaxis(picture, -1, 0) if planar else picture
    with tifffile.TiffWriter(file, byteorder=order, bigtiff=big) as writer:
        writer.write(stored.squeeze(), metadata=None, **tags)
    return file.getvalue()


def read(data: bytes) -> PhotoFile:
    return upright_photo(".tif", data)


def as_others_read(data: bytes) -> list[Array]:
    """RGB by tifffile, OpenCV and, for 8 bits, Pillow."""
    seen: list[Array] = [tifffile.imread(io.BytesIO(data))]
    array = np.frombuffer(data, np.uint8)
    seen.append(np.asarray(cv2.imdecode(array, cv2.IMREAD_UNCHANGED))[..., ::-1])
    if seen[0].dtype == np.uint8:
        seen.append(np.asarray(Image.open(io.BytesIO(data))))
    return seen


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_layout_gives_the_pixels_that_went_in(channels: int, depth: Any) -> None:
    picture = pixels(40, 61, channels, depth)
    layouts: list[dict[str, Any]] = [{}, {"rowsperstrip": 7}, {"tile": (16, 32)}]
    codings: list[dict[str, Any]] = [{"compression": name} for name in (None, "packbits")]
    codings += [
        {"compression": name, "predictor": predictor}
        for name in ("lzw", "zlib", "zstd", "lzma")
        for predictor in (False, True)
    ]
    for layout, coding, planar, (order, big) in itertools.product(
        layouts, codings, {False, channels > 1}, (("<", False), (">", True))
    ):
        data = tiff(picture, planar=planar, order=order, big=big, **layout, **coding)
        photo = read(data)
        assert np.array_equal(photo.pixels, picture), (layout, coding, planar, order)
        assert photo.pixels.dtype == depth
        assert photo.warnings == ()


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_outputs_of_planar_files_are_opened_by_others(planar: bool, depth: Any) -> None:
    picture = pixels(40, 61, 3, depth)
    photo = read(tiff(picture, planar=planar))
    data, lost = encode_photo(photo, photo.pixels, "tiff", None)
    assert lost == []
    for seen in as_others_read(data):
        assert np.array_equal(seen, picture)


def test_planar_and_turned_files_are_corrected_as_the_plain_one(tmp_path: Path) -> None:
    picture = pixels(60, 90, 3, np.uint16)
    turned = np.ascontiguousarray(picture[:, ::-1].transpose(1, 0, 2))  # stored for orientation 6
    assert np.array_equal(upright(turned, 6), picture)
    files = {
        "plain": tiff(picture),
        "planar": tiff(picture, planar=True),
        "turned": tiff(turned, extratags=[(274, 3, 1, 6, True)]),
        "both": tiff(turned, planar=True, extratags=[(274, 3, 1, 6, True)]),
    }
    results = []
    for name, data in files.items():
        (tmp_path / f"{name}.tif").write_bytes(data)
        record = run(tmp_path / f"{name}.tif")
        assert record["warnings"] == []
        results.append(tifffile.imread(record["output"]))
        with tifffile.TiffFile(record["output"]) as file:
            assert file.pages[0].tags[274].value == 1
    assert all(np.array_equal(results[0], other) for other in results[1:])


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_kind_is_turned_once(orientation: int, depth: Any) -> None:
    tag: dict[str, Any] = {"extratags": [(274, 3, 1, orientation, True)]}
    for channels, planar in itertools.product((1, 2, 3, 4), (False, True)):
        picture = pixels(20, 31, channels, depth)
        photo = read(tiff(picture, planar=planar and channels > 1, compression="lzw", **tag))
        assert np.array_equal(photo.pixels, upright(picture, orientation))
    grey = pixels(20, 31, 1, depth)
    inverted = tiff(np.iinfo(depth).max - grey, photometric="miniswhite", **tag)
    assert np.array_equal(read(inverted).pixels, upright(grey, orientation))


@pytest.mark.parametrize("kind", [1, 3, 4, 6, 8, 9])
def test_an_orientation_of_any_whole_type_counts(kind: int) -> None:
    picture = pixels(20, 31, 3, np.uint16)
    photo = read(tiff(picture, extratags=[(274, kind, 1, 6, True)]))
    assert np.array_equal(photo.pixels, upright(picture, 6))
    data, _ = encode_photo(photo, photo.pixels, "tiff", None)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        assert file.pages[0].tags[274].value == 1


def test_palettes_and_few_bits_become_eight() -> None:
    index = pixels(20, 31, 1)
    colours = np.random.default_rng(0).integers(0, 256, (3, 256)).astype(np.uint16)
    expected = np.moveaxis(colours[:, index[..., 0]], 0, -1)
    for scale in (1, 256, 257):  # the standard's tables have 16 bits; some programs write 8
        data = tiff(index, photometric="palette", colormap=colours * scale)
        assert np.array_equal(read(data).pixels, expected)
    for bits in (2, 4):
        few = index >> (8 - bits)
        data = tiff(few, bitspersample=bits)
        assert np.array_equal(read(data).pixels, few * (255 // (2**bits - 1)))
        data = tiff(few, bitspersample=bits, photometric="miniswhite")
        assert np.array_equal(read(data).pixels, 255 - few * (255 // (2**bits - 1)))
    two = Image.fromarray(index[..., 0]).convert("1")
    for coding in ("raw", "group3", "group4"):
        photo = read(saved(two, "TIFF", compression=None if coding == "raw" else coding))
        assert np.array_equal(photo.pixels[..., 0], np.asarray(two.convert("L")))


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("planar", [False, True])
def test_cmyk_is_as_pillow_shows_it(planar: bool, orientation: int) -> None:
    image = Image.fromarray(pixels(20, 31, 3)).convert("CMYK")
    shown = upright(np.asarray(image.convert("RGB")), orientation)
    tags: dict[str, Any] = {
        "photometric": "separated",
        "extratags": [(274, 3, 1, orientation, True)],
    }
    photo = read(tiff(np.asarray(image), planar=planar, **tags))
    assert np.array_equal(photo.pixels, shown)
    assert "CMYK" in photo.warnings[0]


def subsampled(luma: Array, chroma: Array) -> bytes:
    """Units of 2x2 values of Y, then Cb and Cr (TIFF 6.0, section 21)."""
    units = luma.reshape(luma.shape[0] // 2, 2, luma.shape[1] // 2, 2).transpose(0, 2, 1, 3)
    return np.concatenate((units.reshape(*chroma.shape[:2], 4), chroma), axis=2).tobytes()


YCBCR = [(256, 4, [32]), (257, 4, [20]), (258, 3, [8, 8, 8]), (262, 3, [6]), (277, 3, [3])]
YCBCR += [(278, 4, [20]), (530, 3, [2, 2])]


@pytest.mark.parametrize("coding", [1, 32773])
def test_subsampled_colours_are_read_and_turned(coding: int) -> None:
    rng = np.random.default_rng(0)
    luma = rng.integers(60, 190, (20, 32)).astype(np.uint8)
    chroma = rng.integers(100, 150, (10, 16, 2)).astype(np.uint8)
    y, (cb, cr) = luma.astype(float), np.moveaxis(chroma.repeat(2, 0).repeat(2, 1) - 128.0, -1, 0)
    rgb = np.stack((y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb), axis=2)
    raw = subsampled(luma, chroma)
    if coding == 32773:  # PackBits, of literal runs only
        raw = b"".join(b"\x3f" + raw[at : at + 64] for at in range(0, len(raw), 64))
    tags = [*YCBCR, (259, 3, [coding])]
    photo = read(tiff_file([*tags, (274, 3, [6])], [raw]))
    assert np.abs(photo.pixels - upright(rgb, 6)).max() <= 1.5
    with pytest.raises(ValueError, match="truncated or damaged"):
        read(tiff_file(tags, [raw[:-65] if coding == 32773 else b""]))


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_jpegs_in_a_tiff_are_read(channels: int) -> None:
    picture = pixels(40, 64, channels)
    coding: dict[str, Any] = {"compression": "jpeg", "compressionargs": {"level": 100}}
    data = tiff(picture, rowsperstrip=16, subsampling=(1, 1), **coding)
    photo = read(data)
    assert photo.warnings == ()
    assert np.abs(photo.pixels.astype(int) - picture).max() <= 4


def test_planes_that_are_jpegs_without_a_header_are_read() -> None:
    """As libtiff writes them."""
    picture = pixels(20, 32, 3)
    planes = [saved(picture[..., n], quality=100) for n in range(3)]
    strips = [plane[:2] + plane[20:] for plane in planes]  # without JFIF
    tags = [(256, 4, [32]), (257, 4, [20]), (258, 3, [8, 8, 8]), (259, 3, [7]), (262, 3, [2])]
    tags += [(277, 3, [3]), (278, 4, [20]), (284, 3, [2])]
    expected = np.stack([np.asarray(Image.open(io.BytesIO(plane))) for plane in planes], axis=2)
    assert np.array_equal(read(tiff_file(tags, strips)).pixels, expected)


def test_what_cannot_be_corrected_is_named() -> None:
    plain = pixels(20, 31, 3)
    refused: dict[str, bytes] = {
        "floating-point.*16 bits": tiff(plain.astype(np.float32)),
        "floating-point samples": tiff(plain.astype(np.float16)),
        "signed.*16 bits": tiff(plain.astype(np.int16)),
        "32 bits a channel.*save it": tiff(plain.astype(np.uint32)),
        "12 bits a channel.*save it": tiff(plain.astype(np.uint16), bitspersample=12),
        "16-bit CMYK.*convert": tiff(pixels(20, 31, 4, np.uint16), photometric="separated"),
        "inks other than CMYK": tiff(
            pixels(20, 31, 4), photometric="separated", extratags=[(332, 3, 1, 2, True)]
        ),
    }
    for number, name in ((8, "CIE Lab"), (32845, "LogLuv"), (51177, "another colour space")):
        data = bytearray(tiff(plain))
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            struct.pack_into("<H", data, file.pages[0].tags[262].valueoffset, number)
        refused[f"{name}.*convert it to RGB"] = bytes(data)
    data = bytearray(tiff(plain))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        struct.pack_into("<H", data, file.pages[0].tags[259].valueoffset, 34676)
    refused[r"its compression \(SGILOG\) is not read"] = bytes(data)
    for reason, content in refused.items():
        with pytest.raises(ValueError, match=reason):
            read(content)


def with_number(data: bytes, tag: int, index: int, value: int) -> bytes:
    """A TIFF with another number in a list."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        found = file.pages[0].tags[tag]
        code = {3: "<H", 4: "<I"}[int(found.dtype)]
        changed = bytearray(data)
        struct.pack_into(code, changed, found.valueoffset + struct.calcsize(code) * index, value)
    return bytes(changed)


@pytest.mark.parametrize("coding", [None, "lzw", "zlib", "zstd", "lzma", "packbits", "jpeg"])
def test_missing_and_overwritten_strips_are_named(coding: str | None) -> None:
    data = tiff(pixels(48, 61, 3), rowsperstrip=16, compression=coding)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        start, length = file.pages[0].dataoffsets[1], file.pages[0].databytecounts[1]
    damaged = {
        "no place": with_number(data, 273, 1, 0),
        "no length": with_number(data, 279, 1, 0),
        "half the length": with_number(data, 279, 1, length // 2),
        "behind the end": with_number(data, 273, 1, len(data) - 5),
    }
    if coding is not None:  # zeros that are not compressed are black
        zeros = bytes(length - length // 3)
        damaged["zeros"] = data[: start + length // 3] + zeros + data[start + length :]
    for content in damaged.values():
        with pytest.raises(ValueError, match=r"truncated|damaged"):
            read(content)


def test_reduced_copies_are_named_and_further_pages_refused() -> None:
    picture, file = pixels(40, 60, 3), io.BytesIO()
    small = np.ascontiguousarray(picture[::2, ::2])
    with tifffile.TiffWriter(file) as writer:
        writer.write(picture, photometric="rgb", metadata=None)
        writer.write(small, photometric="rgb", metadata=None, subfiletype=1)
    photo = read(file.getvalue())
    assert np.array_equal(photo.pixels, picture)
    assert photo.warnings == ("the reduced copy of the photo in the file was left out",)
    one = tiff(picture)
    (first,) = struct.unpack_from("<I", one, 4)
    link = first + 2 + 12 * struct.unpack_from("<H", one, first)[0]

    def linked(place: int, behind: bytes = b"") -> bytes:
        return one[:link] + struct.pack("<I", place) + one[link + 4 :] + behind

    assert np.array_equal(read(linked(first)).pixels, picture)  # a loop
    for place in (4, len(one) - 1, 2**31):
        with pytest.raises(ValueError, match="a page is missing"):
            read(linked(place))
    at, jpeg = len(one) + len(one) % 2, saved(small)
    thumbnail = struct.pack("<H", 2) + struct.pack("<HHII", 513, 4, 1, at + 30)
    thumbnail += struct.pack("<HHII", 514, 4, 1, len(jpeg)) + bytes(4) + jpeg
    photo = read(linked(at, bytes(len(one) % 2) + thumbnail))  # as in EXIF
    assert "reduced copy" in photo.warnings[0]
    pages = io.BytesIO()
    with tifffile.TiffWriter(pages) as writer:
        writer.write(picture, photometric="rgb", metadata=None)
        writer.write(picture, photometric="rgb", metadata=None)
    with pytest.raises(ValueError, match="several pages"):
        read(pages.getvalue())
