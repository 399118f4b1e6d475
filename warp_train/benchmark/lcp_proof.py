"""Whether RawTherapee corrects with our lens profiles as `rectify` does.

    python -m warp_train.benchmark.lcp_proof [--keep FOLDER]

Draws photos of dots, writes the profile of a lens (`export --to lcp`), develops each photo with it
(`rawtherapee-cli`, Debian's `rawtherapee`; automatic filling off), and corrects it with the lens as
`rectify` does (crop `none`). Prints the largest distance between the dots of both pictures, over
the whole frame. Lens profiles have no zoom, so positions are compared at the zoom 1.

The last row is of a photo that EXIF turns. RawTherapee does not turn the lens of a JPEG or TIFF
with it: only lenses without a centre of their own and tangential terms agree.
"""

from __future__ import annotations

import argparse
import math
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags
from PIL import Image as Pillow
from PIL.TiffImagePlugin import IFDRational

from warp_train.export.lcp import lens_profiles
from warp_train.export.photo_lens import PhotoLens
from warp_train.inference.photo_warp import PhotoWarp
from warp_train.inference.straightener import correct
from warp_train.photos.camera_exif import read_camera
from warp_train.runtime.console import say
from warp_train.runtime.errors import WarpTrainError

Array = NDArray[np.floating[Any]]

_LENSES: dict[str, tuple[float, ...]] = {
    "barrel": (-0.115, 0.045, -0.011, 0.0, 0.0, 0.0, 0.0, 0.955),
    "pincushion": (0.05, -0.012, 0.002, 0.0, 0.0, 0.0, 0.0, 1.04),
    "moustache": (-0.12, 0.11, -0.03, 0.0, 0.0, 0.0, 0.0, 0.98),
    "off-centre": (-0.08, 0.02, 0.0, 0.0, 0.0, 0.03, -0.02, 0.97),
    "tangential": (0.0, 0.0, 0.0, 0.003, -0.002, 0.0, 0.0, 1.0),
    "everything": (-0.1, 0.06, -0.02, 0.002, -0.0015, 0.02, -0.015, 0.97),
}
_FRAMES = {
    "landscape.jpg": (1000, 1500, 1),
    "landscape.tif": (1001, 1501, 1),
    "portrait.jpg": (1500, 1000, 1),
    "portrait.tif": (1501, 1001, 1),
    "turned by EXIF.jpg": (1000, 1500, 6),
}
"""By file name: height, width and EXIF orientation of the pixels in the file."""
_SPACING, _DOT, _REACH, _ROUNDS = 40, 3.0, 9, 12
_SETTINGS = """\
[LensProfile]
LcMode=lcp
LCPFile={profile}
UseDistortion=true
UseVignette=false
UseCA=false
[Common Properties for Transformations]
AutoFill=false
"""


def main(arguments: list[str] | None = None) -> int:
    """Compares, and prints a table."""
    keep = _parser().parse_args(arguments).keep
    try:
        if shutil.which("rawtherapee-cli") is None:
            raise WarpTrainError("rawtherapee-cli is not installed")
        with tempfile.TemporaryDirectory() as temporary:
            _print_table(keep or Path(temporary))
    except WarpTrainError as error:
        say(f"error: {error}")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m warp_train.benchmark.lcp_proof",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--keep", metavar="FOLDER", type=Path, help="keep all files in this folder")
    return parser


def _print_table(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{'largest distance in px (mean)':30}" + "".join(f"{name:>20}" for name in _LENSES))
    for name, frame in _FRAMES.items():
        distances = [_distances(folder / name, *frame, lens) for lens in _LENSES.values()]
        cells = [f"{one.max():.3f} ({one.mean():.3f})" for one in distances]
        print(f"{name:30}" + "".join(f"{cell:>20}" for cell in cells), flush=True)


def _distances(
    photo: Path, height: int, width: int, orientation: int, lens: tuple[float, ...]
) -> Array:
    """The distance of each dot in RawTherapee's picture from that in ours, in px."""
    stored, dots = _draw(height, width)
    _save(photo, stored, orientation)
    upright = np.ascontiguousarray(np.rot90(stored, -1 if orientation == 6 else 0))
    if orientation == 6:
        dots = np.stack([height - 1 - dots[:, 1], dots[:, 0]], axis=1)
    height, width = upright.shape[:2]
    profile = photo.with_suffix(".lcp")
    taken = PhotoLens(photo, height, width, lens, read_camera(photo))
    profile.write_text(lens_profiles([taken]).profiles[0].xml, encoding="utf-8")
    theirs = _develop(photo, profile)
    warp = PhotoWarp(torch.tensor(lens, dtype=torch.float64))
    ours = correct(upright, warp, "none", "bicubic").pixels
    half = math.hypot(width - 1, height - 1) / 2
    centre = np.array([(width - 1) / 2 + lens[5] * half, (height - 1) / 2 + lens[6] * half])
    expected = _corrected(dots, warp, height, width)
    magnified = centre + (expected - centre) / lens[7]
    seen = _inside(expected, ours.shape) & _inside(magnified, theirs.shape)
    here = centre + (_located(ours, expected[seen]) - centre) / lens[7]
    distances: Array = np.linalg.norm(here - _located(theirs, magnified[seen]), axis=1)
    return distances


def _draw(height: int, width: int) -> tuple[NDArray[np.uint8], Array]:
    """A photo of bright dots, RGB, and their positions (x, y)."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    dots: Array = np.stack(
        np.meshgrid(
            np.arange(_SPACING / 2, width, _SPACING), np.arange(_SPACING / 2, height, _SPACING)
        ),
        axis=-1,
    ).reshape(-1, 2)
    away = [(one + _SPACING / 2) % _SPACING - _SPACING / 2 for one in (x - 20, y - 20)]
    light = 60 + 150 * np.exp(-(away[0] ** 2 + away[1] ** 2) / (2 * _DOT**2))
    return np.repeat(light.round().astype(np.uint8)[..., None], 3, axis=2), dots


def _save(path: Path, pixels: NDArray[np.uint8], orientation: int) -> None:
    exif = Pillow.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = "Acme", "Acme X-1"
    exif[ExifTags.Base.Orientation] = orientation
    camera = exif.get_ifd(ExifTags.IFD.Exif)
    camera[ExifTags.Base.FocalLength] = IFDRational(24)
    exif[ExifTags.IFD.Exif] = camera  # Pillow would not write it into a TIFF otherwise
    # Quality and subsampling are options of JPEG, which TIFF ignores.
    Pillow.fromarray(pixels).save(path, exif=exif, quality=98, subsampling=0)


def _develop(photo: Path, profile: Path) -> NDArray[Any]:
    settings, developed = photo.with_suffix(".pp3"), photo.with_suffix(".out.tif")
    settings.write_text(_SETTINGS.format(profile=profile.absolute()), encoding="utf-8")
    options = ["-Y", "-b16", "-t", "-o", str(developed), "-p", str(settings), "-c", str(photo)]
    done = subprocess.run(
        ["rawtherapee-cli", *options], capture_output=True, text=True, check=False
    )
    picture = cv2.imread(str(developed), cv2.IMREAD_UNCHANGED) if developed.exists() else None
    if picture is None:
        raise WarpTrainError(f"{photo}: rawtherapee-cli wrote no picture: {done.stderr.strip()}")
    return picture


def _corrected(dots: Array, warp: PhotoWarp, height: int, width: int) -> Array:
    """Where the lens moves points of the photo, in px of the corrected frame."""
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    points = torch.from_numpy((dots - middle) / middle)[None]
    moved: Array = warp.targets(points, height, width)[0].numpy() * middle + middle
    return moved


def _inside(dots: Array, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Whether the surroundings of each dot are in a picture of this shape."""
    size = np.array([shape[1], shape[0]])
    inside = (dots > 2 * _REACH) & (dots < size - 2 * _REACH)
    return np.asarray(inside.all(axis=1))


def _located(picture: NDArray[Any], near: Array) -> Array:
    """The centre of the dot at each position, to a fraction of a pixel: its weighted centroid."""
    light = picture[..., 1].astype(float)
    steps = np.arange(-_REACH, _REACH + 1)
    found: Array = near.copy()
    for at in found:
        for _ in range(_ROUNDS):
            left, top = np.round(at).astype(int)
            window = light[top - _REACH : top + _REACH + 1, left - _REACH : left + _REACH + 1]
            x, y = np.meshgrid(left + steps, top + steps)
            weight = np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * _DOT**2))
            weight = weight * (window - window.min())
            shift = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum() - at
            at += 2 * shift  # a centroid under a window as wide as the dot moves half the way
    return found


if __name__ == "__main__":
    sys.exit(main())
