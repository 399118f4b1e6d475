"""Writes the lenses of many photos as entries of a lensfun database."""

from __future__ import annotations

import math
import statistics
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from warp_train.export.lensfun_fit import LensfunFit, fit_lensfun, radial_curve
from warp_train.export.photo_lens import LeftOut, PhotoLens

_ANY_MOUNT = "Generic"  # lensfun's mount that fits every camera with interchangeable lenses

_SAME_ASPECT = 0.015  # relative; small copies are rounded to pixels, and 3:2 and 4:3 differ by 0.12


@dataclass(frozen=True)
class LensfunExport:
    """A database, and the photos that are not in it."""

    xml: str | None
    """None if no photo could be used."""
    left_out: tuple[LeftOut, ...]


def lensfun_database(
    photos: Sequence[PhotoLens], crop_factor: float | None = None, mount: str | None = None
) -> LensfunExport:
    """A database with one `<lens>` per camera and lens, and one `<distortion>` per focal length.

    Each distortion is fitted to all photos of its focal length.

    Args:
        crop_factor: of the camera; None uses the median of the values in the photos' EXIF.
        mount: lensfun's name of the camera's mount. None uses "Generic"; for a lens without a name
            it uses a new mount, and adds a camera with this mount.
    """
    root = ET.Element("lensdatabase", version="1")
    left_out: list[LeftOut] = []
    for group in _grouped(photos, _lens_of).values():
        usable, rest = _of_one_shape(group)
        left_out += rest
        crop = crop_factor or _median_crop_factor(usable)
        if crop is None:
            reason = "no crop factor in the EXIF of this lens's photos: give the crop factor"
            left_out += [(photo.path, reason) for photo in usable]
        elif usable:
            _add_lens(root, usable, crop, mount)
    if not len(root):
        return LensfunExport(None, tuple(left_out))
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode")
    return LensfunExport(f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n', tuple(left_out))


def _lens_of(photo: PhotoLens) -> tuple[str, ...]:
    camera = photo.camera
    return camera.maker, camera.camera, camera.lens_maker, camera.lens


def _grouped(
    photos: Iterable[PhotoLens], key: Callable[[PhotoLens], Any]
) -> Mapping[Any, list[PhotoLens]]:
    groups: dict[Any, list[PhotoLens]] = defaultdict(list)
    for photo in photos:
        groups[key(photo)].append(photo)
    return groups


def _of_one_shape(photos: Sequence[PhotoLens]) -> tuple[list[PhotoLens], list[LeftOut]]:
    """The photos of the most common aspect whose lens does not fold; the others, with reasons.

    A photo of another aspect was cropped: its corners are not at the same radius of the lens.
    """
    shapes = Counter(round(photo.aspect, 2) for photo in photos)
    commonest = max(shapes, key=lambda shape: shapes[shape])
    usable, left_out = [], []
    for photo in photos:
        if abs(photo.aspect / commonest - 1) > _SAME_ASPECT:
            reason = (
                f"its aspect is {photo.aspect:.2f}:1, but most photos of its lens have "
                f"{commonest:.2f}:1"
            )
            left_out.append((photo.path, reason))
        elif radial_curve(photo.params, photo.height, photo.width) is None:
            left_out.append((photo.path, "its lens folds inside the photo"))
        else:
            usable.append(photo)
    return usable, left_out


def _median_crop_factor(photos: Iterable[PhotoLens]) -> float | None:
    known = [p.camera.crop_factor for p in photos if p.camera.crop_factor is not None]
    return statistics.median(known) if known else None


def _add_lens(
    root: ET.Element, photos: Sequence[PhotoLens], crop: float, mount: str | None
) -> None:
    camera = photos[0].camera
    model = camera.lens or f"{camera.camera} & compatibles (Standard)"
    if mount is None and not camera.lens:
        mount = _own_mount(camera.camera)
        _add_texts(
            ET.SubElement(root, "camera"),
            maker=camera.maker,
            model=camera.camera,
            mount=mount,
            cropfactor=f"{crop:.4g}",
        )
    lens = ET.SubElement(root, "lens")
    texts = {"maker": camera.lens_maker, "model": model, "mount": mount or _ANY_MOUNT}
    _add_texts(lens, **texts, cropfactor=f"{crop:.4g}")
    _add_texts(lens, **{"aspect-ratio": f"{statistics.median(p.aspect for p in photos):.5f}"})
    calibration = ET.SubElement(lens, "calibration")
    for focal, group in sorted(_grouped(photos, lambda photo: photo.camera.focal).items()):
        fit, size = _fit(group)
        _add_comment(calibration, f"{focal:g} mm: {_quality(fit, size, group)}")
        _add_comment(calibration, _dropped(group))
        terms = {name: f"{value:.6f}" for name, value in fit.terms.items()}
        about = {"model": fit.model, "focal": f"{focal:g}", **terms}
        ET.SubElement(calibration, "distortion", about)


def _own_mount(camera: str) -> str:
    """A mount that no other camera has. In lensfun, mounts of fixed lenses start in lower case."""
    return "fixed" + "".join(filter(str.isalnum, camera))


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
