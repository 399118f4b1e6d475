"""Metadata in every format: carried over, or named, and true of the new pixels."""

from __future__ import annotations

import base64
import io
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from data_helpers import textured
from metadata_helpers import (
    FORMATS,
    MARKS,
    Tag,
    closeness,
    exif_of,
    jpeg,
    jpeg_of,
    jpeg_segments,
    numbers,
    png,
    raw,
    rdf,
    segment,
    text,
    written,
    xmp_chunk,
    xmp_of,
)
from PIL import Image, ImageCms, ImageOps, IptcImagePlugin
from rectify_helpers import run

XMP_HEADER = b"http://ns.adobe.com/xap/1.0/\0"
IDENTITY = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
RED = np.full((60, 80, 3), (255, 0, 0), np.uint8)


def second_directory(exif: bytes) -> dict[int, Any]:
    """The tags of a thumbnail, by tifffile."""
    with tifffile.TiffFile(io.BytesIO(exif.removeprefix(b"Exif\0\0"))) as file:
        return {tag.code: tag.value for tag in file.pages[1].tags}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "source"


LAYOUT: dict[str, tuple[int, ...]] = {
    "B": (),
    "H": (258, 259, 262, 266, 274, 277, 284, 317, 338, 339),
    "I": (254, 256, 257, 273, 278, 279, 322, 323, 324, 325, 330),
}


def layout_tags(order: str) -> list[Tag]:
    """Layout of another file: planar tiles of a raw's reduced copy."""
    values = {258: 16, 259: 7, 262: 32803, 266: 2, 274: 1, 284: 2, 317: 3, 338: 2, 339: 3}
    tags = [numbers(order, tag, "H", values.get(tag, 4)) for tag in LAYOUT["H"]]
    tags += [numbers(order, tag, "I", 1 if tag == 254 else 12345) for tag in LAYOUT["I"]]
    return [*tags, raw(50706, bytes((1, 4, 0, 0)), 1)]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", FORMATS)
def test_layout_in_the_exif_stays_out(kind: str, order: str, source: Path) -> None:
    kept: list[Tag] = [
        *(text(270, "words"), text(271, "Maker"), text(11, "a program"), text(50708, "Camera One")),
        *(text(60000, "private"), numbers(order, 60002, "H", 1, 2, 3), text(33432, "(c)")),
    ]
    details = [numbers(order, 0x829A, "H", 7), text(0xA430, "Größe 名前", 129)]  # EXIF 3.0's UTF-8
    source.write_bytes(jpeg(exif_of(order, [*layout_tags(order), *kept], details)))
    path, warnings = written(source, kind)
    assert any("DNG" in line for line in warnings)
    with Image.open(path) as image:
        exif = image.getexif()
        pixels = np.asarray(image.convert("RGB"))
        assert [exif[270], exif[271], exif[11], exif[50708]] == [
            *("words", "Maker", "a program", "Camera One")
        ]
        assert (exif[60000], exif[60002]) == ("private", (1, 2, 3))
    assert "Größe 名前".encode() in path.read_bytes() if kind != "png" else True
    assert np.array_equal(np.asarray(cv2.imread(str(path)))[..., ::-1], pixels)
    foreign = {254, 266, 322, 323, 324, 325, 330, 338, 339, 50706}
    if kind == "tiff":
        with tifffile.TiffFile(path) as file:
            assert np.array_equal(file.pages[0].asarray(), pixels)
            assert file.pages[0].tags[284].value == 1
            assert not foreign & {tag.code for tag in file.pages[0].tags}
    else:
        assert not foreign & exif.keys()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("code", ["H", "h", "I", "i", "B", "b"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_an_orientation_of_any_type_is_obeyed_once(
    code: str, count: int, order: str, source: Path
) -> None:
    orientation = numbers(order, 0x112, code, *(6, 9, 9)[:count])
    thumbnail = {"thumbnail": jpeg_of(RED), "second": [numbers(order, 0x112, "H", 8)]}
    exif = exif_of(order, [text(0x10F, "M"), orientation], **thumbnail)  # type: ignore[arg-type]
    source.write_bytes(jpeg(exif, rdf('tiff:Orientation="3"')))
    expected = np.rot90(np.asarray(Image.open(source)), -1)
    for kind in FORMATS:
        path, warnings = written(source, kind, lens=IDENTITY, quality=95)
        assert warnings == []
        with Image.open(path) as image:
            assert np.asarray(ImageOps.exif_transpose(image)).shape == expected.shape
            assert closeness(np.asarray(image.convert("RGB")), expected) < 4
            assert image.getexif()[0x112] == 1
            if kind != "tiff":
                assert second_directory(image.info["exif"])[0x112] == 1
        assert re.search(rb'tiff:Orientation="(.)"', xmp_of(path))[1] == b"1"  # type: ignore[index]


def test_an_orientation_that_is_given_twice_is_obeyed_as_the_first(source: Path) -> None:
    twice = [numbers("<", 0x112, "H", 6), numbers("<", 0x112, "H", 8)]
    source.write_bytes(jpeg(exif_of("<", [text(0x10F, "M"), *twice])))
    path, _ = written(source, "jpeg")
    exif = jpeg_segments(path.read_bytes())[1][1]
    assert exif.count(struct.pack("<HHI", 0x112, 3, 1)) == 1
    with Image.open(path) as image:
        assert (image.size, image.getexif()[0x112]) == ((160, 240), 1)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_an_orientation_in_the_xmp_alone_means_what_it_meant(suffix: str, source: Path) -> None:
    """Pillow turns such photos, and other programs do not: both see the result as the photo."""
    xmp = rdf('tiff:Orientation="6"')
    path = source.with_suffix(suffix)
    if suffix == ".webp":
        Image.fromarray(textured(160, 240)).save(path, xmp=xmp, lossless=True)
    else:
        path.write_bytes(jpeg(xmp=xmp) if suffix == ".jpg" else png([xmp_chunk(xmp)]))
    result = Path(run(path)["output"])
    for one in (path, result):
        with Image.open(one) as image:
            assert image.size == (240, 160)
            assert ImageOps.exif_transpose(image).size == (160, 240)


def iptc(words: bytes) -> bytes:
    """A caption as an IPTC record (IIM 4, record 2, data set 120)."""
    return b"\x1c\x02\x78" + struct.pack(">H", len(words)) + words


def resource(number: int, data: bytes) -> bytes:
    head = b"8BIM" + struct.pack(">HHI", number, 0, len(data))
    return head + data + b"\0" * (len(data) % 2)


def caption_of(path: Path) -> bytes | None:
    with Image.open(path) as image:
        found = IptcImagePlugin.getiptcinfo(image) or {}
    value = found.get((2, 120))
    assert value is None or isinstance(value, bytes)
    return value


@pytest.mark.parametrize("stored", ["bytes", "longs", "swapped longs"])
@pytest.mark.parametrize("kind", ["jpeg", "tiff", "png"])
def test_captions_of_a_tiff_are_where_programs_look(kind: str, stored: str, source: Path) -> None:
    records = iptc(b"A caption!!")
    assert len(records) % 4 == 0
    order = ">" if stored == "swapped longs" else "<"
    count = len(records) // 4
    tag = (
        (33723, 7, len(records), records, False)
        if stored == "bytes"
        else (33723, 4, count, struct.unpack(f"{order}{count}I", records), False)
    )
    tifffile.imwrite(source, textured(160, 240), photometric="rgb", extratags=[tag], metadata=None)
    path, warnings = written(source, kind)
    assert warnings == []
    if kind == "png":
        with Image.open(path) as image:
            profile = image.text["Raw profile type iptc"]
        assert records in bytes.fromhex("".join(str(profile).split()[2:]))
    else:
        assert caption_of(path) == b"A caption!!"
    with Image.open(path) as image:
        assert 33723 not in image.getexif() or kind == "tiff"


def test_the_captions_of_a_tiff_come_before_a_copy_in_its_resources(source: Path) -> None:
    inner = resource(0x0404, iptc(b"old")) + resource(0x040A, b"\1")
    tags = [(33723, 7, 8, iptc(b"new"), False), (34377, 7, len(inner), inner, False)]
    tifffile.imwrite(source, textured(160, 240), photometric="rgb", extratags=tags, metadata=None)
    for kind in ("jpeg", "tiff"):
        path, warnings = written(source, kind)
        assert warnings == ["a second block of IPTC captions was left out: a file has one"]
        assert caption_of(path) == b"new"
        assert b"old" not in path.read_bytes()


def test_webp_names_what_it_cannot_hold_by_its_content(source: Path) -> None:
    for inner, name in (
        (resource(0x040A, b"\1"), "Photoshop resources"),
        (resource(0x0404, iptc(b"c")), "IPTC"),
    ):
        source.write_bytes(jpeg(more=segment(0xED, b"Photoshop 3.0\0" + inner)))
        [warning] = written(source, "webp")[1]
        assert name in warning


def test_every_thumbnail_shows_the_new_picture(source: Path) -> None:
    """In IFD1, in Photoshop's resources, in the XMP, and in a maker's note."""
    red = jpeg_of(RED)
    size = struct.pack(">6IHH", 1, 80, 60, 240, 240 * 60, len(red), 24, 1)
    xmp = rdf(
        body='<my:T xmlns:xmpGImg="http://ns.adobe.com/xap/1.0/g/img/" xmpGImg:width="80"'
        f' xmpGImg:height="60" xmpGImg:image="{base64.b64encode(red).decode()}"/>'
    )
    preview = jpeg_of(np.full((600, 800, 3), (255, 0, 0), np.uint8)).ljust(9000, b"\0")
    note = raw(0x927C, b"Maker's own" + preview)
    sizes = [numbers(">", 256, "H", 80), numbers(">", 257, "H", 60)]
    exif = exif_of(">", [text(271, "M"), numbers(">", 274, "H", 6)], [note], red, sizes)
    thumbnail = segment(0xED, b"Photoshop 3.0\0" + resource(0x040C, size + red))
    source.write_bytes(jpeg(exif, xmp, thumbnail))
    path, _ = written(source, "jpeg")
    result = Image.open(path).convert("RGB")
    exif = next(
        content for marker, content in jpeg_segments(path.read_bytes()) if content[:4] == b"Exif"
    )[6:]
    block = Image.Exif()
    block.load(b"Exif\0\0" + exif)
    second = second_directory(exif)
    inner = block.get_ifd(0x8769)[0x927C]
    assert inner.startswith(b"Maker's own\xff\xd8")
    assert len(inner) == len(note[3])
    with Image.open(path) as image:
        photoshop = image.info["photoshop"][0x040C]
    image_text = re.search(rb'xmpGImg:image="([^"]*)"', xmp_of(path))
    assert image_text is not None
    at, length = (int(np.ravel(second[tag])[0]) for tag in (0x201, 0x202))
    shown = [
        exif[at : at + length],
        photoshop[28:],
        base64.b64decode(image_text[1]),
        inner[11:],
    ]
    for one in shown:
        small = Image.open(io.BytesIO(one)).convert("RGB")
        assert small.width < small.height
        expected = np.asarray(result.resize(small.size, Image.Resampling.BOX))
        assert closeness(np.asarray(small), expected) < 12
    assert (second[256], second[257]) == Image.open(io.BytesIO(shown[0])).size
    assert struct.unpack(">6I", photoshop[:24])[1:3] == Image.open(io.BytesIO(shown[1])).size


def test_blocks_inside_the_exif_are_found_and_moved_out(source: Path) -> None:
    tags = [text(271, "M"), raw(700, rdf('photoshop:City="Town" tiff:Orientation="6"'), 1)]
    tags += [raw(33723, iptc(b"words")), numbers("<", 274, "H", 6)]
    source.write_bytes(jpeg(exif_of("<", tags)))
    path, warnings = written(source, "jpeg")
    assert warnings == []
    assert b'photoshop:City="Town" tiff:Orientation="1"' in xmp_of(path)
    assert caption_of(path) == b"words"
    with Image.open(path) as image:
        assert not {700, 33723} & image.getexif().keys()


def test_the_xmp_of_a_converted_photo_has_the_new_format(source: Path) -> None:
    source.write_bytes(jpeg(xmp=rdf('dc:format="image/jpeg" tiff:Compression="6" my:Kept="1"')))
    packet = xmp_of(written(source, "png")[0])
    assert b'dc:format="image/png"' in packet
    assert b"Compression" not in packet
    assert b'my:Kept="1"' in packet
    assert b'tiff:Compression="6"' in xmp_of(written(source, "jpeg")[0])


@pytest.mark.parametrize("comment", ["words", "Grüße 世界"])
def test_comments_of_jpeg_and_png(comment: str, source: Path) -> None:
    source.write_bytes(jpeg(more=segment(0xFE, comment.encode())))
    path, warnings = written(source, "png")
    assert warnings == []
    with Image.open(path) as image:
        assert str(image.text["Comment"]) == comment
    back, _ = written(path, "jpeg", even_if_corrected=True)
    with Image.open(back) as image:
        assert image.info["comment"] == comment.encode()
    for kind in ("tiff", "webp"):
        assert "comment" in written(source, kind)[1][0]


@pytest.mark.parametrize(
    ("chunk", "comment"),
    [
        ((b"tEXt", b"Comment\0Gr\xfc\xdfe"), "Grüße"),
        ((b"zTXt", b"Comment\0\0" + zlib.compress(b"packed")), "packed"),
        ((b"iTXt", b"Comment\0\0\0\0\0" + "世界".encode()), "世界"),
    ],
)
def test_a_png_comment_of_every_spelling_is_the_jpegs(
    chunk: tuple[bytes, bytes], comment: str, source: Path
) -> None:
    source.write_bytes(png([chunk]))
    path, warnings = written(source, "jpeg")
    assert warnings == []
    assert Image.open(path).info["comment"] == comment.encode()


def grey_profile() -> bytes:
    """A grey profile with a gamma of 1.8, as ICC.1:2010 describes it."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(1.8 * 256)) + bytes(2)
    white = (
        b"XYZ " + bytes(4) + struct.pack(">3i", *(round(v * 65536) for v in (0.9642, 1, 0.8249)))
    )
    words = b"desc" + bytes(4) + struct.pack(">I", 5) + b"grey\0" + bytes(78)
    tags, body, table = [(b"wtpt", white), (b"kTRC", curve), (b"desc", words)], b"", b""
    for name, data in tags:
        table += struct.pack(">4sII", name, 132 + 12 * len(tags) + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(
        ">I4xI4s4s4s12x4s28x12s",
        132 + len(table) + len(body),
        0x02400000,
        b"mntr",
        b"GRAY",
        b"XYZ ",
        b"acsp",
        white[8:],
    )
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def test_a_grey_profile_fits_the_channels_of_the_new_file(source: Path) -> None:
    profile = grey_profile()
    screen = ImageCms.createProfile("sRGB")

    def shown(path: Path) -> Any:
        with Image.open(path) as image:
            own = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
            flat = image.convert(str(own.profile.xcolor_space).strip().replace("GRAY", "L"))
            colours = ImageCms.profileToProfile(flat, own, screen, outputMode="RGB")
        return np.asarray(colours)

    grey = Image.fromarray(np.asarray(Image.fromarray(textured(160, 240)).convert("L")))
    for layers in ("L", "LA"):
        grey.convert(layers).save(source, "PNG", icc_profile=profile)
        same, _ = written(source, "png")
        for kind in ("webp", "tiff"):
            path, warnings = written(source, kind, quality=100 if kind == "webp" else None)
            assert warnings == []
            assert closeness(shown(path), shown(same)) < 2.5
            with Image.open(path) as image:
                space = image.info["icc_profile"][16:20]
                assert (space == b"GRAY") == (image.mode in ("L", "LA"))


def test_a_bmp_names_what_was_there_only(source: Path) -> None:
    Image.fromarray(textured(160, 240)).convert("LA").save(source, "PNG")
    path, warnings = written(source, "bmp")
    assert Image.open(path).size == (240, 160)
    assert warnings == [
        "BMP files cannot hold the mark of a correction: it would be corrected again"
    ]
    source.write_bytes(png([(b"gAMA", struct.pack(">I", 55556))]))
    assert "BMP files cannot hold the colour profile: left out" in written(source, "bmp")[1]


def test_hdr_data_and_aspect_ratios_of_a_png_are_kept_or_named(source: Path) -> None:
    chunks = [(b"cICP", bytes((9, 16, 0, 1))), (b"mDCV", bytes(24)), (b"cLLI", bytes(8))]
    chunks.append((b"pHYs", struct.pack(">IIB", 2, 1, 0)))
    source.write_bytes(png(chunks))
    path, warnings = written(source, "png")
    assert warnings == []
    data = path.read_bytes()
    assert all(kind + content in data for kind, content in chunks)
    [warning] = written(source, "jpeg")[1]
    assert all(name in warning for name in ("mDCV", "cLLI", "pHYs"))


def test_texts_that_repeat_the_old_picture_are_left_out_and_named(source: Path) -> None:
    texts = {"exif:Orientation": "6", "Thumb::Image::Width": "240", "exif:Model": "kept"}
    source.write_bytes(png([(b"tEXt", f"{key}\0{value}".encode()) for key, value in texts.items()]))
    path, warnings = written(source, "png")
    with Image.open(path) as image:
        texts = dict(image.text)
    assert texts.keys() - {"XML:com.adobe.xmp"} == {"exif:Model"}
    assert len(warnings) == 2


def test_second_blocks_are_named(source: Path) -> None:
    one, other = (rdf(f'photoshop:City="{name}"') for name in ("One", "Other"))
    source.write_bytes(jpeg(xmp=one, more=segment(0xE1, XMP_HEADER + other)))
    assert "second XMP" in written(source, "jpeg")[1][0]
    profile = f"\nxmp\n{len(other)}\n{other.hex()}\n".encode()
    source.write_bytes(png([xmp_chunk(one), (b"tEXt", b"Raw profile type xmp\0" + profile)]))
    path, warnings = written(source, "png")
    assert "second xmp" in warnings[0]
    assert b'"One"' in xmp_of(path)


@pytest.mark.parametrize("order", ["<", ">"])
def test_an_exif_of_several_segments_is_whole_and_named(order: str, source: Path) -> None:
    content = bytes(range(250)) * 400
    tags = [text(271, "M"), numbers(order, 274, "H", 8), raw(60000, content)]
    exif = exif_of(order, tags, [numbers(order, 0x829A, "H", 7)])
    parts = (exif[at : at + 65_000] for at in range(0, len(exif), 65_000))
    source.write_bytes(jpeg(more=b"".join(segment(0xE1, b"Exif\0\0" + part) for part in parts)))
    for kind in FORMATS:
        path, warnings = written(source, kind)
        assert len(warnings) == (kind == "jpeg")
        with Image.open(path) as image:
            assert image.size == (160, 240)
            exif_read = image.getexif()
            assert (exif_read[60000], exif_read[274]) == (content, 1)
    assert MARKS[order] == exif[:4]


def test_imagej_marks_and_dng_names(source: Path) -> None:
    tags: list[Any] = [(50838, 4, 2, (3, 4), False), (50839, 1, 7, b"abcdefg", False)]
    tags += [(50827, 2, 5, "a.nef", False), (50898, 7, 5, b"title", False)]
    tifffile.imwrite(source, textured(160, 240), photometric="rgb", extratags=tags, metadata=None)
    path, [warning] = written(source, "tiff")
    assert "ImageJ" in warning
    with tifffile.TiffFile(path) as file:
        kept = file.pages[0].tags
        assert not {50838, 50839} & {tag.code for tag in kept}
        assert (kept[50827].value, kept[50898].value) == ("a.nef", b"title")
