"""Mutated files of every container: read and written, or refused in one line. No more than that.

`--fuzz 5000 --fuzz-seed 7` looks longer, and elsewhere.
"""

import io
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import cv2
import numpy as np
import pytest
import tifffile
from data_helpers import textured
from fuzz_judge import FORMATS, judge
from fuzz_mutations import mutated
from fuzz_seeds import (
    H,
    Sub,
    W,
    exif,
    jpeg_of,
    png_of,
    rich_jpeg,
    riff_of,
    saved,
    seeds,
    segment,
    srgb,
    tag_bytes,
    tiff_block,
    xmp,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from warp_train.photos.decoding import kind_of
from warp_train.photos.encoding import encode_photo
from warp_train.photos.files import PhotoFile, read_photo
from warp_train.photos.formats import Format, Kind
from warp_train.photos.metadata import Metadata
from warp_train.photos.png_chunks import SIGNATURE, png_chunk
from warp_train.photos.png_encoding import encode_png

KINDS: tuple[Kind, ...] = ("jpeg", "png", "tiff", "webp", "bmp", "heic", "avif")
PACKET = b"http://ns.adobe.com/xap/1.0/\0"
LONG_WAIT = 10.0  # seconds; without limits, the files below take minutes


@pytest.fixture(autouse=True)
def _as_in_a_worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The limits of the workers that correct photos: our own."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(0)
    yield
    cv2.utils.logging.setLogLevel(level)


@pytest.mark.parametrize("kind", KINDS)
def test_mutants_are_read_and_written_or_refused_in_one_line(
    kind: Kind, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    files = list(seeds().values())
    own = sorted(name for name, data in seeds().items() if kind_of(data) == kind)
    start = request.config.getoption("--fuzz-seed")

    @settings(
        max_examples=request.config.getoption("--fuzz"),
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(own), st.integers(0, 2**32 - 1), st.sampled_from(FORMATS))
    def check(name: str, number: int, written: Format) -> None:
        path = tmp_path / "x.jpg"
        path.write_bytes(mutated(seeds()[name], Random(f"{start}:{number}"), files))
        judge(path, (written,))

    check()


def with_segments(*contents: tuple[int, bytes], data: bytes | None = None) -> bytes:
    """A JPEG with segments in front of its others."""
    plain = jpeg_of(textured(H, W)) if data is None else data
    return plain[:2] + b"".join(segment(*one) for one in contents) + plain[2:]


def with_packet(body: str, attributes: str = "") -> bytes:
    return with_segments((0xE1, PACKET + xmp(body, attributes)))


def with_chunk(kind: bytes, content: bytes) -> bytes:
    """A PNG with a chunk in front of its pixels."""
    plain = encode_png(textured(H, W), Metadata())
    at = plain.index(b"IDAT") - 4
    return plain[:at] + png_chunk(kind, content) + plain[at:]


def with_size(data: bytes, frame: bytes, size: bytes) -> bytes:
    at = data.index(frame) + len(frame)
    return data[:at] + size + data[at + len(size) :]


def with_tag(
    order: str, tag: int, kind: int, values: bytes, name: str = "tiff", count: int = 1
) -> bytes:
    """A TIFF whose entry of a tag has another type, count, and these four bytes."""
    data = bytearray(seeds()[name])
    code, size = ("<", "little") if order == "<" else (">", "big")
    first = int.from_bytes(data[4:8], size)  # type: ignore[arg-type]
    (rows,) = struct.unpack_from(code + "H", data, first)
    for at in range(first + 2, first + 2 + 12 * rows, 12):
        if struct.unpack_from(code + "H", data, at)[0] == tag:
            struct.pack_into(code + "HI", data, at + 2, kind, count)
            data[at + 8 : at + 12] = values
            return bytes(data)
    raise AssertionError(f"no tag {tag}")


def png_rows(rows: int, depth: int = 8, size: tuple[int, int] = (W, H)) -> bytes:
    """A grey PNG that ends after some rows, with all checksums right."""
    header = struct.pack(">IIBBBBB", *size, depth, 0, 0, 0, 0)
    row = bytes(1 + size[0] * depth // 8)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(row * rows)), (b"IEND", b""))
    return SIGNATURE + b"".join(png_chunk(*chunk) for chunk in chunks)


def overlapping_tags() -> bytes:
    """An EXIF block of 4000 tags, each of which has the whole block as its value."""
    rows = b"".join(struct.pack("<HHII", tag, 7, 10**6, 8) for tag in range(1, 4001))
    head = b"II*\0" + struct.pack("<I", 10**6 + 8)
    block = head + bytes(10**6) + struct.pack("<H", 4000) + rows
    parts = [block[at : at + 60_000] for at in range(0, len(block), 60_000)]
    return with_segments(*((0xE1, b"Exif\0\0" + part) for part in parts))


def gain_map_bomb() -> bytes:
    """An Ultra HDR JPEG whose gain map claims four gigapixels."""
    grey = with_size(jpeg_of(textured(H, W)[..., 0]), b"\xff\xc0\0\x0b\x08", b"\xff\0\xff\0")
    mark = b"urn:iso:std:iso:ts:21496:-1\0" + bytes(40)
    return jpeg_of(textured(H, W)) + with_segments((0xE2, mark), data=grey)


def heic_of_many_extents() -> bytes:
    """A HEIC whose item list repeats the whole file sixty thousand times in no bytes."""
    data = bytearray(seeds()["heic10"])
    at = data.index(b"iloc") + 4
    items = struct.unpack_from(">H", data, at + 6)[0]
    assert data[at + 4 : at + 6] == b"\x44\x40"
    assert items == 1
    data[at + 4] = 0
    struct.pack_into(">H", data, at + 16, 60_000)
    return bytes(data)


REGION = '<rdf:li><mwg-rs:Area stArea:x=".5" stArea:y=".4" stArea:w=".2" stArea:h=".1"/></rdf:li>'
NESTED = "<mwg-rs:Regions>" * 200 + REGION * 40 + "</mwg-rs:Regions>" * 200
SPACES = 'xmlns:Item="http://ns.google.com/photos/1.0/container/item/"'
ITEM = (
    f'<x:xmpmeta xmlns:x="adobe:ns:meta/" {SPACES} xmlns:Container="http://ns.google.com/photos/'
    '1.0/container/"><Container:Item Item:Mime="image/jpeg"/></x:xmpmeta>'
)
READ = "read"
FOUND: dict[str, tuple[Callable[[], bytes], str]] = {
    # results that other programs did not open
    "a short gAMA chunk": (lambda: with_chunk(b"gAMA", b"\0\0"), READ),
    "a short cHRM chunk": (lambda: with_chunk(b"cHRM", bytes(31)), READ),
    "a text of unknown compression": (lambda: with_chunk(b"zTXt", b"a\0\7xx"), READ),
    "a chunk that is no text": (lambda: with_chunk(b"tEXt", b"\0words"), READ),
    "a chunk without letters": (lambda: with_chunk(b"ab\xffd", b"x"), READ),
    "a JFIF of four bytes": (lambda: with_segments((0xE0, b"JFIF")), READ),
    # errors of other types
    "a density beyond all bounds": (
        lambda: with_size(seeds()["bmp"], b"BM" + seeds()["bmp"][2:38], b"\xff\xff\xff\x7f" * 2),
        READ,
    ),
    "a width in words": (lambda: with_tag("<", 256, 2, b"ab\0\0"), "tag 256 is invalid"),
    "bits of a thousand channels": (
        lambda: with_tag("<", 258, 3, b"\x08\0\0\0", count=1000),
        "tag 258 is invalid",
    ),
    "bits in bytes": (lambda: with_tag("<", 258, 1, b"\x08\0\0\0", count=3), "tag 258 is invalid"),
    "a negative width": (lambda: with_tag("<", 256, 9, b"\xff" * 4), "tag 256 is invalid"),
    "tiles without a height": (lambda: with_tag(">", 323, 3, bytes(4), "tiled_lzw"), "damaged"),
    "tiles of gigabytes": (
        lambda: with_tag(">", 322, 4, b"\0\xff\xff\xf0", "tiled_lzw"),
        "tiles are larger",
    ),
    "a directory at the end of all memory": (
        lambda: with_segments((0xE1, b"Exif\0\0II+\0\x08\0\0\0" + b"\xff" * 8 + bytes(99))),
        READ,
    ),
    "damaged XMP of two parts": (
        lambda: with_segments(
            (0xE1, PACKET + b"<x:xmpmeta"),
            (0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(40) + b"words"),
        ),
        READ,
    ),
    "damaged XMP that fits no JPEG": (
        lambda: with_chunk(
            b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + b"<x:xmpmeta>" + b"a" * 70_000
        ),
        READ,
    ),
    "an item of no directory": (lambda: with_segments((0xE1, PACKET + ITEM.encode())), READ),
    "a region of infinite width": (
        lambda: with_packet(f"<mwg-rs:Regions>{REGION}</mwg-rs:Regions>".replace(".2", "1e308")),
        READ,
    ),
    "a property box of 64 bits": (
        lambda: with_size(
            with_size(seeds()["heic"], b"iprp", b"\0\0\0\1"),
            b"\0\0\0\1ipco",
            b"\xff" * 8 + b"\0\0\0\1free\x80" + bytes(6) + b"\x64",
        ),
        "list of pictures",
    ),
    # lines that were none, or that moved the terminal's cursor
    "a panorama in three lines": (
        lambda: with_packet("<GPano:ProjectionType>a\nb\nc</GPano:ProjectionType>"),
        READ,
    ),
    "an escape sequence": (
        lambda: png_of(3)[:-12] + b"\0\0\0\0\x1b[3a\0\0\0\0",
        "damaged ( [3a has a wrong checksum)",
    ),
    "a chunk of control characters": (
        lambda: riff_of(saved(textured(H, W), "WEBP"), (b"\n\x1b[m", b"?")),
        READ,
    ),
    "a keyword of many words": (lambda: with_chunk(b"zTXt", b"word " * 500), READ),
    # damage that nobody noticed, and photos that were refused for damage beside the pixels
    "rows that are missing": (lambda: png_rows(H - 1), "Not enough image data"),
    "deep rows that are missing": (lambda: png_rows(H - 1, 16), "Not enough image data"),
    "strips that are missing": (lambda: with_tag("<", 278, 3, b"\1\0\0\0"), "missing"),
    "an empty strip": (lambda: with_tag("<", 279, 4, bytes(4)), "missing"),
    "a JFIF of version 2": (
        lambda: jpeg_of(textured(H, W)).replace(b"JFIF\0\1\1", b"JFIF\0\2\1"),
        READ,
    ),
    "a colour profile in no order": (
        lambda: with_segments((0xE2, b"ICC_PROFILE\0\0\0" + srgb())),
        READ,
    ),
    "bytes between segments": (
        lambda: rich_jpeg("<", "Canon").replace(b"\xff\xfe\0\x0b", b"stray\xff\xfe\0\x0b"),
        READ,
    ),
    "a profile that is none": (lambda: with_chunk(b"iCCP", b"icc\0\0abc"), READ),
    "a short density": (lambda: with_chunk(b"pHYs", bytes(8)), READ),
    # warnings of libraries on the terminal
    "a strip of nonsense": (
        lambda: seeds()["ycbcr_zip"].replace(b"\x78\x9c", b"\x00\x9c"),
        "damaged",
    ),
    # minutes and gigabytes
    "a PNG of nothing": (lambda: png_rows(1, size=(20_000, 20_000)), "20000x20000 px in"),
    "a JPEG of nothing": (
        lambda: with_size(jpeg_of(textured(H, W)), b"\xff\xc0\0\x11\x08", b"\x4e\x20" * 2),
        "20000x20000 px in",
    ),
    "a strip of gigapixels": (
        lambda: with_size(seeds()["jpeg_tiff"], b"\xff\xc0\0\x11\x08", b"\xff\0\xff\0"),
        "65280x65280 px",
    ),
    "a gain map of gigapixels": (gain_map_bomb, READ),
    "tags that hold each other": (overlapping_tags, READ),
    "pictures behind the picture": (
        lambda: jpeg_of(textured(H, W)) + b"\xff\xd8\xff\xd9" * 50_000,
        READ,
    ),
    "packets that do not end": (
        lambda: with_chunk(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + b"<rdf:RDF " * 40_000),
        READ,
    ),
    "regions in regions": (lambda: with_packet(NESTED), READ),
    "extents of no bytes": (heic_of_many_extents, "list of pictures"),
}


@pytest.mark.parametrize(("make", "answer"), FOUND.values(), ids=FOUND.keys())
def test_what_fuzzing_found(make: Callable[[], bytes], answer: str, tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(make())
    began = time.process_time()
    assert answer in judge(path)
    assert time.process_time() - began < LONG_WAIT


def test_a_width_that_needs_more_bits_gets_them(tmp_path: Path) -> None:
    """A panorama's width is no SHORT, of which type the old width was."""
    block = tiff_block("<", [[(0x0100, 3, tag_bytes("<", 3, 99))]])
    wide = np.zeros((16, 70_000, 1), np.uint8)
    photo = PhotoFile(wide, "png", Metadata(exif=block))
    (tmp_path / "x.png").write_bytes(encode_photo(photo, wide, "png", None)[0])
    tags = Image.Exif()
    tags.load(b"Exif\0\0" + read_photo(tmp_path / "x.png").metadata.exif)
    assert tags[0x0100] == 70_000


def test_a_colour_profile_that_fits_no_jpeg_is_named() -> None:
    picture = textured(H, W)
    photo = PhotoFile(picture, "png", Metadata(icc=bytes(17_000_000)))
    data, lost = encode_photo(photo, picture, "jpeg", None)
    assert len(data) < 10_000
    assert lost == ["its colour profile was left out: it is too long for a JPEG file"]


@pytest.mark.parametrize("at", [1, 9, 20])
def test_a_tag_over_other_tags_is_not_written_to(at: int) -> None:
    """The subject's position is damaged: it is that of the header, or of a directory."""
    inner = Sub([(0x9214, 3, tag_bytes("<", 3, 10, 12, 6, 4)), (0x9286, 7, b"a comment")])
    block = tiff_block("<", [[(0x010F, 2, b"Canon\0"), (0x8769, 4, inner)]])
    entry = block.index(struct.pack("<HH", 0x9214, 3))
    place = at if at < 9 else block.index(struct.pack("<HH", 0x8769, 4)) - at
    damaged = block[: entry + 8] + struct.pack("<I", place) + block[entry + 12 :]
    picture = textured(H, W)
    photo = PhotoFile(picture, "jpeg", Metadata(exif=damaged))
    data = encode_photo(photo, picture, "jpeg", None)[0]
    exif = Image.open(io.BytesIO(data)).getexif()
    assert exif[0x010F] == "Canon"
    assert exif.get_ifd(0x8769)[0x9286] == b"a comment"


def test_a_thumbnail_over_other_tags_is_unlinked() -> None:
    block = bytearray(exif("<"))
    note = block.index(b"EF24-70mm")
    block[note : note + 3] = b"\xff\xd8\xff"
    entry = block.index(struct.pack("<HH", 0x0201, 4))
    struct.pack_into("<I", block, entry + 8, note)
    struct.pack_into("<I", block, entry + 8 + 12, 2**31)
    picture = textured(H, W)
    photo = PhotoFile(picture, "jpeg", Metadata(exif=bytes(block)))
    data = encode_photo(photo, picture, "jpeg", None)[0]
    after = data[data.index(b"Exif\0\0") + 6 :][: len(block)]
    first = int.from_bytes(block[4:8], "little")
    link = first + 2 + 12 * int.from_bytes(block[first : first + 2], "little")
    assert after[link : link + 4] == bytes(4)
    changed = [n for n, (a, b) in enumerate(zip(after, block, strict=True)) if a != b]
    assert not [n for n in changed if note <= n < note + 20 or n > link + 4]


def test_a_resolution_of_no_unit_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "x.tif").write_bytes(with_tag("<", 296, 3, b"\0\1\0\0"))
    photo = read_photo(tmp_path / "x.tif")
    (tmp_path / "y.tif").write_bytes(encode_photo(photo, photo.pixels, "tiff", None)[0])
    with tifffile.TiffFile(tmp_path / "y.tif") as file:
        page = file.pages[0]
        assert isinstance(page, tifffile.TiffPage)
        assert int(page.tags.valueof(296, default=2)) in (1, 2, 3)


def test_the_seeds_are_photos(tmp_path: Path) -> None:
    """Mutants of files that are refused would test little."""
    for name, data in seeds().items():
        path = tmp_path / f"{name}.jpg"
        path.write_bytes(data)
        assert judge(path) == READ, name
