"""Regions in XMP (faces, objects), moved to where they are in the new pixels.

Schemas: Metadata Working Group (regions relative to the stored picture, by centre and size),
Microsoft Photo (relative, by corner and size), IPTC image regions (relative or in pixels).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from warp_train.photos.exif import Box, moved_subject
from warp_train.photos.xmp import RDF, Packet, Place, numbers_in, places_in

_AREA = ("stArea:x", "stArea:y", "stArea:w", "stArea:h", "stArea:d")
_BOUNDARY = tuple(f"Iptc4xmpExt:rb{name}" for name in ("X", "Y", "W", "H", "Rx"))


@dataclass(frozen=True)
class Frames:
    """The frames of a picture before and after, and how boxes move between them."""

    stored: tuple[int, int]
    """(width, height) of the pixels in the file, before they are rotated upright."""
    upright: tuple[int, int]
    result: tuple[int, int]
    move_stored: Callable[[Box], Box | None]
    """A box in stored pixels → in pixels of the result; None outside it."""
    move_upright: Callable[[Box], Box | None]
    move_corner: Callable[[Box], Box | None]
    """As `move_stored`, for corners of a shape: one outside the result is moved to its border."""


def move_regions(packet: Packet, frames: Frames) -> list[str]:
    """Moves all regions; those outside the result are removed. Returns warnings on those."""
    outside = _move_working_group(packet, frames) + _move_microsoft(packet, frames)
    outside += _move_iptc(packet, frames)
    lost = _move_subjects(packet, frames)
    lost += [f"{outside} regions outside the crop were left out"] if outside else []
    if packet.remove_namespace("acdsee-rs"):
        lost.append("its regions of ACDSee were left out: they fit the old pixels")
    return lost


def _move_working_group(packet: Packet, frames: Frames) -> int:
    outside = 0
    result = frames.result
    for regions in _outermost(packet.elements("mwg-rs:Regions")):
        size = numbers_in(regions, ("stDim:w", "stDim:h"))
        measured = tuple(value for _, value in size.values())
        upright = frames.stored != frames.upright and measured == frames.upright
        move, frame = (
            (frames.move_upright, frames.upright)
            if upright
            else (frames.move_stored, frames.stored)
        )
        for area in _within(regions, "mwg-rs:Area"):
            found = numbers_in(area, _AREA)
            if "stArea:x" not in found or "stArea:y" not in found:
                continue
            values = {name: value for name, (_, value) in found.items()}
            pixel = _text(area, "stArea:unit") == "pixel"
            width, height = (1, 1) if pixel else frame
            across = values.get("stArea:w", values.get("stArea:d", 0.0)) * width
            down = values.get("stArea:h", across / height) * height
            x, y = values["stArea:x"] * width, values["stArea:y"] * height
            box = move((x - across / 2, y - down / 2, x + across / 2, y + down / 2))
            if box is None:
                outside += _remove_item(area)
                continue
            left, top, right, bottom = _relative(box, (1, 1) if pixel else result)
            new = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top, right - left)
            _write(found, dict(zip(_AREA, new, strict=True)))
        for name, side in zip(("stDim:w", "stDim:h"), frames.result, strict=True):
            if name in size:
                size[name][0].text = str(side)
    return outside


def _move_microsoft(packet: Packet, frames: Frames) -> int:
    outside = 0
    for place in list(packet.places("MPReg:Rectangle")):
        try:
            x, y, across, down = (float(part) for part in place.text.split(","))
        except ValueError:
            continue
        width, height = frames.stored
        box = frames.move_stored((x * width, y * height, (x + across) * width, (y + down) * height))
        if box is None:
            outside += _remove_item(place.element)
            continue
        left, top, right, bottom = _relative(box, frames.result)
        place.text = ", ".join(f"{part:.6f}" for part in (left, top, right - left, bottom - top))
    return outside


def _move_iptc(packet: Packet, frames: Frames) -> int:
    outside = 0
    for boundary in _outermost(packet.elements("Iptc4xmpExt:RegionBoundary")):
        pixel = _text(boundary, "Iptc4xmpExt:rbUnit") == "pixel"
        width, height = (1, 1) if pixel else frames.stored
        result = (1, 1) if pixel else frames.result
        shapes = [numbers_in(one, _BOUNDARY) for one in _vertices(boundary)]
        boxes = [_box_of(shape, (width, height)) for shape in shapes]
        lefts, tops, rights, bottoms = zip(*boxes, strict=True)
        if frames.move_stored((min(lefts), min(tops), max(rights), max(bottoms))) is None:
            outside += _remove_item(boundary)
            continue
        for shape, box in zip(shapes, boxes, strict=True):
            moved = frames.move_corner(box)
            if moved is not None:
                _write_shape(shape, _relative(moved, result))
    return outside


def _outermost(elements: list[Any]) -> list[Any]:
    """Elements of one name that are in none of the others: what is in two would move twice."""
    return [one for one in elements if next(one.iterancestors(one.tag), None) is None]


def _box_of(shape: dict[str, tuple[Place, float]], unit: tuple[int, int]) -> Box:
    """A corner, a rectangle, or the bounds of a circle, whose radius is in units of the width."""
    x, y, across, down, radius = (shape.get(name, (None, 0.0))[1] for name in _BOUNDARY)
    left, top, reach = x * unit[0], y * unit[1], radius * unit[0]
    right, bottom = left + across * unit[0], top + down * unit[1]
    return left - reach, top - reach, right + reach, bottom + reach


def _write_shape(shape: dict[str, tuple[Place, float]], box: Box) -> None:
    left, top, right, bottom = box
    circle = "Iptc4xmpExt:rbRx" in shape
    x, y = ((left + right) / 2, (top + bottom) / 2) if circle else (left, top)
    new = (x, y, right - left, bottom - top, (right - left) / 2)
    _write(shape, dict(zip(_BOUNDARY, new, strict=True)))


def _move_subjects(packet: Packet, frames: Frames) -> list[str]:
    """EXIF's subject area and location, as the XMP repeats them."""
    lost = []
    for name in ("exif:SubjectArea", "exif:SubjectLocation"):
        for element in packet.elements(name):
            items = list(element.iter(f"{{{RDF}}}li"))
            try:
                numbers = [float(item.text or "") for item in items]
            except ValueError:
                numbers = []
            new = moved_subject(numbers, frames.move_stored) if 2 <= len(numbers) <= 4 else None
            if new is None:
                Place(element, None).remove()
                lost = ["its subject area in the XMP was left out: it lies outside the crop"]
                continue
            for item, value in zip(items, new, strict=True):
                item.text = str(value)
    return lost


def _text(element: Any, short: str) -> str:
    return next((place.text for place in places_in(element, short)), "")


def _vertices(boundary: Any) -> list[Any]:
    """The corners of a polygon, or the boundary itself if it is a rectangle or a circle."""
    vertices = _within(boundary, "Iptc4xmpExt:rbVertices")
    return [item for one in vertices for items in one for item in items] or [boundary]


def _within(element: Any, short: str) -> list[Any]:
    return [place.element for place in places_in(element, short) if place.attribute is None]


def _relative(box: Box, size: tuple[int, int]) -> Box:
    return box[0] / size[0], box[1] / size[1], box[2] / size[0], box[3] / size[1]


def _write(found: dict[str, tuple[Place, float]], values: dict[str, float]) -> None:
    for name, (place, _) in found.items():
        place.text = f"{values[name]:.6f}"


def _remove_item(element: Any) -> int:
    """Removes the item of the list that contains the element; 1 if there is one."""
    while element is not None and not str(element.tag).endswith("}li"):
        element = element.getparent()
    if element is None or element.getparent() is None:
        return 0
    element.getparent().remove(element)
    return 1
