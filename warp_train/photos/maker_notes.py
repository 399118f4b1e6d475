"""Moves a camera maker's note to another position in a file.

Most notes are a directory of tags, whose positions count from the start of the file or from the
start of the note. Only the first kind depends on where the note is. The starts and the nested
directories of the makers' formats are those of ExifTool's documentation of maker notes.
"""

from __future__ import annotations

import string
import struct
from collections.abc import Iterator
from typing import NamedTuple

from warp_train.photos.ifd import IFD, SIZES, UNDEFINED

_OWN_POSITIONS = (
    *(
        b"Nikon\x00\x02",
        b"OLYMPUS\x00",
        b"OM SYSTEM",
        b"FUJIFILM",
        b"Apple iOS\x00",
        b"PENTAX \x00",
    ),
    *(b"RICOH\x00II", b"RICOH\x00MM", b"GENERALE", b"MOT\x00"),
    *(b"LEICA\x00" + bytes((number,)) for number in range(1, 32)),
)
"""Starts of notes whose positions count from the note."""
_WITHOUT_POSITIONS = (b"KDK", b"HDRP", b"STMN")
"""Starts of notes that are no directory: values at fixed places, or packed data."""
_STARTS = (0, 4, 6, 8, 10, 12, 18)
"""Where the directory starts, behind the maker's name."""
_NESTED = frozenset((0x2010, 0x2020, 0x2030, 0x2031, 0x2040, 0x2050, 0x3000))
"""Tags of old Olympus notes whose value is a directory itself."""
_MOST_TAGS = 1024
_OTHER = {"<": ">", ">": "<"}
_MARKS = {"<": b"II*\x00", ">": b"MM\x00*"}
_PRINTABLE = frozenset(string.printable.encode())


class _Far(NamedTuple):
    """A value that is stored outside the directory."""

    at: int
    """Where its position is stored."""
    place: int
    length: int
    nested: bool
    """Whether it is a directory that contains positions."""


def moved_note(note: bytes, order: str, old: int, new: int) -> bytes | None:
    """A note from position `old` of a file, for position `new` of another; None if it cannot move.

    It cannot if it refers to data outside itself, or if its form is unknown. Some programs change
    the byte order of a file and not that of the note, so both are tried.
    """
    if old == new or note.startswith((*_OWN_POSITIONS, *_WITHOUT_POSITIONS)):
        return note
    for start in _STARTS:
        for own in (order, _OTHER[order]):
            if _far_values(note, own, start) is not None:
                return _moved(note, own, start, old, new)
    return note if set(note.rstrip(b"\0")[:64]) <= _PRINTABLE else None


def _moved(note: bytes, order: str, start: int, old: int, new: int) -> bytes | None:
    """The note, a directory at `start`, for a new position."""
    far = _far_values(note, order, start) or []
    footer = _footer(note, order)
    for base in (old, footer):  # a program may have moved the note and not its positions
        if base is None or not _counts_from(base, far, note, start):
            continue
        moved = bytearray(note)
        if not _shift(moved, order, far, base, new):
            return None
        if footer is not None:
            struct.pack_into(order + "I", moved, len(note) - 4, new)
        return bytes(moved)
    own = all(one.place + one.length <= len(note) and not one.nested for one in far)
    return note if own else None


def _counts_from(base: int, far: list[_Far], note: bytes, start: int) -> bool:
    """Whether positions count so that the note is at `base`, rather than from the note itself."""
    if not all(base <= one.place and one.place + one.length <= base + len(note) for one in far):
        return False
    behind = max((one.at for one in far), default=start) + 4  # of the directory's last far value
    first = min((one.place for one in far), default=base + behind)
    return abs(first - base - behind) <= abs(first - behind)


def _shift(moved: bytearray, order: str, far: list[_Far], base: int, new: int) -> bool:
    """Shifts the positions of a directory and of nested ones; False if one is no directory."""
    for one in far:
        if one.nested:
            inner = _far_values(bytes(moved), order, one.place - base)
            if inner is None or not _shift(moved, order, inner, base, new):
                return False
        struct.pack_into(order + "I", moved, one.at, one.place - base + new)
    return True


def _footer(note: bytes, order: str) -> int | None:
    """The position of the note that Canon's notes end with; None if there is none."""
    if note[-8:-4] != _MARKS[order]:
        return None
    return int(struct.unpack_from(order + "I", note, len(note) - 4)[0])


def _far_values(note: bytes, order: str, start: int) -> list[_Far] | None:
    """The values outside the directory at `start`; None if there is no plain directory."""
    try:
        (count,) = struct.unpack_from(order + "H", note, start)
        if not 0 < count <= _MOST_TAGS or start < 0:
            return None
        return list(_listed(note, order, start + 2, count))
    except (struct.error, KeyError):
        return None


def _listed(note: bytes, order: str, first: int, count: int) -> Iterator[_Far]:
    for at in range(first, first + 12 * count, 12):
        tag, kind, number, place = struct.unpack_from(order + "HHII", note, at)
        length = SIZES[kind] * number
        nested = kind == IFD or (kind == UNDEFINED and _is_nested(note, tag))
        if length > 4 or kind == IFD:
            yield _Far(at + 8, place, length, nested)


def _is_nested(note: bytes, tag: int) -> bool:
    """Whether the value of a tag is a directory itself, or contains one."""
    if note[:5] in (b"Ricoh", b"RICOH"):
        return tag == 0x2001
    return tag in _NESTED and note.startswith((b"OLYMP\0", b"EPSON\0"))
