"""HEIC and AVIF: pixels at full depth, turned once, and what else the file contains."""

import io
import sys
from contextlib import suppress
from typing import Any

import cv2
import numpy as np
import pytest
from heif_helpers import (
    Array,
    avif,
    avif_of,
    box,
    exif,
    heic,
    scene,
    with_property,
    with_property_replaced,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, features

from warp_train.photos.heif import heif_exif, read_heif
from warp_train.photos.heif_boxes import is_heif

XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF/></x:xmpmeta>"
TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, -1)[::-1],
    8: lambda a: np.rot90(a),
}
"""EXIF's definition: stored pixels as they are seen upright."""


def error(a: Array, b: Array) -> float:
    assert a.shape == b.shape
    return float(np.abs(a.astype(float) - b).mean())


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("make", [heic, avif], ids=["heic", "avif"])
def test_pixels_are_upright_whatever_exif_says(make: Any, orientation: int) -> None:
    """The encoders write `irot` and `imir` for the EXIF orientation, and keep EXIF as well."""
    tags = exif(orientation=orientation, make="Maker")
    data = heic(scene(), info_exif=tags) if make is heic else avif(scene(), exif=tags)
    picture = read_heif(data)
    assert error(picture.pixels, TURNS[orientation](scene())) < 2
    assert picture.exif[:4] in (b"II*\0", b"MM\0*")
    read = Image.Exif()
    read.load(picture.exif)
    assert read[0x010F] == "Maker"
    assert heif_exif(data) == picture.exif
    assert picture.notes == ()


@pytest.mark.parametrize("bits", [10, 12])
@pytest.mark.parametrize("kind", ["heic", "avif"])
def test_more_than_8_bits_fill_16(kind: str, bits: int) -> None:
    most = 2**bits - 1
    stored = np.rint(scene() * (most / 250)).clip(0, most).astype(np.uint16)
    if kind == "heic":
        lossless = {"quality": -1, "matrix_coefficients": 0, "bit_depth": bits}
        data = heic(stored << (16 - bits), "RGB;16", **lossless)
    else:
        data = avif_of(bits, stored)
    picture = read_heif(data)
    assert (picture.kind, picture.bits) == (kind, bits)
    assert picture.pixels.dtype == np.uint16
    assert picture.pixels.max() == 65535
    expected = stored * (65535 / most)
    assert np.abs(picture.pixels - expected).max() <= (0.5 if kind == "avif" else 65535 / most)


def test_turned_avif_of_10_bits() -> None:
    data = avif_of(10, scene().astype(np.uint16) * 4)
    turned = read_heif(with_property(data, "irot", b"\3")).pixels
    assert np.array_equal(turned, TURNS[6](read_heif(data).pixels))


def test_only_the_clean_aperture_of_avif_is_shown() -> None:
    numbers = (60, 1, 40, 1, -10, 1, 5, 1)  # 60 x 40 px about a centre 10 px left, 5 px down
    clap = b"".join(number.to_bytes(4, "big", signed=True) for number in numbers)
    data = avif(scene())
    whole, part = read_heif(data).pixels, read_heif(with_property(data, "clap", clap)).pixels
    assert np.array_equal(part, whole[15:55, 10:70])


def test_grey_alpha_and_odd_sizes() -> None:
    grey = scene(61, 101)[..., :1]
    assert error(read_heif(heic(grey, "L")).pixels, grey) < 1
    assert np.array_equal(read_heif(avif_of(8, grey)).pixels, grey)
    sixteen = read_heif(heic(grey.astype(np.uint16) * 257, "I;16", bit_depth=10)).pixels
    assert sixteen.shape == (61, 101, 1)
    assert error(sixteen / 257, grey) < 1
    both = np.dstack([scene(61, 101), scene(61, 101)[..., 1:2]])
    for data in (heic(both, "RGBA"), avif(both)):
        assert error(read_heif(data).pixels, both) < 2


def test_colours_that_are_multiplied_by_alpha_are_divided() -> None:
    colours, alpha = scene(), np.full((60, 100, 1), 100, np.uint8)
    alpha[:, 50:] = 200
    stored = np.rint(colours * (alpha / 255)).astype(np.uint8)
    picture = read_heif(heic(np.dstack([stored, alpha]), "RGBa", quality=100))
    assert error(picture.pixels[..., :3], colours) < 3
    assert "multiplied by its transparency" in picture.notes[0]


def test_metadata_are_read() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tags = exif(make="Maker")
    for data in (
        heic(scene(), info_exif=tags, info_xmp=XMP, info_icc_profile=profile),
        avif(scene(), exif=tags, xmp=XMP, icc_profile=profile),
    ):
        picture = read_heif(data)
        assert is_heif(data)
        assert picture.exif == tags.removeprefix(b"Exif\0\0")
        assert (picture.xmp, picture.icc, picture.notes) == (XMP, profile, ())
    plain = read_heif(heic(scene()))
    assert (plain.exif, plain.xmp, plain.icc) == (b"", b"", b"")
    assert read_heif(avif(scene())).nclx == (1, 13, 6, 1)
    grey = heic(scene()[..., :1], "L", info_icc_profile=profile)
    assert read_heif(grey).pixels.shape == (60, 100, 3), "an RGB profile needs RGB pixels"


def test_an_orientation_of_exif_alone_is_named() -> None:
    """Neither libheif nor libavif applies it."""
    data = heic(scene(), info_exif=exif(orientation=1))
    value = b"\x01\x12\x00\x03\x00\x00\x00\x01\x00"
    assert data.count(value + b"\1") == 1
    picture = read_heif(data.replace(value + b"\1", value + b"\6"))
    assert error(picture.pixels, scene()) < 2
    assert picture.notes == (
        "its EXIF orientation (6) differs from the file's own, which viewers of HEIC and AVIF use",
    )


def test_colours_by_number_become_a_profile() -> None:
    p3 = {"color_primaries": 12, "transfer_characteristics": 13, "matrix_coefficients": 6}
    picture = read_heif(heic(scene(), info_nclx_profile={**p3, "full_range_flag": 1}))
    assert picture.nclx == (12, 13, 6, 1)
    assert picture.icc[16:20] == b"RGB "
    assert picture.notes == ()
    grey = read_heif(heic(scene()[..., :1], "L", info_nclx_profile={**p3, "full_range_flag": 1}))
    assert grey.icc[16:20] == b"GRAY"
    pq = {**p3, "color_primaries": 9, "transfer_characteristics": 16, "full_range_flag": 1}
    [note] = read_heif(heic(scene(), info_nclx_profile=pq)).notes
    assert "HDR (BT.2020, PQ curve)" in note
    film = {**p3, "color_primaries": 8, "full_range_flag": 1}
    picture = read_heif(heic(scene(), info_nclx_profile=film))
    assert picture.icc == b""
    assert picture.notes == (
        "its colours (primaries 8, sRGB curve) cannot be described by a colour profile",
    )


def rgba() -> bytes:
    return heic(np.dstack([scene(), scene()[..., :1]]), "RGBA")


def auxiliary(name: str) -> bytes:
    """A HEIC file whose transparency is declared to be another picture."""
    return with_property_replaced(rgba(), b"auxid:1", "auxC", bytes(4) + name.encode() + b"\0")


def two_pictures() -> bytes:
    import pillow_heif

    file = pillow_heif.from_pillow(Image.fromarray(scene()))
    file.add_from_pillow(Image.fromarray(scene()[::-1].copy()))
    out = io.BytesIO()
    file.save(out, quality=95)
    return out.getvalue()


def sequence() -> bytes:
    frames = [Image.fromarray(np.roll(scene(), 9 * n, 1)) for n in range(3)]
    out = io.BytesIO()
    frames[0].save(out, "AVIF", save_all=True, append_images=frames[1:], quality=95)
    return out.getvalue()


C2PA = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
LEFT_OUT = {
    "gain map of Apple": (
        auxiliary("urn:com:apple:photo:2020:aux:hdrgainmap"),
        "pictures beside the photo were left out: gain map (HDR)",
    ),
    "matte": (
        auxiliary("urn:com:apple:photo:2018:aux:portraiteffectsmatte"),
        "pictures beside the photo were left out: portraiteffectsmatte",
    ),
    "depth map": (
        rgba().replace(b"auxid:1", b"auxid:2"),
        "pictures beside the photo were left out: depth map",
    ),
    "more pictures": (
        two_pictures(),
        "the file contains 2 pictures: only the primary one, which viewers show, is kept",
    ),
    "sequence": (
        sequence(),
        "the file contains an image sequence: only its still picture is kept",
    ),
    "motion photo": (
        heic(scene()) + box("mpvd", bytes(100)),
        "the video of the motion photo was left out",
    ),
    "signature": (
        heic(scene()) + box("uuid", C2PA + bytes(100)),
        "its content credentials (C2PA) were left out: they are of the old file",
    ),
}


@pytest.mark.parametrize(("data", "note"), LEFT_OUT.values(), ids=LEFT_OUT.keys())
def test_what_is_left_out_is_named(data: bytes, note: str) -> None:
    picture = read_heif(data)
    assert picture.notes == (note,)
    assert error(picture.pixels, scene()) < 4


@pytest.mark.parametrize("thumbnails", [[], [32]])
def test_a_thumbnail_needs_no_note(thumbnails: list[int]) -> None:
    assert read_heif(heic(scene(), info_thumbnails=thumbnails)).notes == ()


@pytest.mark.parametrize("make", [heic, avif])
def test_a_cut_file_is_refused(make: Any) -> None:
    data = make(scene(200, 300))
    for share in (0.01, 0.1, 0.3, 0.6, 0.9, 0.999):
        with pytest.raises(ValueError, match=r"truncated|damaged"):
            read_heif(data[: int(len(data) * share)])


@pytest.mark.parametrize("make", [heic, avif])
def test_data_overwritten_with_zeros_are_damage(make: Any) -> None:
    """The decoders invent a picture, and report no error."""
    noise = np.random.default_rng(0).integers(0, 256, (128, 192, 3)).astype(np.uint8)
    data = make(noise)
    kept = int(len(data) * 0.8)
    with pytest.raises(ValueError, match="damaged: its picture data"):
        read_heif(data[:kept] + bytes(len(data) - kept))


def test_pictures_of_one_tone_are_not_damaged() -> None:
    for tone in (0, 128):
        flat = np.full((300, 400, 3), tone, np.uint8)
        for data in (heic(flat), avif(flat, quality=100), heic(flat, tile_size=128)):
            assert abs(int(read_heif(data).pixels[150, 200, 1]) - tone) <= 1


def test_sizes_are_checked_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="100x12 px; at least 16 px"):
        read_heif(heic(scene(12, 100)))
    monkeypatch.setattr("warp_train.photos.pixels.MOST_PIXELS", 5999)
    monkeypatch.setattr("warp_train.photos.heif._pixels", lambda image: pytest.fail("decoded"))
    with pytest.raises(ValueError, match="100x60 px; at most"):
        read_heif(heic(scene()))


def test_without_pillow_heif_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = heic(scene())
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ValueError, match=r"pip install 'warp_train\[heic\]'"):
        read_heif(data)


def test_without_avif_in_pillow_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = avif(scene())
    monkeypatch.setattr(features, "check", lambda name: False)
    with pytest.raises(ValueError, match=r"Pillow 11\.3 or later: pip install"):
        read_heif(data)


def test_an_opencv_without_avif_gives_8_bits_and_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    data = avif_of(10, scene().astype(np.uint16) * 4)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: None)
    picture = read_heif(data)
    assert picture.pixels.dtype == np.uint8
    assert error(picture.pixels, scene()) < 1
    assert "10 bits a channel were reduced to 8" in picture.notes[0]


def test_other_files_are_not_heif() -> None:
    video = box("ftyp", b"isom\0\0\0\0isomavc1")
    for data in (b"", b"\xff\xd8\xff", video, box("ftyp", b"crx \0\0\0\1crx isom")):
        assert not is_heif(data)
        with pytest.raises(ValueError, match="damaged"):
            read_heif(data)


SMALL = (heic(scene(16, 16)), avif(scene(16, 16)))


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(SMALL),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=6),
    st.integers(1, 2000),
)
def test_mutated_files_raise_clear_errors_only(
    data: bytes, changes: list[tuple[int, int]], kept: int
) -> None:
    changed = bytearray(data)
    for at, value in changes:
        changed[at % len(data)] = value
    with suppress(ValueError):
        assert read_heif(bytes(changed[: max(kept, 20)])).pixels.ndim == 3
