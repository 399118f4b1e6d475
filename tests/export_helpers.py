"""Measured lenses and photos with EXIF that the export tests share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_helpers import textured
from PIL import ExifTags
from PIL import Image as Pillow

from warp_train.export.photo_lens import PhotoLens
from warp_train.photos.camera_exif import CameraExif

Lens = tuple[float, ...]
CAMERA = CameraExif("Canon", "Canon EOS 5D Mark II", "Acme", "Acme 24-50mm <Wide> & Co --", 24, 1.0)
BARREL: Lens = (-0.115, 0.045, -0.011, 0.0, 0.0, 0.0, 0.0, 0.955)
REAL: dict[str, Lens] = {
    "barrel": BARREL,
    "weak barrel": (-0.03, 0.004, 0.001, 0.0, 0.0, 0.0, 0.0, 0.99),
    "pincushion": (0.05, -0.012, 0.002, 0.0, 0.0, 0.0, 0.0, 1.04),
    "moustache": (-0.12, 0.11, -0.03, 0.0, 0.0, 0.0, 0.0, 0.98),
    "none": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0),
}


def photo_of(params: Lens, height: int = 2000, width: int = 3000, **changes: Any) -> PhotoLens:
    camera = CameraExif(**{**vars(CAMERA), **changes})
    return PhotoLens(Path("photo.jpg"), height, width, params, camera)


Write = Callable[[Pillow.Exif], None]


def photo_with(path: Path, write: Write) -> Path:
    exif = Pillow.Exif()
    write(exif)
    path.parent.mkdir(exist_ok=True)
    Pillow.fromarray(textured(64, 96)).save(path, exif=exif)
    return path


def camera_tags(exif: Pillow.Exif, **tags: Any) -> None:
    """Tags of a Nikon D7000; `tags` are added to them by their names in Pillow."""
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = "NIKON CORPORATION", "NIKON D7000"
    inside = exif.get_ifd(ExifTags.IFD.Exif)
    for name, value in {"FocalLength": 18.0, "LensModel": "18-55mm \x07\nVR", **tags}.items():
        inside[getattr(ExifTags.Base, name)] = value
