"""The boxes of a HEIC or AVIF file, as far as pillow-heif does not report them.

Box layouts are from ISO/IEC 14496-12 (ISO base media files) and 23008-12 (HEIF).
"""

from __future__ import annotations

import re
import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

BRANDS = frozenset(b"heic heix heim heis hevc hevx mif1 mif2 msf1 avif avis miaf".split())
"""Brands of files that contain HEIF pictures."""
_LEAST_ZEROS = 64  # in a row: entropy-coded AV1 has none
_FORBIDDEN = re.compile(rb"\0\0[\0-\2]")  # in a NAL unit, by its emulation prevention
_TRAILING = 3  # zero bytes that some writers leave behind a NAL unit


@dataclass(frozen=True)
class HeifBoxes:
    """The items of a file by their ids, and the names of the boxes beside them."""

    outer: tuple[str, ...]
    """Types of the boxes of the file; those of `uuid` boxes are their ids in hexadecimal."""
    primary: int
    kinds: dict[int, str]
    """The coding of each item, such as `hvc1`, `av01`, `grid`."""
    extents: dict[int, list[tuple[int, int]]]
    """(offset, length) in the file of the parts of each item."""
    properties: dict[int, list[tuple[str, bytes]]]
    """(type, content) of each item's properties, in their order."""


def is_heif(data: bytes) -> bool:
    """Whether a file begins as HEIC and AVIF files do."""
    if data[4:8] != b"ftyp":
        return False
    size = min(int.from_bytes(data[:4], "big"), 256)
    return not BRANDS.isdisjoint(data[at : at + 4] for at in (8, *range(16, size, 4)))


def read_boxes(data: bytes) -> HeifBoxes:
    """The boxes of a file.

    Raises:
        ValueError: they are damaged, or there is no picture among them.
    """
    outer = list(_outer(data))
    try:
        start, end = next((start, end) for kind, start, end in outer if kind == "meta")
        meta = {kind: (start, end) for kind, start, end in _boxes(data, start + 4, end)}
        return HeifBoxes(
            tuple(kind if kind != "uuid" else data[at : at + 16].hex() for kind, at, _ in outer),
            _primary(data, *meta["pitm"]),
            dict(_kinds(data, *meta["iinf"])),
            _extents(data, meta),
            _properties(data, *meta["iprp"]),
        )
    except (StopIteration, KeyError, IndexError, struct.error, OverflowError) as error:
        raise ValueError("damaged: its list of pictures cannot be read") from error


def orientation_of(boxes: HeifBoxes) -> int:
    """How the primary picture is turned and mirrored by its properties, as an EXIF orientation."""
    properties = dict(boxes.properties.get(boxes.primary, []))
    angle = properties.get("irot", b"\0")[:1] or b"\0"
    axis = properties.get("imir", b"")[:1]
    return _ORIENTATIONS[angle[0] & 3, axis[0] & 1 if axis else None]


_ORIENTATIONS: dict[tuple[int, int | None], int] = {
    (0, None): 1, (1, None): 8, (2, None): 3, (3, None): 6,
    (0, 0): 4, (1, 0): 5, (2, 0): 2, (3, 0): 7,
    (0, 1): 2, (1, 1): 7, (2, 1): 4, (3, 1): 5,
}  # fmt: skip
"""(quarter turns counter-clockwise, then mirrored 0: top-bottom, 1: left-right)."""


def clean_aperture(boxes: HeifBoxes, width: int, height: int) -> tuple[int, int, int, int]:
    """The part of the stored primary picture that is shown: left, top, right, bottom in pixels."""
    clap = dict(boxes.properties.get(boxes.primary, [])).get("clap", b"")
    if len(clap) < 32:
        return 0, 0, width, height
    numbers = struct.unpack(">8i", clap[:32])
    if not all(numbers[1::2]):
        return 0, 0, width, height
    wide, high, x, y = (
        n / d for n, d in zip(numbers[::2], numbers[1::2], strict=True)
    )  # the size, and the centre relative to the picture's
    left = min(max(round((width - wide) / 2 + x), 0), width - 1)
    top = min(max(round((height - high) / 2 + y), 0), height - 1)
    return left, top, min(left + max(round(wide), 1), width), min(top + max(round(high), 1), height)


def damage(data: bytes, boxes: HeifBoxes) -> str | None:
    """What is wrong with the coded pictures of a file, as far as it can be seen without decoding.

    Decoders fill missing and overwritten parts with grey or colour, and report no error.
    """
    for item, kind in boxes.kinds.items():
        parts = boxes.extents.get(item, [])
        if any(offset + length > len(data) for offset, length in parts):
            return "truncated"
        if sum(length for _, length in parts) > len(data):
            return "damaged: the parts of its pictures overlap"
        coded = b"".join(data[offset : offset + length] for offset, length in parts)
        if kind == "av01" and bytes(_LEAST_ZEROS) in coded:
            return "damaged: its picture data are overwritten with zeros"
        if kind == "hvc1" and coded:
            setup = dict(boxes.properties.get(item, [])).get("hvcC", b"")
            if not _are_nal_units(coded, (setup[21] & 3) + 1 if len(setup) > 21 else 4):
                return "damaged: its picture data are not valid HEVC"
    return None


def _are_nal_units(coded: bytes, prefix: int) -> bool:
    """Whether data are HEVC's units, each after its length in `prefix` bytes."""
    at = 0
    while at < len(coded):
        start = at + prefix
        at = start + int.from_bytes(coded[at:start], "big")
        if at == start or at > len(coded) or _FORBIDDEN.search(coded, start, at - _TRAILING):
            return False
    return True


def _outer(data: bytes) -> Iterator[tuple[str, int, int]]:
    """The boxes of the file; data behind them that are no boxes are ignored."""
    try:
        for name, start, end in _boxes(data, 0, len(data)):
            if end > len(data) and name in ("ftyp", "meta", "mdat", "moov"):
                raise ValueError("truncated")
            yield name, start, min(end, len(data))
    except (IndexError, struct.error):
        return


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[str, int, int]]:
    """(type, start, end) of the contents of each box from `at` to `end`."""
    while at + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if size == 1:
            size = struct.unpack_from(">Q", data, start)[0]
            start += 8
        stop = at + size if size else end
        if stop < start:
            raise IndexError("a box ends before it starts")
        yield name.decode("latin-1"), start, stop
        at = stop


def _primary(data: bytes, start: int, end: int) -> int:
    return _number(data, start + 4, 4 if data[start] else 2)


def _kinds(data: bytes, start: int, end: int) -> Iterator[tuple[int, str]]:
    for name, at, _ in _boxes(data, start + (8 if data[start] else 6), end):
        if name == "infe" and data[at] >= 2:
            wide = 4 if data[at] >= 3 else 2
            kind = data[at + 6 + wide : at + 10 + wide]
            yield _number(data, at + 4, wide), kind.decode("latin-1")


def _extents(data: bytes, meta: dict[str, tuple[int, int]]) -> dict[int, list[tuple[int, int]]]:
    start, end = meta["iloc"]
    version, at = data[start], start + 4
    offset_size, length_size = data[at] >> 4, data[at] & 15
    base_size, index_size = data[at + 1] >> 4, data[at + 1] & 15 if version else 0
    wide = 4 if version >= 2 else 2
    count, at = _number(data, at + 2, wide), at + 2 + wide
    found: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for _ in range(count):
        item, at = _number(data, at, wide), at + wide
        method = _number(data, at, 2) & 15 if version else 0
        at += 4 if version else 2
        base, at = _number(data, at, base_size), at + base_size
        base += meta["idat"][0] if method == 1 else 0
        parts, at = _number(data, at, 2), at + 2
        if parts > 1 and not index_size + offset_size + length_size:
            raise IndexError("parts without places")
        for _ in range(parts):
            at += index_size
            offset = _number(data, at, offset_size)
            length = _number(data, at + offset_size, length_size)
            at += offset_size + length_size
            if method < 2:  # 2: in another item
                found[item].append((base + offset, length or len(data) - base - offset))
        if at > end:
            raise IndexError("the list of places ends early")
    return dict(found)


def _properties(data: bytes, start: int, end: int) -> dict[int, list[tuple[str, bytes]]]:
    parts = list(_boxes(data, start, end))
    held = next((at, stop) for name, at, stop in parts if name == "ipco")
    known = [(name, data[at:stop]) for name, at, stop in _boxes(data, *held)]
    found: dict[int, list[tuple[str, bytes]]] = defaultdict(list)
    for at in (at for name, at, _ in parts if name == "ipma"):
        wide, two = 4 if data[at] else 2, data[at + 3] & 1
        count, at = _number(data, at + 4, 4), at + 8
        for _ in range(count):
            item, linked, at = _number(data, at, wide), data[at + wide], at + wide + 1
            for _ in range(linked):
                index = _number(data, at, 1 + two) & (0x7FFF if two else 0x7F)
                at += 1 + two
                if index:  # 0: none
                    found[item].append(known[index - 1])
    return dict(found)


def _number(data: bytes, at: int, size: int) -> int:
    if at + size > len(data):
        raise IndexError("the file ends early")
    return int.from_bytes(data[at : at + size], "big")
