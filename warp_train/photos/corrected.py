"""Marks of a lens correction that was applied already, and of pictures that no lens took."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from warp_train.photos.damage import one_line
from warp_train.photos.exif import EXIF_IFD, MAKER_NOTE
from warp_train.photos.ifd import Block, Directory, open_block
from warp_train.photos.metadata import Metadata
from warp_train.photos.updating import APPLIED, OWN_MARK
from warp_train.photos.xmp import RDF, Packet, name_of
from warp_train.photos.xmp_repair import repaired

_MAKE = 0x010F
_ON = ("1", "true")
_SCALE = "crs:LensProfileDistortionScale"


def why_corrected(metadata: Metadata) -> str | None:
    """The mark of a lens correction that was applied to the pixels; None if there is none.

    Marks of programs come first: where one developed the photo, the camera's setting of a
    correction for its own JPEGs does not apply.
    """
    packet = _packet(metadata.xmp)
    if packet is not None:
        if packet.value(OWN_MARK) == "applied":
            return "warp_train corrected it (XMP warpTrain:LensCorrection)"
        if _is_on(packet, APPLIED):
            return f"its XMP marks an applied distortion correction ({APPLIED})"
        if (mark := _adobe(packet) or _darktable(packet)) is not None:
            return mark
        if packet.uses("crs") or packet.uses("darktable"):
            return None
    return _camera(metadata.exif)


def panorama(metadata: Metadata) -> str | None:
    """Why a picture is a panorama, whose lines no lens bends; None if it is none."""
    packet = _packet(metadata.xmp)
    if packet is None or not packet.uses("GPano"):
        return None
    kind = one_line(packet.value("GPano:ProjectionType") or "of an unknown projection", most=60)
    return f"a panorama ({kind}; XMP GPano) cannot be corrected: no lens bends its lines"


def crop_note(metadata: Metadata) -> str | None:
    """A warning if an editor cropped the photo, so that the lens's centre may be elsewhere."""
    packet = _packet(metadata.xmp)
    if packet is None or not _is_on(packet, "crs:HasCrop") or not _is_applied(packet):
        return None
    return "an editor cropped it (XMP crs:HasCrop): the centre of its lens may not be in the middle"


def _packet(xmp: bytes) -> Packet | None:
    try:
        return Packet(xmp) if xmp else None
    except ValueError:
        whole = repaired(xmp)
        return Packet(whole) if whole else None


def _is_on(packet: Packet, short: str) -> bool:
    return (packet.value(short) or "").lower() in _ON


def _is_applied(packet: Packet) -> bool:
    """Whether Adobe's settings were applied to the pixels, as they are in every exported file."""
    return (packet.value("crs:AlreadyApplied") or "true").lower() in _ON


def _adobe(packet: Packet) -> str | None:
    if not _is_applied(packet):
        return None
    if _is_on(packet, "crs:LensProfileEnable") and _amount(packet, _SCALE, 100):
        return "Adobe's lens profile was applied (XMP crs:LensProfileEnable)"
    if _amount(packet, "crs:LensManualDistortionAmount", 0):
        return "its distortion was corrected by hand (XMP crs:LensManualDistortionAmount)"
    return None


def _amount(packet: Packet, short: str, default: float) -> float:
    try:
        return float(packet.value(short) or default)
    except ValueError:
        return default


def _darktable(packet: Packet) -> str | None:
    """The last states of darktable's lens modules in the active part of the development."""
    end = _amount(packet, "darktable:history_end", float("inf"))
    states: dict[str, str] = {}
    for number, place in enumerate(packet.places("darktable:operation")):
        step = place.element if place.attribute else place.element.getparent()
        listed = _step_value(step, "num")
        if place.text == "lens" and (int(listed) if listed.isdecimal() else number) < end:
            states[_step_value(step, "multi_priority")] = _step_value(step, "enabled")
    states |= _old_darktable(packet)
    return (
        "darktable's lens correction was applied (XMP darktable:history)"
        if "1" in states.values()
        else None
    )


def _step_value(step: Any, name: str) -> str:
    """A value of a step of the history, in either spelling; empty if it is missing."""
    tag = name_of(f"darktable:{name}")
    own = step.get(tag)
    return str(own if own is not None else step.findtext(tag, "")).strip()


def _old_darktable(packet: Packet) -> dict[str, str]:
    """The last state of the lens module as darktable wrote it before 2.4: in two parallel lists."""
    lists = [
        [item.text or "" for one in packet.elements(name) for item in one.iter(f"{{{RDF}}}li")]
        for name in ("darktable:history_operation", "darktable:history_enabled")
    ]
    states = [state for operation, state in zip(*lists, strict=False) if operation == "lens"]
    return {"": states[-1]} if states else {}


def _camera(exif: bytes) -> str | None:
    """The camera's setting of a distortion correction of its JPEGs, from the maker's note.

    Tags: ExifTool's tables of Canon (0x4015, 0x4016), Nikon (0x002b), Olympus (0x2020/0x050b,
    0x2040/0x1011), Sony (0x2013), Pentax (0x007d).
    """
    try:
        block = open_block(exif)
        first = block.directory(block.first)
        details = block.sub_directory(first, EXIF_IFD)
        note = details.entries.get(MAKER_NOTE) if details else None
        make = first.entries.get(_MAKE)
        if note is None or make is None:
            return None
        maker = make.value.decode("latin-1").upper()
        for name, is_on in _MAKERS.items():
            if maker.startswith(name) and is_on(block, note.at, note.value):
                return f"the camera corrected its distortion (maker's note of {name.title()})"
    except (ValueError, struct.error, IndexError):
        return None
    return None


def _number(block: Block, directory: Directory, tag: int) -> int:
    return block.number(directory, tag) or 0


def _canon(block: Block, at: int, note: bytes) -> bool:
    directory = block.directory(at)
    one, two = (directory.entries.get(tag) for tag in (0x4015, 0x4016))
    applied = one is not None and len(one.value) >= 8 and one.value[0] == 0
    if applied and one is not None and struct.unpack_from(block.order + "h", one.value, 6)[0] == 1:
        return True
    return (
        two is not None
        and len(two.value) >= 32
        and struct.unpack_from(block.order + "i", two.value, 28)[0] == 1
    )


def _nikon(block: Block, at: int, note: bytes) -> bool:
    own = open_block(note[10:])
    entry = own.directory(own.first).entries.get(0x002B)
    return entry is not None and len(entry.value) > 4 and entry.value[4] in (1, 2)  # 2: under water


def _olympus(block: Block, at: int, note: bytes) -> bool:
    start = {b"OLYMPUS\0": 12, b"OM SYSTE": 16}.get(note[:8])
    if start is None:
        return False
    own = Block(note, "<" if b"II" in note[8:16] else ">", big=False, first=start)
    directory = own.directory(start)
    for folder, tag in ((0x2020, 0x050B), (0x2040, 0x1011)):
        inner = own.sub_directory(directory, folder)
        if inner is not None and _number(own, inner, tag) == 1:
            return True
    return False


def _sony(block: Block, at: int, note: bytes) -> bool:
    start = at + 12 if note.startswith(b"SONY") else at
    return _number(block, block.directory(start), 0x2013) == 2


def _pentax(block: Block, at: int, note: bytes) -> bool:
    start, own = (6, note[4:6]) if note.startswith(b"AOC\0") else (10, note[8:10])
    order = {b"II": "<", b"MM": ">"}.get(own, block.order)
    inner = Block(bytes(8) + note[start:], order, big=False, first=8)  # the tag holds its value
    entry = inner.directory(8).entries.get(0x007D)
    return entry is not None and entry.value[:1] == b"\1"


_MAKERS: dict[str, Callable[[Block, int, bytes], bool]] = {
    "CANON": _canon,
    "NIKON": _nikon,
    "OLYMPUS": _olympus,
    "OM DIGITAL": _olympus,
    "SONY": _sony,
    "PENTAX": _pentax,
    "RICOH": _pentax,
}
