"""Writes the lenses of many photos as entries of a lensfun database."""

from __future__ import annotations

import math
import statistics
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from warp_train.export.groups import LensGroup, grouped_photos
from warp_train.export.lensfun_fit import LensfunFit, fit_lensfun, radial_curve
from warp_train.export.lensfun_installed import (
    Installed,
    Place,
    entry_name,
    place_of,
    read_installed,
    why_unattributed,
)
from warp_train.export.photo_lens import LeftOut, PhotoLens, without_refused


@dataclass(frozen=True)
class LensfunExport:
    """A database, and the photos that are not in it."""

    xml: str | None
    """None if no photo could be used."""
    left_out: tuple[LeftOut, ...]
    photos: int
    """Number of photos in the database, and of lenses, as follows."""
    lenses: int
    notes: tuple[str, ...] = ()
    """What a user of the database should know."""


@dataclass(frozen=True)
class _Entry:
    """A lens, as lensfun identifies it."""

    group: LensGroup
    model: str
    place: Place
    crop: float


def lensfun_database(
    photos: Sequence[PhotoLens], crop_factor: float | None = None, mount: str | None = None
) -> LensfunExport:
    """A database with one `<lens>` per lens and frame, and one `<distortion>` per focal length.

    Each distortion is fitted to all photos of its focal length. Photos of one lens on several
    cameras are of one entry: lensfun would replace the first of two. No entry replaces a camera or
    a lens of lensfun's own database, which is read if lensfunpy is installed.

    Args:
        crop_factor: of the camera; None uses the median of the values in the photos' EXIF, or that
            of lensfun's database.
        mount: lensfun's name of the camera's mount. None uses the camera's own for a fixed lens and
            for a lens without a name, and "Generic" for others. A camera is added only for a fixed
            lens that lensfun does not have.
    """
    installed = read_installed()

    def why_not(photo: PhotoLens) -> str | None:
        camera = photo.camera
        if camera.lens or camera.lens_spec:
            return None
        return why_unattributed(camera, installed, mount, crop_factor or camera.crop_factor)

    left_out: list[LeftOut] = []
    known = without_refused(photos, why_not, left_out)
    groups, rest = grouped_photos(known, crop_factor, per_camera=False)
    left_out += rest
    entries = [entry for group in groups if (entry := _entry(group, mount, installed, left_out))]
    notes = [
        f"lensfun has {entry.group.lens or entry.group.camera.camera} already: the new entry is "
        f"called {entry.model}"
        for entry in entries
        if installed is not None and entry.model != _plain_name(entry.group)
    ]
    return LensfunExport(
        xml=_document(entries) if entries else None,
        left_out=tuple(left_out),
        photos=sum(len(entry.group.photos) for entry in entries),
        lenses=len(entries),
        notes=tuple(notes),
    )


def _entry(
    group: LensGroup, mount: str | None, installed: Installed | None, left_out: list[LeftOut]
) -> _Entry | None:
    place = place_of(group.camera, installed, mount, group.crop_factor)
    crop = group.crop_factor or place.crop_factor
    if crop is None:
        reason = "no crop factor in the EXIF of this lens's photos: give the crop factor"
        left_out += [(photo.path, reason) for photo in group.photos]
        return None
    model = entry_name(group.camera.lens_maker, _plain_name(group), installed)
    return _Entry(group, model, place, crop)


def _plain_name(group: LensGroup) -> str:
    return group.lens or f"{group.camera.camera} & compatibles (Standard)"


def _document(entries: Iterable[_Entry]) -> str:
    root = ET.Element("lensdatabase", version="1")
    new_cameras = {
        entry.place.mount: entry for entry in reversed(list(entries)) if entry.place.is_new
    }
    for entry in new_cameras.values():
        _add_camera(root, entry)
    for entry in entries:
        _add_lens(root, entry)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _add_camera(root: ET.Element, entry: _Entry) -> None:
    camera = entry.group.camera
    _add_texts(
        ET.SubElement(root, "camera"),
        maker=camera.maker,
        model=camera.camera,
        mount=entry.place.mount,
        cropfactor=f"{entry.crop:.4g}",
    )


def _add_lens(root: ET.Element, entry: _Entry) -> None:
    group = entry.group
    lens = ET.SubElement(root, "lens")
    _add_texts(
        lens,
        maker=group.camera.lens_maker,
        model=entry.model,
        mount=entry.place.mount,
        cropfactor=f"{entry.crop:.4g}",
    )
    _add_texts(lens, **{"aspect-ratio": f"{group.aspect:.5f}"})
    calibration = ET.SubElement(lens, "calibration")
    for focal, photos in group.by_focal.items():
        fit, size = _fit(photos)
        _add_comment(calibration, f"{focal:g} mm: {_quality(fit, size, photos)}")
        _add_comment(calibration, _dropped(photos))
        terms = {name: f"{value:.6f}" for name, value in fit.terms.items()}
        about = {"model": fit.model, "focal": f"{focal:g}", **terms}
        ET.SubElement(calibration, "distortion", about)


def _add_texts(parent: ET.Element, **texts: str) -> None:
    for tag, text in texts.items():
        ET.SubElement(parent, tag).text = text


def _add_comment(parent: ET.Element, text: str) -> None:
    parent.append(ET.Comment(f" {text} "))


def _fit(photos: Sequence[PhotoLens]) -> tuple[LensfunFit, tuple[int, int]]:
    """The fit, and the (width, height) of the largest photo. Errors are in pixels of this photo."""
    largest = max(photos, key=lambda photo: photo.height * photo.width)
    curves = [radial_curve(photo.params, photo.height, photo.width) for photo in photos]
    known = [curve for curve in curves if curve is not None]
    return fit_lensfun(known, largest.height, largest.width), (largest.width, largest.height)


def _quality(fit: LensfunFit, size: tuple[int, int], photos: Sequence[PhotoLens]) -> str:
    """The errors of a fit, as a comment in the database."""
    count = "1 photo" if len(photos) == 1 else f"{len(photos)} photos"
    spread = (
        "unknown (at least two photos are needed)"
        if fit.spread_pct is None
        else f"{fit.spread_pct:.2f} % (standard deviation over the photos)"
    )
    return (
        f"{count}; {fit.model} differs from the median lens by {fit.rms_px:.2f} px rms, "
        f"{fit.max_px:.2f} px at most, at {size[0]} x {size[1]}; distortion at the corner "
        f"{fit.corner_pct:+.2f} %, spread {spread}"
    )


def _dropped(photos: Sequence[PhotoLens]) -> str:
    """The parts of the lens that lensfun's models lack: medians over the photos, each in its px.

    A tangential term moves a corner, at radius 1, by at most `3 |P|`.
    """
    rows = []
    for photo in photos:
        _, _, _, p1, p2, dcx, dcy, _ = photo.params
        half = math.hypot(photo.width - 1, photo.height - 1) / 2
        rows.append((half * math.hypot(dcx, dcy), half * 3 * math.hypot(p1, p2)))
    offset, tangential = (statistics.median(column) for column in zip(*rows, strict=True))
    return (
        f"not supported by lensfun, and left out: an optical centre {offset:.1f} px from the "
        f"middle, tangential terms of up to {tangential:.1f} px at a corner (medians)"
    )
