"""Reads the camera and lens of a photo from its EXIF."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import ExifTags
from PIL import Image as Pillow

from warp_train.photos.exif import EXIF_HEADER
from warp_train.photos.files import read_metadata
from warp_train.photos.lens_names import LensSpec, is_lens_name, lens_spec
from warp_train.photos.maker_lens import maker_lens
from warp_train.photos.metadata import Metadata

FULL_FRAME_DIAGONAL = math.hypot(36, 24)  # mm; the crop factor is relative to it
_MM_PER_UNIT = {2: 25.4, 3: 10.0, 4: 1.0, 5: 1e-3}  # FocalPlaneResolutionUnit: inch, cm, mm, µm
_CROP_FACTORS = (0.2, 20.0)  # from large format to the smallest phone's
_AGREEMENT = 0.1  # relative, of two estimates of the crop factor, one of which is rounded to 1 mm
_LONGEST_NAME = 100


class NoCamera(Exception):  # noqa: N818  # a property of a photo, which does not end an export
    """The EXIF of a photo lacks the camera or the focal length; `str()` is the reason."""


@dataclass(frozen=True)
class CameraExif:
    """Camera, lens and focal length. Names are one line without control characters."""

    maker: str
    camera: str
    lens_maker: str
    """The camera's maker if the EXIF contains no maker of the lens."""
    lens: str
    """Empty if the EXIF contains no name that identifies a lens, see `is_lens_name`."""
    focal: float
    """Focal length in mm, rounded to a tenth."""
    crop_factor: float | None
    """The diagonal of full frame (43.27 mm) divided by the sensor's; None if unknown."""
    lens_spec: LensSpec | None = None
    """Focal lengths and f-numbers of the lens; None if unknown."""
    digital_zoom: float = 1.0
    """Above 1, the photo is the middle of what the lens projects on the sensor."""
    orientation: int = 1
    """EXIF orientation of the pixels in the file, 1..8; 1 (upright) if it is missing or invalid."""
    f_number: float | None = None


def read_camera(path: Path) -> CameraExif:
    """Reads the EXIF of a photo.

    Raises:
        NoCamera: the photo has no EXIF, or its EXIF lacks the camera or the focal length.
    """
    return camera_of(read_metadata(path))


def camera_of(metadata: Metadata) -> CameraExif:
    """The camera in the metadata of a photo. Raises NoCamera as `read_camera` does."""
    block = metadata.exif
    tags = _tags(block)
    maker, camera = _name(tags, ExifTags.Base.Make), _name(tags, ExifTags.Base.Model)
    focal = _number(tags, ExifTags.Base.FocalLength)
    if not tags:
        raise NoCamera("no EXIF")
    if not camera:
        raise NoCamera("no camera model in the EXIF")
    if focal is None or round(focal, 1) == 0:
        raise NoCamera("no focal length in the EXIF")
    lens = _name(tags, ExifTags.Base.LensModel)
    return CameraExif(
        maker=maker or camera,
        camera=camera,
        lens_maker=_name(tags, ExifTags.Base.LensMake) or maker or camera,
        lens=lens if is_lens_name(lens) else "",
        focal=round(focal, 1),
        crop_factor=_crop_factor(tags, focal),
        lens_spec=_lens_spec(tags) or _maker_lens(tags, maker, block),
        digital_zoom=_number(tags, ExifTags.Base.DigitalZoomRatio) or 1.0,
        orientation=_orientation(tags),
        f_number=_number(tags, ExifTags.Base.FNumber),
    )


def _tags(block: bytes) -> Mapping[int, Any]:
    """The tags in a block, which is a TIFF structure."""
    exif = Pillow.Exif()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about damaged EXIF: missing tags are reported
            if block:
                exif.load(EXIF_HEADER + block)
            return {**exif, **exif.get_ifd(ExifTags.IFD.Exif)}
    except Exception as error:  # parsers raise anything, from struct.error to SyntaxError
        raise NoCamera(f"its EXIF cannot be read ({type(error).__name__})") from error


def _crop_factor(tags: Mapping[int, Any], focal: float) -> float | None:
    """The crop factor from the pixel pitch, or from the equivalent focal length if they disagree.

    The pitch is more precise, but some programs do not update it when they resize a photo.
    """
    equivalent = _number(tags, ExifTags.Base.FocalLengthIn35mmFilm)
    by_focal = _plausible(None if equivalent is None else equivalent / focal)
    by_pitch = _plausible(_crop_factor_by_pitch(tags))
    if by_pitch is None or by_focal is None:
        return by_pitch if by_focal is None else by_focal
    return by_pitch if abs(by_pitch / by_focal - 1) <= _AGREEMENT else by_focal


def _crop_factor_by_pitch(tags: Mapping[int, Any]) -> float | None:
    unit = _MM_PER_UNIT.get(int(_number(tags, ExifTags.Base.FocalPlaneResolutionUnit) or 2))
    sides = [
        (_number(tags, pixels), _number(tags, per_unit))
        for pixels, per_unit in (
            (ExifTags.Base.ExifImageWidth, ExifTags.Base.FocalPlaneXResolution),
            (ExifTags.Base.ExifImageHeight, ExifTags.Base.FocalPlaneYResolution),
        )
    ]
    if unit is None:
        return None
    lengths = [unit * pixels / per_unit for pixels, per_unit in sides if pixels and per_unit]
    return (
        FULL_FRAME_DIAGONAL / math.hypot(*lengths) if len(lengths) == 2 and all(lengths) else None
    )


def _orientation(tags: Mapping[int, Any]) -> int:
    value = _number(tags, ExifTags.Base.Orientation)
    return int(value) if value is not None and value in range(1, 9) else 1


def _lens_spec(tags: Mapping[int, Any]) -> LensSpec | None:
    value = tags.get(ExifTags.Base.LensSpecification)
    if not isinstance(value, tuple | list):
        return None
    return lens_spec([_positive(number) for number in value])


def _maker_lens(tags: Mapping[int, Any], maker: str, block: bytes) -> LensSpec | None:
    note = tags.get(ExifTags.Base.MakerNote)
    return maker_lens(maker, note, block) if isinstance(note, bytes) else None


def _plausible(crop_factor: float | None) -> float | None:
    least, most = _CROP_FACTORS
    return crop_factor if crop_factor is not None and least <= crop_factor <= most else None


def _number(tags: Mapping[int, Any], tag: int) -> float | None:
    return _positive(tags.get(tag))


def _positive(value: Any) -> float | None:
    """A positive finite number, or None: cameras write 0 and 0/0 for unknown values."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _name(tags: Mapping[int, Any], tag: int) -> str:
    value = tags.get(tag, "")
    text = _text(value)
    visible = "".join(char if char.isprintable() else " " for char in text.partition("\0")[0])
    return " ".join(visible.split())[:_LONGEST_NAME]


def _text(value: Any) -> str:
    """Text whose bytes may be UTF-8. Pillow decodes EXIF's text as Latin-1."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    text = str(value)
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text  # Latin-1 indeed
