"""Writes the lenses of photos as Adobe lens profiles (LCP): XMP with one entry per focal length.

Two programs place the lens's centre at the pixel index ImageXCenter · width, ImageYCenter · height,
and so does this module: Adobe's DNG SDK (`dng_filter_warp`) and RawTherapee. RawTherapee 5.9 adds
half a pixel where a side is even.
"""

from __future__ import annotations

import math
import statistics
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from warp_train.export.groups import LensGroup, grouped_photos
from warp_train.export.lcp_model import LcpModel, is_landscape, lcp_model, stored_size
from warp_train.export.photo_lens import LeftOut, PhotoLens
from warp_train.photos.lens_names import LensSpec

_NAMESPACES = {
    "xmlns:x": "adobe:ns:meta/",
    "xmlns:rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "xmlns:photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "xmlns:stCamera": "http://ns.adobe.com/photoshop/1.0/camera-profile",
}
_FAR = "10000"  # m, Adobe's value for infinity: the EXIF of most photos lacks the distance
_LEAST_TERM = 1e-9  # moves no pixel, and is not zero
_FORBIDDEN = r'\/:*?"<>|'  # in file names of some systems
_LONGEST_NAME = 100


@dataclass(frozen=True)
class LensProfile:
    """The profile of one camera, lens and frame."""

    name: str
    """Of its file, with the suffix .lcp. No two profiles of one export have the same name."""
    camera: str
    """The camera and the lens, for messages."""
    xml: str
    photos: int


@dataclass(frozen=True)
class LcpExport:
    """Profiles, and the photos that are in none of them."""

    profiles: tuple[LensProfile, ...]
    left_out: tuple[LeftOut, ...]


def lens_profiles(photos: Sequence[PhotoLens], crop_factor: float | None = None) -> LcpExport:
    """A profile for each camera, lens and frame of the photos, see `grouped_photos`."""
    groups, left_out = grouped_photos(photos, crop_factor)
    names: set[str] = set()
    profiles = []
    for group in groups:
        name = _file_name(group, names)
        names.add(name.casefold())
        profiles.append(LensProfile(name, _title(group), lens_profile(group), len(group.photos)))
    return LcpExport(tuple(profiles), tuple(left_out))


def lens_profile(group: LensGroup) -> str:
    """The profile of photos of one camera, lens and frame, as the text of an LCP file."""
    landscape = any(map(is_landscape, group.photos))
    size = max(
        (stored_size(photo) for photo in group.photos if is_landscape(photo) == landscape),
        key=math.prod,
    )
    root = ET.Element("x:xmpmeta", _NAMESPACES)
    about = ET.SubElement(ET.SubElement(root, "rdf:RDF"), "rdf:Description", {"rdf:about": ""})
    entries = ET.SubElement(ET.SubElement(about, "photoshop:CameraProfiles"), "rdf:Seq")
    for focal, photos in group.by_focal.items():
        model = lcp_model(photos, landscape)
        item = ET.SubElement(entries, "rdf:li")
        item.append(ET.Comment(f" {focal:g} mm: {_quality(model, len(photos))} "))
        entry = {**_lens_terms(group, size), **_setting_terms(focal, photos)}
        described = ET.SubElement(item, "rdf:Description", _qualified(entry))
        perspective = ET.SubElement(described, "stCamera:PerspectiveModel")
        ET.SubElement(perspective, "rdf:Description", _qualified(_model_terms(model, *size)))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _qualified(terms: Mapping[str, str | None]) -> dict[str, str]:
    """The known terms as attributes."""
    return {f"stCamera:{name}": value for name, value in terms.items() if value}


def _lens_terms(group: LensGroup, size: tuple[int, int]) -> dict[str, str | None]:
    camera, lens = group.camera, _lens_name(group)
    specs = [photo.camera.lens_spec for photo in group.photos]
    spec = next((spec for spec in specs if spec is not None), None)
    maker = camera.maker
    known = camera.camera.casefold().startswith(maker.split()[0].casefold())
    return {
        "Author": "warp_train",
        "Make": maker,
        "Model": camera.camera,
        "UniqueCameraModel": camera.camera if known else f"{maker} {camera.camera}",
        "CameraRawProfile": "False",  # the photos are developed ones
        "Lens": camera.lens or lens,
        "LensInfo": None if spec is None else _lens_info(spec),
        "CameraPrettyName": camera.camera,
        "LensPrettyName": lens,
        "ProfileName": _title(group),
        "SensorFormatFactor": None if group.crop_factor is None else f"{group.crop_factor:.6g}",
        "ImageWidth": str(size[1]),
        "ImageLength": str(size[0]),
    }


def _setting_terms(focal: float, photos: Sequence[PhotoLens]) -> dict[str, str | None]:
    """Focal length in mm, distance in m, aperture as APEX value: 2 log2 of the f-number."""
    apertures = [p.camera.f_number for p in photos if p.camera.f_number is not None]
    aperture = f"{2 * math.log2(statistics.median(apertures)):.6f}" if apertures else None
    return {"FocalLength": f"{focal:g}", "FocusDistance": _FAR, "ApertureValue": aperture}


def _model_terms(model: LcpModel, height: int, width: int) -> dict[str, str | None]:
    """The terms of an entry for a frame of `height` × `width` px, see `lcp_model`.

    The unit of the model is half the diagonal, which is therefore written as the focal length, in
    units of the long side. It is the same for all entries: programs that interpolate the terms
    between focal lengths interpolate the lens.
    """
    half = math.hypot(width - 1, height - 1) / 2
    x, y = model.centre
    k1, k2, k3 = model.radial
    if max(map(abs, model.radial)) < _LEAST_TERM:
        k1 = _LEAST_TERM  # RawTherapee passes over entries with zeros, whatever else they contain
    numbers = {
        "FocalLengthX": half / max(height, width),
        "FocalLengthY": half / max(height, width),
        "ImageXCenter": ((width - 1) / 2 + x * half) / width,
        "ImageYCenter": ((height - 1) / 2 + y * half) / height,
        "RadialDistortParam1": k1,
        "RadialDistortParam2": k2,
        "RadialDistortParam3": k3,
        "TangentialDistortParam1": model.tangential[0],
        "TangentialDistortParam2": model.tangential[1],
    }
    return {"Version": "2", **{name: f"{number:.10f}" for name, number in numbers.items()}}


def _quality(model: LcpModel, count: int) -> str:
    """How well the photos agree, and what the entry lacks, as a comment in the profile."""
    spread = (
        "unknown (at least two photos are needed)"
        if model.spread_pct is None
        else f"{model.spread_pct:.2f} % (standard deviation over the photos)"
    )
    return (
        f"{'1 photo' if count == 1 else f'{count} photos'}; distortion at the corner "
        f"{model.corner_pct:+.2f} %, spread {spread}; zoom s = {model.zoom:.6g}, which the reading "
        f"program chooses"
    )


def _lens_name(group: LensGroup) -> str:
    return group.lens or f"{group.camera.camera} lens"


def _title(group: LensGroup) -> str:
    return f"{group.camera.camera} ({_lens_name(group)})"


def _lens_info(spec: LensSpec) -> str:
    """EXIF's LensSpecification as XMP writes it: four fractions, `0/0` for an unknown f-number."""
    numbers = [spec.min_focal, spec.max_focal, *(spec.widest or ())]
    fractions = [Fraction(number).limit_denominator(100) for number in numbers]
    texts = [f"{part.numerator}/{part.denominator}" for part in fractions]
    return " ".join([*texts, "0/0", "0/0"][:4])


def _file_name(group: LensGroup, taken: set[str]) -> str:
    """A file name that is not among the `taken` ones, which are in lower case."""
    title = "".join(char for char in _title(group) if char not in _FORBIDDEN)[:_LONGEST_NAME]
    crop = f" crop {group.crop_factor:.3g}" if group.crop_factor else ""
    variants = (title, title + crop, *(f"{title}{crop} {n}" for n in range(2, len(taken) + 3)))
    return next(f"{name}.lcp" for name in variants if f"{name}.lcp".casefold() not in taken)
