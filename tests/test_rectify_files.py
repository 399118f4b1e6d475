"""Photos read and written: every bit of their pixels, and what the files say of them."""

import io
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from data_helpers import textured
from PIL import Image, ImageCms, ImageOps
from rectify_helpers import exif_block, pixels, write_photo

from warp_train.photos.change import UNCHANGED
from warp_train.photos.encoding import encode_photo
from warp_train.photos.files import PhotoFile, read_photo
from warp_train.photos.metadata import Metadata
from warp_train.photos.pixels import predictor_view
from warp_train.photos.updating import updated
from warp_train.runtime.errors import WarpTrainError

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF'
    b' xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" rdf:about=""'
    b' tiff:Orientation="6" tiff:Make="me"/></rdf:RDF></x:xmpmeta>'
)
SUFFIX = {"jpeg": ".jpg", "png": ".png", "tiff": ".tif", "webp": ".webp", "bmp": ".bmp"}


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_and_tiff_keep_every_bit(tmp_path: Path, channels: int, depth: Any) -> None:
    picture = pixels(75, 131, channels, depth)
    for kind in ("png", "tiff"):
        path = write_photo(tmp_path / f"x{SUFFIX[kind]}", picture, kind)
        back = read_photo(path).pixels
        if (kind, channels, depth) == ("tiff", 2, np.uint16):  # written as RGB and alpha
            back = back[..., [0, 3]]
        assert back.dtype == depth
        assert np.array_equal(back, picture)
        # And as others read it.
        seen = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if channels == 3:
            assert np.array_equal(seen, picture[..., ::-1])
        if channels == 4 and (kind == "png" or depth == np.uint16):  # else it premultiplies
            assert np.array_equal(seen, picture[..., [2, 1, 0, 3]])
        if depth == np.uint8:
            assert np.array_equal(np.asarray(Image.open(path)), picture.squeeze())


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_webp_and_bmp_keep_every_bit(tmp_path: Path, channels: int) -> None:
    picture = pixels(40, 61, channels)
    for kind in ("webp", "bmp"):
        back = read_photo(write_photo(tmp_path / f"x{SUFFIX[kind]}", picture, kind)).pixels
        if kind == "webp" and channels == 1:  # it has no grey
            back = back[..., :1]
        assert np.array_equal(back, picture)


@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_read_upright_and_written_so(
    tmp_path: Path, kind: str, orientation: int
) -> None:
    metadata = Metadata(exif=exif_block(orientation))
    stored = tmp_path / f"x{SUFFIX[kind]}"
    options: dict[str, Any] = {"exif": b"Exif\x00\x00" + metadata.exif}
    if kind == "webp":
        options["lossless"] = True
    Image.fromarray(textured(40, 64)).save(stored, **options)
    photo = read_photo(stored)
    with Image.open(stored) as file:
        expected = np.asarray(ImageOps.exif_transpose(file))
    assert np.array_equal(photo.pixels, expected)
    again = tmp_path / f"again{SUFFIX[kind]}"
    again.write_bytes(encode_photo(photo, photo.pixels, photo.format, None)[0])
    with Image.open(again) as file:
        assert file.getexif().get(0x0112, 1) == 1
        assert file.getexif()[0x010F] == "Warp & Sons"
        details = file.getexif().get_ifd(0x8769)
        if kind != "tiff":
            assert (details[0xA002], details[0xA003]) == photo.pixels.shape[1::-1]
        assert details[0x927C] == b"maker's own" * 9
        assert details[0x829A] == 0.5
        assert file.getexif().get_ifd(0x8825)[1] == "N"
        assert file.size == photo.pixels.shape[1::-1]


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("source", ["jpeg", "png", "tiff", "webp"])
@pytest.mark.parametrize("target", ["jpeg", "png", "tiff", "webp"])
def test_metadata_survive_from_any_format_to_any(
    tmp_path: Path, source: Any, target: Any, depth: Any
) -> None:
    metadata = Metadata(exif_block(1), ICC * 60, XMP, dpi=(300, 300))
    first = write_photo(tmp_path / f"a{SUFFIX[source]}", pixels(40, 64, 3, depth), source, metadata)
    photo = read_photo(first)
    second = tmp_path / f"b{SUFFIX[target]}"
    second.write_bytes(encode_photo(photo, photo.pixels, target, None)[0])
    kept = read_photo(second).metadata
    assert kept.icc == ICC * 60  # longer than one segment of a JPEG
    assert kept.xmp == XMP.replace(b'"6"', b'"1"')
    with Image.open(second) as file:
        assert file.getexif()[0x010F] == "Warp & Sons"
        assert file.getexif().get_ifd(0x8769)[0x927C] == b"maker's own" * 9
        assert file.info["icc_profile"] == ICC * 60
    if "webp" not in (source, target):
        assert kept.dpi == pytest.approx((300, 300), abs=0.1)


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_is_patched_in_place_and_loses_its_thumbnail(order: str) -> None:
    mark = {"<": b"II*\x00", ">": b"MM\x00*"}[order]
    entries = struct.pack(order + "HHIHH", 0x0112, 3, 1, 6, 0)
    entries += struct.pack(order + "HHII", 0x8769, 4, 1, 60)
    first = struct.pack(order + "H", 2) + entries + struct.pack(order + "I", 100)
    details = struct.pack(order + "H", 1) + struct.pack(order + "HHII", 0xA002, 4, 1, 9999)
    block = (mark + struct.pack(order + "I", 8) + first).ljust(60, b"\x00")
    block = (block + details).ljust(100, b"\x00") + b"the thumbnail and what points at it"
    patched, notes = updated(
        Metadata(exif=block), (50, 30), 1, np.zeros((30, 50, 3), np.uint8), UNCHANGED
    )
    assert notes == []
    changed = [at for at in range(len(block)) if block[at] != patched.exif[at]]
    assert set(changed) <= {18, 19, *range(34, 38), *range(70, 74)}
    exif = Image.Exif()
    exif.load(b"Exif\0\0" + patched.exif)
    assert exif[0x0112] == 1
    assert exif.get_ifd(0x8769)[0xA002] == 50
    assert exif.get_ifd(1) == {}


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_only_alpha_is_taken_for_alpha(tmp_path: Path, depth: Any) -> None:
    picture = pixels(40, 61, 4, depth)
    data = write_photo(tmp_path / "x.tif", picture, "tiff").read_bytes()
    entry = struct.pack("<HHIHH", 338, 3, 1, 2, 0)
    assert data.count(entry) == 1
    for kind in (0, 1):
        (tmp_path / "x.tif").write_bytes(
            data.replace(entry, struct.pack("<HHIHH", 338, 3, 1, kind, 0))
        )
        if kind == 0:
            photo = read_photo(tmp_path / "x.tif")
            assert np.array_equal(photo.pixels, picture[..., :3])
            assert "neither colour nor transparency" in photo.warnings[0]
        else:  # premultiplied: colours are divided by their alpha, as far as they are known
            back, most = read_photo(tmp_path / "x.tif").pixels.astype(float), np.iinfo(depth).max
            clear = picture[..., 3:] == 0
            whole = picture[..., :3] * (most / np.maximum(picture[..., 3:], 1))
            assert np.array_equal(back[..., 3], picture[..., 3])
            expected = np.where(clear, 0, whole).clip(0, most)
            assert np.abs(back[..., :3] - expected).max() < 0.5 + 1e-9


def test_damaged_exif_is_left_out_and_said(tmp_path: Path) -> None:
    for block in (b"II*\x00\xff\xff\xff\x7f", b"XX", b"MM\x00*\x00\x00\x00\x08\x00\xff"):
        kept, notes = updated(
            Metadata(exif=block), (10, 10), 1, np.zeros((10, 10, 3), np.uint8), UNCHANGED
        )
        assert kept.exif == b""
        assert "EXIF" in notes[0]
    path = tmp_path / "x.jpg"
    Image.fromarray(textured(32, 48)).save(path, exif=b"Exif\x00\x00II*\x00\xff\xff\xff\x7f")
    assert read_photo(path).pixels.shape == (32, 48, 3)


def test_captions_and_comments_of_a_jpeg_survive(tmp_path: Path) -> None:
    block = b"8BIM\x04\x04\x00\x00\x00\x00\x00\x08\x1c\x02\x05\x00\x03Sea"
    metadata = Metadata(photoshop=block, comment=b"by hand")
    photo = read_photo(write_photo(tmp_path / "x.jpg", pixels(32, 48, 3), "jpeg", metadata))
    assert photo.metadata.photoshop == block
    assert photo.metadata.comment == b"by hand"
    tiff = tmp_path / "x.tif"
    tiff.write_bytes(encode_photo(photo, photo.pixels, "tiff", None)[0])
    assert read_photo(tiff).metadata.photoshop == block
    _, lost = encode_photo(photo, photo.pixels, "png", None)
    assert lost == []


def test_colour_chunks_and_texts_of_a_png_survive(tmp_path: Path) -> None:
    chunks = ((b"gAMA", b"\x00\x00\xb1\x8f"), (b"tEXt", b"Title\x00Sea"))
    path = write_photo(tmp_path / "x.png", pixels(32, 48, 3), "png", Metadata(png_chunks=chunks))
    assert read_photo(path).metadata.png_chunks == chunks
    with Image.open(path) as file:
        assert file.info["gamma"] == pytest.approx(1 / 2.2, abs=1e-3)
        assert file.info["Title"] == "Sea"


@pytest.mark.parametrize("sampling", [0, 1, 2])
@pytest.mark.parametrize("quality", [60, 92])
def test_a_jpeg_keeps_its_tables_unless_a_quality_is_asked(
    tmp_path: Path, quality: int, sampling: int
) -> None:
    path = tmp_path / "x.jpg"
    Image.fromarray(textured(64, 80)).save(
        path, quality=quality, subsampling=sampling, progressive=True
    )
    photo = read_photo(path)
    assert np.array_equal(photo.pixels, np.asarray(Image.open(path)))
    kept = Image.open(io.BytesIO(encode_photo(photo, photo.pixels, "jpeg", None)[0]))
    with Image.open(path) as file:
        assert kept.quantization == file.quantization  # type: ignore[attr-defined]
        assert kept.layer == file.layer  # type: ignore[attr-defined]
    assert kept.info["progressive"]
    worse, _ = encode_photo(photo, photo.pixels, "jpeg", 20)
    assert len(worse) < path.stat().st_size


@pytest.mark.parametrize("lossless", [True, False])
def test_a_webp_stays_as_lossless_as_it_was(tmp_path: Path, lossless: bool) -> None:
    path = tmp_path / "x.webp"
    noise = np.random.default_rng(0).integers(0, 255, (64, 80, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path, lossless=lossless, icc_profile=ICC * 9)
    photo = read_photo(path)
    again = Image.open(io.BytesIO(encode_photo(photo, photo.pixels, "webp", None)[0]))
    assert np.array_equal(np.asarray(again), photo.pixels) == lossless
    Image.fromarray(noise).save(tmp_path / "x.jpg")
    jpeg = read_photo(tmp_path / "x.jpg")
    lossy = Image.open(io.BytesIO(encode_photo(jpeg, jpeg.pixels, "webp", None)[0]))
    assert not np.array_equal(np.asarray(lossy), jpeg.pixels)


def test_what_a_format_cannot_hold_is_said(tmp_path: Path) -> None:
    deep = PhotoFile(pixels(32, 48, 4, np.uint16), "png", Metadata())
    data, lost = encode_photo(deep, deep.pixels, "jpeg", None)
    assert [line.split(" ")[0] for line in lost] == ["16", "JPEG"]
    assert Image.open(io.BytesIO(data)).mode == "RGB"
    wide = PhotoFile(np.zeros((16, 16384, 3), np.uint8), "png", Metadata())
    with pytest.raises(ValueError, match="WEBP files hold at most 16383 px"):
        encode_photo(wide, wide.pixels, "webp", None)


def test_cmyk_is_converted_by_its_profile_or_said_to_be_rough(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    Image.fromarray(textured(32, 48)).convert("CMYK").save(path, quality=95)
    photo = read_photo(path)
    assert photo.pixels.shape == (32, 48, 3)
    assert "CMYK" in photo.warnings[0]
    assert np.abs(photo.pixels.astype(int) - textured(32, 48)).mean() < 12
    Image.fromarray(textured(32, 48)).convert("CMYK").save(path, icc_profile=ICC)
    with pytest.raises(WarpTrainError, match=r"x\.jpg: its CMYK colour profile"):
        read_photo(path)


def test_other_kinds_become_what_can_be_corrected(tmp_path: Path) -> None:
    picture = Image.fromarray(textured(32, 48))
    kinds = {
        "palette.png": (picture.quantize(), 3),
        "bits.png": (picture.convert("1"), 1),
        "bits.tif": (picture.convert("1"), 1),
        "palette.tif": (picture.quantize(), 3),
        "palette.bmp": (picture.quantize(), 3),
    }
    for name, (image, channels) in kinds.items():
        image.save(tmp_path / name)
        photo = read_photo(tmp_path / name)
        assert photo.pixels.shape == (32, 48, channels)
        same = np.asarray(image.convert("RGB" if channels == 3 else "L"))
        assert np.array_equal(photo.pixels.squeeze(), same)
    picture.quantize().save(tmp_path / "clear.png", transparency=0)
    assert read_photo(tmp_path / "clear.png").pixels.shape[2] == 4
    picture.save(tmp_path / "clear.png", transparency=(0, 0, 0))
    assert read_photo(tmp_path / "clear.png").pixels.shape[2] == 4


def test_a_model_sees_every_kind_as_eight_bits_of_rgb_over_white() -> None:
    for depth in (np.uint8, np.uint16):
        for channels in (1, 2, 3, 4):
            view = predictor_view(pixels(32, 48, channels, depth))
            assert view.shape == (32, 48, 3)
            assert view.dtype == np.uint8
            if channels in (2, 4):
                assert (view[:, 0] == 255).all()
    sixteen = pixels(300, 48, 3, np.uint16)
    assert np.abs(predictor_view(sixteen) - sixteen / 257).max() <= 0.5
