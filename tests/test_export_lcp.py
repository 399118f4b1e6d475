"""`export --to lcp`: Adobe's published model with the written numbers corrects as the lens does."""

import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_helpers import textured
from numpy.typing import NDArray
from PIL import ExifTags, ImageOps
from PIL import Image as Pillow

from warp_train.cli import main
from warp_train.export.lcp import lens_profiles
from warp_train.export.photo_lens import PhotoLens
from warp_train.geometry import apply_lens
from warp_train.models import HybridModel, TrainedOn, save_pretrained
from warp_train.photos.camera_exif import CameraExif, read_camera
from warp_train.photos.lens_names import LensSpec

Lens = tuple[float, ...]
Points = NDArray[np.float64]

RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
ST_CAMERA = "{http://ns.adobe.com/photoshop/1.0/camera-profile}"
ENTRIES = (
    f"{RDF}RDF/{RDF}Description/{{http://ns.adobe.com/photoshop/1.0/}}CameraProfiles/"
    f"{RDF}Seq/{RDF}li/{RDF}Description"
)
MODEL = f"{ST_CAMERA}PerspectiveModel/{RDF}Description"
CAMERA = CameraExif("Canon", "Canon EOS 5D Mark II", "Canon", "EF24-70mm f/2.8L USM", 24.0, 1.005)
REAL: dict[str, Lens] = {
    "barrel": (-0.115, 0.045, -0.011, 0.0, 0.0, 0.0, 0.0, 0.955),
    "pincushion": (0.05, -0.012, 0.002, 0.0, 0.0, 0.0, 0.0, 1.04),
    "moustache": (-0.12, 0.11, -0.03, 0.0, 0.0, 0.0, 0.0, 0.98),
    "off-centre": (-0.115, 0.045, -0.011, 0.0, 0.0, 0.05, -0.03, 1.1),
    "tangential": (0.0, 0.0, 0.0, 0.004, -0.003, 0.0, 0.0, 1.0),
    "everything": (-0.12, 0.11, -0.03, 0.002, -0.0015, 0.03, -0.02, 0.95),
    "none": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0),
}


def photo_of(params: Lens, height: int = 2000, width: int = 3000, **changes: Any) -> PhotoLens:
    camera = CameraExif(**{**vars(CAMERA), **changes})
    return PhotoLens(Path("photo.jpg"), height, width, params, camera)


def entries(photos: Sequence[PhotoLens]) -> list[tuple[dict[str, str], dict[str, float]]]:
    """The entries of the only profile: (camera and setting, model), without the namespace."""
    (profile,) = lens_profiles(photos).profiles
    return read_entries(profile.xml)


def read_entries(xml: str) -> list[tuple[dict[str, str], dict[str, float]]]:
    found = []
    for entry in ET.fromstring(xml).findall(ENTRIES):
        model = entry.find(MODEL)
        assert model is not None
        about, terms = (
            {name.removeprefix(ST_CAMERA): value for name, value in element.attrib.items()}
            for element in (entry, model)
        )
        found.append((about, {name: float(value) for name, value in terms.items()}))
    return found


def adobe_reads(model: dict[str, float], corrected: Points, height: int, width: int) -> Points:
    """Where Adobe's model reads corrected points, both (x, y) in px. From the formulas of the
    report "Adobe Camera Model" (2010), as printed, with the y component's `k4 r²`."""
    long = max(height, width)
    u0, v0 = model["ImageXCenter"] * width, model["ImageYCenter"] * height
    x = (corrected[:, 0] - u0) / (model["FocalLengthX"] * long)
    y = (corrected[:, 1] - v0) / (model["FocalLengthY"] * long)
    k1, k2, k3 = (model[f"RadialDistortParam{n}"] for n in (1, 2, 3))
    k4, k5 = (model[f"TangentialDistortParam{n}"] for n in (1, 2))
    r = np.sqrt(x**2 + y**2)
    radial = 1 + k1 * r**2 + k2 * r**4 + k3 * r**6
    xd = radial * x + 2 * (k4 * y + k5 * x) * x + k5 * r**2
    yd = radial * y + 2 * (k4 * y + k5 * x) * y + k4 * r**2
    return np.stack(
        [xd * model["FocalLengthX"] * long + u0, yd * model["FocalLengthY"] * long + v0], axis=-1
    )


def lens_reads(params: Lens, corrected: Points, height: int, width: int) -> Points:
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    points = torch.from_numpy((corrected - middle) / middle)[None]
    lens = torch.tensor([params], dtype=torch.float64)
    read: Points = apply_lens(points, lens, height, width)[0].numpy() * middle + middle
    return read


def frame(height: int, width: int, each: int = 25) -> Points:
    """Points of a frame, with its corners."""
    return np.stack(
        np.meshgrid(np.linspace(0, width - 1, each), np.linspace(0, height - 1, each)), -1
    ).reshape(-1, 2)


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("size", [(2000, 3000), (1501, 1001), (1000, 1000), (300, 2000)])
def test_adobes_model_corrects_as_the_lens_does(name: str, size: tuple[int, int]) -> None:
    """At the zoom 1: `rectify`'s picture, magnified 1/s times about the lens's centre."""
    params, (height, width) = REAL[name], size
    ((_, model),) = entries([photo_of(params, height, width)])
    points = frame(height, width)
    *_, dcx, dcy, s = params
    half = math.hypot(width - 1, height - 1) / 2
    centre = np.array([(width - 1) / 2 + dcx * half, (height - 1) / 2 + dcy * half])
    ours = lens_reads(params, points, height, width)
    theirs = adobe_reads(model, centre + (points - centre) / s, height, width)
    assert np.abs(ours - theirs).max() < 1e-4


@pytest.mark.parametrize("name", ["everything", "barrel"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_is_turned_back_to_the_files_pixels(
    name: str, orientation: int, tmp_path: Path
) -> None:
    """Pillow turns a picture of coordinates upright, and so shows which pixel comes from where."""
    height, width = 40, 60
    y, x = np.mgrid[0:height, 0:width]
    exif = Pillow.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = "Acme", "X"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLength] = 24.0
    path = tmp_path / "coordinates.png"
    Pillow.fromarray(np.stack([x, y, 0 * x], axis=-1).astype(np.uint8)).save(path, exif=exif)
    with Pillow.open(path) as file:
        upright = np.asarray(ImageOps.exif_transpose(file))[..., :2].astype(float)
    camera = read_camera(path)
    assert camera.orientation == orientation
    params = (*REAL[name][:7], 1.0)
    upright_height, upright_width = upright.shape[:2]
    ((about, model),) = entries([PhotoLens(path, upright_height, upright_width, params, camera)])
    assert (about["ImageWidth"], about["ImageLength"]) == ("60", "40")

    def stored(points: Points) -> Points:  # affine, as the turn is
        corner = upright[0, 0]
        turned: Points = corner + points @ np.stack([upright[0, 1], upright[1, 0]] - corner)
        return turned

    points = frame(upright_height, upright_width)
    ours = stored(lens_reads(params, points, upright_height, upright_width))
    assert np.abs(adobe_reads(model, stored(points), height, width) - ours).max() < 1e-6


def test_a_photo_that_a_program_rotated_contributes_its_curve_only() -> None:
    sensor = photo_of(REAL["everything"])
    rotated = photo_of((-0.11, 0.1, -0.03, *REAL["barrel"][3:]), 3000, 2000)
    ((_, alone),) = entries([sensor])
    ((about, both),) = entries([sensor, rotated])
    vectors = ("ImageXCenter", "ImageYCenter", "TangentialDistortParam1", "TangentialDistortParam2")
    assert (about["ImageWidth"], about["ImageLength"]) == ("3000", "2000")
    assert [both[name] for name in vectors] == [alone[name] for name in vectors]
    assert both["RadialDistortParam1"] != alone["RadialDistortParam1"]


def test_the_zoom_of_photos_has_no_part_in_their_lens() -> None:
    """The median is of curves, not of terms; wrong photos do not count."""
    rng = np.random.default_rng(0)
    barrel = REAL["barrel"][:7]
    photos = [photo_of((*barrel, s)) for s in (0.9, 0.955, 1.0, 1.03)]
    ((_, model),) = entries(photos)
    terms = [model[f"RadialDistortParam{n}"] for n in (1, 2, 3)]
    assert terms == pytest.approx(barrel[:3], abs=1e-6)
    noisy = [
        photo_of(tuple(np.add((*barrel, 1.0), [*rng.normal(0, 0.003, 3), *4 * [0], zoom])))
        for zoom in rng.normal(0, 0.03, 15)
    ]
    noisy.append(photo_of((-0.2, 0.09, -0.01, 0.0, 0.0, 0.2, 0.2, 1.0)))
    ((_, model),) = entries(noisy)
    points = frame(2000, 3000)
    away = adobe_reads(model, points, 2000, 3000) - lens_reads((*barrel, 1.0), points, 2000, 3000)
    assert np.linalg.norm(away, axis=1).mean() < 2.5  # of 116 px at the corner; 3 px if averaged


def test_many_focal_lengths_are_in_one_file() -> None:
    spec = LensSpec(24.0, 70.0, (2.8, 2.8))
    photos = [
        photo_of(REAL["pincushion"], focal=70.0, lens_spec=spec),
        photo_of(REAL["barrel"], lens_spec=spec, f_number=8.0),
        photo_of(REAL["barrel"], lens_spec=spec, f_number=4.0),
    ]
    (wide, about_wide), (tele, about_tele) = ((model, about) for about, model in entries(photos))
    assert about_wide == {
        "Author": "warp_train",
        "Make": "Canon",
        "Model": "Canon EOS 5D Mark II",
        "UniqueCameraModel": "Canon EOS 5D Mark II",
        "CameraRawProfile": "False",
        "Lens": "EF24-70mm f/2.8L USM",
        "LensInfo": "24/1 70/1 14/5 14/5",
        "CameraPrettyName": "Canon EOS 5D Mark II",
        "LensPrettyName": "EF24-70mm f/2.8L USM",
        "ProfileName": "Canon EOS 5D Mark II (EF24-70mm f/2.8L USM)",
        "SensorFormatFactor": "1.005",
        "ImageWidth": "3000",
        "ImageLength": "2000",
        "FocalLength": "24",
        "FocusDistance": "10000",
        "ApertureValue": f"{2 * math.log2(6):.6f}",
    }
    assert about_tele["FocalLength"] == "70"
    assert "ApertureValue" not in about_tele
    assert wide["FocalLengthX"] == tele["FocalLengthX"]
    assert wide["RadialDistortParam1"] == pytest.approx(-0.115, abs=1e-6)
    assert tele["RadialDistortParam1"] == pytest.approx(0.05, abs=1e-6)


def test_what_an_entry_tells_of_its_photos() -> None:
    (profile,) = lens_profiles([photo_of(REAL["barrel"])] * 3).profiles
    (line,) = (text.strip() for text in profile.xml.splitlines() if "<!--" in text)
    assert line == (
        "<!-- 24 mm: 3 photos; distortion at the corner -8.10 %, spread 0.00 % (standard deviation "
        "over the photos); zoom s = 0.955, which the reading program chooses -->"
    )


def test_a_lens_without_radial_terms_is_not_passed_over() -> None:
    """RawTherapee ignores entries whose three radial terms are zero."""
    ((_, model),) = entries([photo_of(REAL["tangential"])])
    assert 0 < model["RadialDistortParam1"] < 1e-8


def test_a_profile_for_each_camera_lens_and_frame() -> None:
    photos = [
        photo_of(REAL["barrel"]),
        photo_of(REAL["barrel"], crop_factor=1.6),
        photo_of(REAL["barrel"], camera="Canon EOS R5"),
        photo_of(REAL["barrel"], lens="", maker="<Böse & Co>", camera="X/1"),
    ]
    made = lens_profiles(photos)
    assert not made.left_out
    assert [profile.name for profile in made.profiles] == [
        "Canon EOS 5D Mark II (EF24-70mm f2.8L USM).lcp",
        "Canon EOS 5D Mark II (EF24-70mm f2.8L USM) crop 1.6.lcp",
        "Canon EOS R5 (EF24-70mm f2.8L USM).lcp",
        "X1 (X1 lens).lcp",
    ]
    ((about, _),) = read_entries(made.profiles[3].xml)
    assert about["UniqueCameraModel"] == "<Böse & Co> X/1"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    trained = TrainedOn(stage="stage1_param_only", size=(64, 96))
    network = HybridModel(residual_enabled=False, trained_on=trained)
    with torch.no_grad():
        network.parametric_head.mixing.copy_(torch.eye(8))
        network.parametric_head.votes.bias[0] = -0.15  # type: ignore[index]
    folder = tmp_path_factory.mktemp("model")
    save_pretrained(network, folder)
    return folder


def save_photo(path: Path, focal: float = 24.0, camera: str = "X-1") -> Path:
    exif = Pillow.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = "Acme", camera
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLength] = focal
    Pillow.fromarray(textured(64, 96)).save(path, exif=exif)
    return path


def test_the_command_writes_a_file_or_to_standard_output(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = [save_photo(tmp_path / f"{focal}.jpg", focal) for focal in (24.0, 50.0)]
    without = tmp_path / "without.png"
    Pillow.fromarray(textured(64, 96)).save(without)
    out = tmp_path / "lens.lcp"
    arguments = ["export", str(model), *map(str, [*photos, without]), "--to", "lcp"]
    arguments += ["--crop-factor", "1.5", "--lens", "Acme 24-50mm"]
    assert main([*arguments, "--out", str(out)]) == 0
    printed, said = capsys.readouterr()
    assert printed == ""
    assert said.splitlines() == [
        f"warp-train: {without}: left out: no EXIF",
        "warp-train: 2 photos in 1 profile, 1 left out, 0 not readable",
    ]
    read = read_entries(out.read_text(encoding="utf-8"))
    assert [about["FocalLength"] for about, _ in read] == ["24", "50"]
    assert {about["SensorFormatFactor"] for about, _ in read} == {"1.5"}
    assert {about["Lens"] for about, _ in read} == {"Acme 24-50mm"}
    assert main(arguments) == 0
    assert capsys.readouterr().out == out.read_text(encoding="utf-8")
    assert main(["export", str(model), str(without), "--to", "lcp"]) == 1
    assert "no photo is left to make a lens profile from" in capsys.readouterr().err


def test_several_lenses_need_a_folder(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = [save_photo(tmp_path / f"{name}.jpg", camera=name) for name in ("X-1", "X-2")]
    arguments = ["export", str(model), *map(str, photos), "--to", "lcp"]
    for out in ([], ["--out", str(tmp_path / "lens.lcp")]):
        assert main([*arguments, *out]) == 1
        said = capsys.readouterr().err
        assert "the photos have 2 (X-1 (its lens), X-2 (its lens)): name a folder" in said
        assert not (tmp_path / "lens.lcp").exists()
    folder = tmp_path / "profiles"
    for _ in range(2):  # a new folder, and one that exists
        assert main([*arguments, "--out", str(folder)]) == 0
        names = ["X-1 (X-1 lens).lcp", "X-2 (X-2 lens).lcp"]
        assert sorted(path.name for path in folder.iterdir()) == names
        said = capsys.readouterr().err
        assert f"{folder / names[0]}: 1 photo" in said


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--mount", "Sony E"], 2, "--mount goes with --to lensfun"),
        (["--out", "nowhere/x.lcp"], 1, "there is no folder nowhere"),
        (["--out", "nowhere/profiles"], 1, "there is no folder nowhere"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        found = main(["export", "model", "photo.jpg", "--to", "lcp", *arguments])
    except SystemExit as stop:
        found = int(stop.code or 0)
    (line,) = capsys.readouterr().err.splitlines()
    assert found == code
    assert said in line
