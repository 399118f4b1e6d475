"""Photos that one lens entry can describe: of one lens and frame, without those that disagree."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export_helpers import BARREL, CAMERA, Lens, camera_tags, photo_of, photo_with

from warp_train.export.groups import LensGroup, grouped_photos
from warp_train.export.lensfun import lensfun_database
from warp_train.export.photo_lens import PhotoLens
from warp_train.photos.camera_exif import read_camera
from warp_train.photos.lens_names import LensSpec, is_lens_name

NONE: Lens = (0.0,) * 7 + (1.0,)
KIT, TELE = LensSpec(18, 55, (3.5, 5.6)), LensSpec(55, 200, (4, 5.6))


def bent(share: float) -> Lens:
    """A lens with that share of BARREL's distortion."""
    return (*(share * k for k in BARREL[:3]), *BARREL[3:])


def shot(index: int, params: Lens = BARREL, **changes: Any) -> PhotoLens:
    photo = photo_of(params, **changes)
    return PhotoLens(Path(f"{index}.jpg"), photo.height, photo.width, params, photo.camera)


def groups_of(photos: list[PhotoLens], **options: Any) -> list[LensGroup]:
    """The groups, if no photo is left out."""
    groups, left_out = grouped_photos(photos, **options)
    assert left_out == []
    assert sum(len(group.photos) for group in groups) == len(photos)
    return groups


@pytest.mark.parametrize(
    "name", ["", "EF-S", "DT", "----", "0.0 mm f/0.0", "DT 0mm F0 SAM", "65535"]
)
def test_a_placeholder_is_no_name(name: str, tmp_path: Path) -> None:
    assert not is_lens_name(name)
    photo = photo_with(tmp_path / "p.jpg", lambda exif: camera_tags(exif, LensModel=name))
    assert read_camera(photo).lens == ""


@pytest.mark.parametrize(
    "name", ["EF50mm f/1.8 II", "E 3.5-5.6/PZ 16-50 OSS", "Lensbaby", "iPhone 5 back camera 4.12mm"]
)
def test_a_name_is_a_name(name: str) -> None:
    assert is_lens_name(name)


@pytest.mark.parametrize(
    ("numbers", "name"),
    [
        ((18.0, 55.0, 3.5, 5.6), "18-55mm f/3.5-5.6"),
        ((50.0, 50.0, 1.8, 1.8), "50mm f/1.8"),
        ((4.25, 4.25, 1.8, 1.8), "4.25mm f/1.8"),
        ((70.0, 200.0, 0.0, 0.0), "70-200mm"),
        ((0.0, 0.0, 0.0, 0.0), ""),
    ],
)
def test_a_lens_without_a_name_is_called_by_its_range(
    numbers: tuple[float, ...], name: str, tmp_path: Path
) -> None:
    tags = {"LensModel": "----", "LensSpecification": numbers}
    photo = photo_with(tmp_path / "p.jpg", lambda exif: camera_tags(exif, **tags))
    camera = read_camera(photo)
    (group,) = groups_of([PhotoLens(photo, 64, 96, BARREL, camera)])
    assert group.lens == name


@pytest.mark.parametrize("lens", ["", "Sigma lens", "AF-S 18mm"])
def test_lenses_that_share_a_name_are_told_apart_by_their_range(lens: str) -> None:
    photos = [shot(0, lens=lens, lens_spec=KIT), shot(1, bent(0.1), lens=lens, lens_spec=TELE)]
    names = [group.lens for group in groups_of(photos)]
    assert names == [f"{lens} 18-55mm f/3.5-5.6".strip(), f"{lens} 55-200mm f/4-5.6".strip()]


def test_a_photo_without_the_range_belongs_to_the_only_lens_with_its_name() -> None:
    one, stripped = shot(0, lens_spec=KIT), shot(1)
    (group,) = groups_of([one, stripped])
    assert (group.lens, len(group.photos)) == (CAMERA.lens, 2)
    groups, left_out = grouped_photos([one, stripped, shot(2, lens_spec=TELE)])
    assert len(groups) == 2
    assert [path.name for path, _ in left_out] == ["1.jpg"]
    assert "lacks the focal range" in left_out[0][1]


def test_names_that_differ_in_case_are_one_lens() -> None:
    (group,) = groups_of([shot(0), shot(1, lens=CAMERA.lens.upper())])
    assert len(group.photos) == 2


def test_serial_numbers_are_no_difference(tmp_path: Path) -> None:
    photos = []
    for number in ("0001", "0002"):
        path = photo_with(
            tmp_path / f"{number}.jpg",
            lambda exif, number=number: camera_tags(exif, LensSerialNumber=number),  # type: ignore[misc]
        )
        photos.append(PhotoLens(path, 64, 96, BARREL, read_camera(path)))
    (group,) = groups_of(photos)
    assert len(group.photos) == 2


def test_crop_modes_are_groups_of_their_own() -> None:
    crops = (1.0, 1.0, 1.01, 1.52, 1.5, 1.54)
    photos = [shot(i, crop_factor=crop) for i, crop in enumerate(crops)]
    full, crop = groups_of(photos)
    assert (full.crop_factor, crop.crop_factor) == (1.0, 1.52)
    given, left_out = grouped_photos(photos, crop_factor=1.02)
    assert [group.crop_factor for group in given] == [1.02]
    assert [path.name for path, _ in left_out] == ["4.jpg", "3.jpg", "5.jpg"]
    assert left_out[0][1].startswith("its crop factor is 1.52, not 1.02")
    _, left_out = grouped_photos([*photos, shot(6, crop_factor=None)])
    assert [path.name for path, _ in left_out] == ["6.jpg"]


def test_a_crop_factor_that_is_given_replaces_a_wrong_one() -> None:
    (group,) = groups_of([shot(0, crop_factor=1.5), shot(1, crop_factor=None)], crop_factor=2.0)
    assert (group.crop_factor, len(group.photos)) == (2.0, 2)


def test_digital_zoom_is_left_out(tmp_path: Path) -> None:
    photos = []
    for zoom in (0.0, 1.0, 2.0):
        tags = {"DigitalZoomRatio": zoom, "FocalLengthIn35mmFilm": 27}
        path = photo_with(
            tmp_path / f"{zoom}.jpg",
            lambda exif, tags=tags: camera_tags(exif, **tags),  # type: ignore[misc]
        )
        photos.append(PhotoLens(path, 64, 96, BARREL, read_camera(path)))
    made = lensfun_database(photos)
    assert made.photos == 2
    assert [(path.name, why) for path, why in made.left_out] == [
        ("2.0.jpg", "it was taken with a digital zoom of 2")
    ]


@pytest.mark.parametrize("honest", [2, 3, 5])
def test_one_corrected_photo_does_not_weaken_the_lens(honest: int) -> None:
    photos = [shot(i, bent(1 + 0.03 * i)) for i in range(honest)]
    corrected = shot(honest, bent(0.03))
    groups, left_out = grouped_photos([*photos, corrected])
    assert [path for path, _ in left_out] == [corrected.path]
    assert "it may be corrected already" in left_out[0][1]
    assert groups[0].photos == tuple(photos)
    assert lensfun_database([*photos, corrected]).xml == lensfun_database(photos).xml


def test_two_photos_that_disagree_are_both_left_out() -> None:
    groups, left_out = grouped_photos([shot(0), shot(1, NONE), shot(2, focal=50.0)])
    assert [path.name for path, _ in left_out] == ["0.jpg", "1.jpg"]
    assert all("one of them may be corrected: add a third" in why for _, why in left_out)
    assert list(groups[0].by_focal) == [50.0]


def test_measurement_noise_is_no_disagreement() -> None:
    """Photos with a quarter of the lens as noise: hardly any is left out. Weak lenses agree."""
    rng = np.random.default_rng(0)
    lost = 0
    for trial in range(100):
        photos = [shot(i, bent(1 + 0.25 * rng.normal())) for i in range(2 + trial % 8)]
        lost += len(grouped_photos(photos)[1])
    assert lost < 0.03 * 550
    assert groups_of([shot(0, NONE), shot(1, bent(0.08)), shot(2, bent(-0.05))])


def test_cameras_are_separate_where_that_is_asked() -> None:
    photos = [shot(0), shot(1, camera="Canon EOS 6D")]
    assert [group.camera.camera for group in groups_of(photos)] == [CAMERA.camera, "Canon EOS 6D"]
    assert len(groups_of(photos, per_camera=False)) == 1
    unnamed = [shot(0, lens=""), shot(1, lens="", camera="Canon EOS 6D")]
    assert len(groups_of(unnamed, per_camera=False)) == 2
