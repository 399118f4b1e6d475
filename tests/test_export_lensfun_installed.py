"""What an export to lensfun adds to lensfun's own database takes nothing away from it."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import lensfunpy
import pytest
from data_helpers import textured
from export_helpers import BARREL, camera_tags, photo_of, photo_with
from PIL import Image as Pillow

from warp_train.export.lensfun import LensfunExport, lensfun_database
from warp_train.export.lensfun_installed import own_mount
from warp_train.export.photo_lens import PhotoLens
from warp_train.photos.camera_exif import NoCamera, read_camera
from warp_train.photos.lens_names import LensSpec

# Makers' notes of an EOS 350D and a D70, made by exiv2 (CanonCs.Lens 18-55, Nikon3.Lens 18-70).
CANON_NOTE = (
    "4578696600004d4d002a000000080003010f00020000000600000032011000020000001700000038876900040000"
    "0001000000500000000043616e6f6e0043616e6f6e20454f532033353044204449474954414c00000002920a000c"
    "000000010000006e927c000700000046000000760000000040320000000000000001000100030000001a00000088"
    "00000000003400000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "00000000003700120001"
)
NIKON_NOTE = (
    "4578696600004d4d002a000000080003010f00020000001200000032011000020000000a000000448769000400000001"
    "0000004e000000004e494b4f4e20434f52504f524154494f4e004e494b4f4e20443730000002920a000c000000010000"
    "006c927c000700000044000000740000000040320000000000004e696b6f6e00021000004d4d002a0000000800010084"
    "0005000000040000001a00000000000000b40000000a000002bc0000000a000000230000000a0000002d0000000a"
)
OLD = [
    ("Canon", "Canon EOS 350D DIGITAL"),
    ("NIKON CORPORATION", "NIKON D70"),
    ("Nikon", "NIKON D70"),
    ("PENTAX Corporation", "PENTAX K10D"),
    ("OLYMPUS IMAGING CORP.", "E-510"),
]


def unnamed(maker: str, camera: str, **changes: Any) -> PhotoLens:
    about: dict[str, Any] = {"lens_maker": maker, "lens": "", "crop_factor": None, **changes}
    return photo_of(BARREL, maker=maker, camera=camera, **about)


def lenses_of(database: Any, maker: str, camera: str) -> dict[str, tuple[int, int]]:
    """Number of calibrations (colour fringes, vignetting) of each lens that fits the camera."""
    maker = "NIKON CORPORATION" if maker == "Nikon" else maker
    (body,) = database.find_cameras(maker, camera)
    return {
        f"{lens.maker} {lens.model} {lens.crop_factor:.2f} {lens.min_focal}": (
            len(lens.calib_tca),
            len(lens.calib_vignetting),
        )
        for lens in database.find_lenses(body, loose_search=True)
    }


def nothing_is_taken(made: LensfunExport, maker: str, camera: str) -> int:
    """Loads the export over the official database; returns how many lenses the camera gains."""
    assert made.xml is not None
    before = lenses_of(lensfunpy.Database(load_common=False), maker, camera)
    merged = lensfunpy.Database(xml=made.xml, load_common=False)
    after = lenses_of(merged, maker, camera)
    assert before.items() <= after.items()
    return len(after) - len(before)


@pytest.mark.parametrize(("maker", "camera"), OLD)
def test_a_body_that_names_no_lens_keeps_its_mount(maker: str, camera: str) -> None:
    made = lensfun_database([unnamed(maker, camera)])
    assert made.xml is None
    ((_, reason),) = made.left_out
    assert reason == (
        f"its EXIF identifies no lens, and {camera} takes several: give the name of the lens"
    )
    # The range of the lens is enough: it is written for the real mount, and no camera is.
    made = lensfun_database([unnamed(maker, camera, lens_spec=LensSpec(18, 55, (3.5, 5.6)))])
    assert made.left_out == ()
    assert "<camera>" not in (made.xml or "")
    assert nothing_is_taken(made, maker, camera) == 1


@pytest.mark.parametrize("maker", ["Canon", "NIKON CORPORATION"])
def test_lensfun_finds_the_lens_of_an_old_body_by_its_name(maker: str) -> None:
    camera, other = dict(OLD)[maker], {"Canon": "NIKON D70"}.get(maker, "Canon EOS 350D DIGITAL")
    spec = LensSpec(18, 70, (3.5, 4.5))
    made = lensfun_database([unnamed(maker, camera, lens_spec=spec, focal=18.0)])
    database = lensfunpy.Database(xml=made.xml, load_common=False)
    (body,) = database.find_cameras(maker, camera)
    best = database.find_lenses(body, maker, "18-70mm f/3.5-4.5")[0]
    assert best.model == "18-70mm f/3.5-4.5"
    assert best.crop_factor == pytest.approx(body.crop_factor, abs=0.01)  # the EXIF has none
    (stranger,) = database.find_cameras({"Canon": "NIKON CORPORATION"}.get(maker, "Canon"), other)
    found = database.find_lenses(stranger, loose_search=True)
    assert "18-70mm f/3.5-4.5" not in [lens.model for lens in found if lens.maker == maker]


@pytest.mark.parametrize(
    ("block", "lens"), [(CANON_NOTE, "18-55mm"), (NIKON_NOTE, "18-70mm f/3.5-4.5")]
)
@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_the_makers_note_identifies_the_lens(
    block: str, lens: str, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"p.{suffix}"
    Pillow.fromarray(textured(64, 96)).save(path, exif=bytes.fromhex(block))
    camera = read_camera(path)
    assert camera.lens_spec is not None
    assert camera.lens_spec.name == lens
    made = lensfun_database([PhotoLens(path, 64, 96, BARREL, camera)])
    assert f"<model>{lens}</model>" in (made.xml or "")
    assert nothing_is_taken(made, camera.maker, camera.camera) == 1


def test_damaged_notes_are_no_lens(tmp_path: Path) -> None:
    for block in map(bytes.fromhex, (CANON_NOTE, NIKON_NOTE)):
        for end in range(110, len(block), 7):
            path = tmp_path / "p.jpg"
            Pillow.fromarray(textured(64, 96)).save(path, exif=block[:end])
            with suppress(NoCamera):
                assert read_camera(path).lens_spec is None


def test_a_fixed_lens_goes_to_the_mount_that_lensfun_has_for_it() -> None:
    maker, camera = "SONY", "DSC-RX100"
    made = lensfun_database([unnamed(maker, camera, crop_factor=2.73, focal=10.4)])
    assert "<camera>" not in (made.xml or "")
    assert nothing_is_taken(made, maker, camera) == 1
    assert made.notes == (
        "lensfun has DSC-RX100 already: the new entry is called DSC-RX100 & compatibles (Standard) "
        "(warp_train)",
    )


@pytest.mark.parametrize(
    "lens", ["Canon EF-S 18-55mm f/3.5-5.6 IS", "canon ef-s 18-55MM f/3.5-5.6 is"]
)
def test_a_lens_that_lensfun_has_is_not_replaced(lens: str) -> None:
    camera = "Canon EOS 350D DIGITAL"
    about: dict[str, Any] = {"camera": camera, "lens_maker": "Canon", "crop_factor": 1.622}
    photos = [photo_of(BARREL, lens=lens, focal=focal, **about) for focal in (18.0, 55.0)]
    made = lensfun_database(photos)
    assert nothing_is_taken(made, "Canon", camera) == 1
    assert made.notes == (
        f"lensfun has {lens} already: the new entry is called {lens} (warp_train)",
    )


def test_each_camera_gets_the_entry_of_its_frame() -> None:
    weak = (*(0.3 * k for k in BARREL[:3]), *BARREL[3:])  # the middle of the lens
    photos = [
        photo_of(BARREL),
        photo_of(weak, crop_factor=1.6),
        photo_of(BARREL, crop_factor=1.01),
        photo_of(weak, crop_factor=1.6),
    ]
    made = lensfun_database(photos)
    assert (made.photos, made.lenses) == (4, 2)
    database = lensfunpy.Database(xml=made.xml, load_common=False)
    for camera, crops in {"Canon EOS 5D": [1.005], "Canon EOS 400D DIGITAL": [1.6, 1.005]}.items():
        (body,) = database.find_cameras("Canon", camera)
        found = database.find_lenses(body, "Acme", photos[0].camera.lens)
        assert [lens.crop_factor for lens in found] == pytest.approx(crops)


def test_a_new_camera_is_written_only_where_its_lens_is_certainly_fixed() -> None:
    small = unnamed("Acme", "Acme X-1", crop_factor=2.7)
    made = lensfun_database([small])
    assert made.xml is not None
    assert f"<mount>{own_mount('Acme X-1')}</mount>" in made.xml
    large = lensfun_database([unnamed("Acme", "Acme X-2", crop_factor=1.5)])
    assert large.xml is None
    assert "lensfun does not have Acme X-2, which may take several" in large.left_out[0][1]


def test_a_second_export_finds_its_own_camera(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """lensfun reads the first export; the second one replaces its file, with the camera in it."""
    photo = unnamed("Acme", "Acme X-1", crop_factor=2.7)
    first = lensfun_database([photo]).xml
    assert first is not None
    plain = lensfunpy.Database

    def database(load_bundled: bool = True, load_common: bool = True) -> Any:
        return plain(
            xml=first if load_common else None, load_bundled=load_bundled, load_common=False
        )

    monkeypatch.setattr(lensfunpy, "Database", database)
    assert lensfun_database([photo]).xml == first


def test_without_lensfunpy_no_camera_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    old, named = unnamed(*OLD[0]), photo_of(BARREL, camera="Canon EOS 350D DIGITAL")
    tagged = photo_of(
        BARREL, lens="Canon EF-S 18-55mm f/3.5-5.6 IS", lens_maker="Canon", focal=18.0
    )
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "lensfunpy", None)
        made = lensfun_database([old, unnamed("Acme", "Acme X-1", crop_factor=2.7), named, tagged])
    assert made.xml is not None
    assert "<camera>" not in made.xml
    assert [why.partition(":")[0] for _, why in made.left_out] == [
        "its EXIF identifies no lens, and Canon EOS 350D DIGITAL may take several",
        "its EXIF identifies no lens, and Acme X-1 may take several",
    ]
    assert all("install warp_train[lensfun]" in why for _, why in made.left_out)
    assert nothing_is_taken(made, "Canon", "Canon EOS 5D Mark II") == 2
    database = lensfunpy.Database(xml=made.xml, load_common=False)
    (body,) = database.find_cameras("Canon", "Canon EOS 5D Mark II")
    best = database.find_lenses(body, "Acme", named.camera.lens)[0]
    assert best.model == f"{named.camera.lens} (warp_train)"


def test_a_mount_that_is_given_decides_whether_the_lens_is_fixed() -> None:
    fixed = lensfun_database([unnamed("Acme", "Acme X-9", crop_factor=1.5)], mount="acmeX9")
    assert "<mount>acmeX9</mount>" in (fixed.xml or "")
    assert "<camera>" not in (fixed.xml or "")
    several = lensfun_database([unnamed(*OLD[0])], mount="Canon EF")
    assert several.xml is None
    assert "the mount Canon EF takes several" in several.left_out[0][1]


@pytest.mark.parametrize("name", ["Voigtländer Nokton 35mm – Ünikat", "日本光学 50mm f/1.4"])
def test_names_in_utf_8_reach_lensfun(name: str, tmp_path: Path) -> None:
    tags = {"LensModel": name.encode(), "FocalLengthIn35mmFilm": 27}
    photo = photo_with(tmp_path / "p.jpg", lambda exif: camera_tags(exif, **tags))
    camera = read_camera(photo)
    assert camera.lens == name
    made = lensfun_database([PhotoLens(photo, 64, 96, BARREL, camera)])
    (tmp_path / "lens.xml").write_bytes((made.xml or "").encode())
    database = lensfunpy.Database(
        paths=[str(tmp_path / "lens.xml")], load_common=False, load_bundled=False
    )
    assert [lens.model for lens in database.lenses] == [name]
