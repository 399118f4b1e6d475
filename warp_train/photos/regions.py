"""Regions in XMP (faces, objects), moved to where they are in the new pixels.

Schemas: Metadata Working Group (regions relative to the stored picture, by centre and size),
Microsoft Photo (relative, by corner and size), IPTC image regions (relative or in pixels).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from warp_train.photos.exif import Box
from warp_train.photos.xmp import Packet, Place, numbers_in, places_in

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


def move_regions(packet: Packet, frames: Frames) -> list[str]:
    """Moves all regions; those outside the result are removed. Returns warnings on those."""
    outside = _move_working_group(packet, frames) + _move_microsoft(packet, frames)
    outside += _move_iptc(packet, frames)
    lost = [f"{outside} regions outside the crop were left out"] if outside else []
    if packet.remove_namespace("acdsee-rs"):
        lost.append("its regions of ACDSee were left out: they fit the old pixels")
    return lost


def _move_working_group(packet: Packet, frames: Frames) -> int:
    outside = 0
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
            across = values.get("stArea:w", values.get("stArea:d", 0.0)) * frame[0]
            down = values.get("stArea:h", across / frame[1]) * frame[1]
            x, y = values["stArea:x"] * frame[0], values["stArea:y"] * frame[1]
            box = move((x - across / 2, y - down / 2, x + across / 2, y + down / 2))
            if box is None:
                outside += _remove_item(area)
                continue
            left, top, right, bottom = _relative(box, frames.result)
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
        unit = next((place.text for place in places_in(boundary, "Iptc4xmpExt:rbUnit")), "relative")
        width, height = frames.stored if unit != "pixel" else (1, 1)
        result = frames.result if unit != "pixel" else (1, 1)
        corners = [numbers_in(one, _BOUNDARY) for one in _vertices(boundary)]
        moved: list[Box | None] = []
        for corner in corners:
            x, y, across, down, radius = (corner.get(n, (None, 0.0))[1] for n in _BOUNDARY)
            box = (x - radius, y - radius, x + across + radius, y + down + radius)
            moved.append(
                frames.move_stored(
                    (box[0] * width, box[1] * height, box[2] * width, box[3] * height)
                )
            )
        if not moved or all(box is None for box in moved):
            outside += _remove_item(boundary) if moved else 0
            continue
        for corner, found_box in zip(corners, moved, strict=True):
            if found_box is None:
                continue
            left, top, right, bottom = _relative(found_box, result)
            circle = "Iptc4xmpExt:rbRx" in corner
            x, y = ((left + right) / 2, (top + bottom) / 2) if circle else (left, top)
            new = (x, y, right - left, bottom - top, (right - left) / 2)
            _write(corner, dict(zip(_BOUNDARY, new, strict=True)))
    return outside


def _outermost(elements: list[Any]) -> list[Any]:
    """Elements of one name that are in none of the others: what is in two would move twice."""
    return [one for one in elements if next(one.iterancestors(one.tag), None) is None]


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
