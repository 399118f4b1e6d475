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
_STARTS = {
    **{
        b"JVC ": 4,
        b"QVC\x00": 6,
        b"AOC\x00": 6,
        b"Nikon\x00\x01": 8,
        b"OLYMP\x00": 8,
        b"EPSON\x00": 8,
    },
    **{b"SANYO\x00": 8, b"Ricoh": 8, b"RICOH": 8, b"LEICA\x00\x00": 8, b"SIGMA\x00": 10},
    **{b"FOVEON\x00": 10, b"SONY": 12, b"VHAB": 12, b"Panasonic\x00": 12},
}
"""Where the directory starts, behind the maker's name; others start at once or nearby."""
_OTHER_STARTS = (0, 4, 6, 8, 10, 12, 18)
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


class _Listed(NamedTuple):
    """A directory."""

    order: str
    end: int
    """Position behind its last tag."""
    far: list[_Far]


def moved_note(note: bytes, order: str, old: int, new: int) -> bytes | None:
    """A note from position `old` of a file, for position `new` of another; None if it cannot move.

    It cannot if it refers to data outside itself, or if its form is unknown. Some programs change
    the byte order of a file and not that of the note, so both are tried.
    """
    if old == new or note.startswith((*_OWN_POSITIONS, *_WITHOUT_POSITIONS)):
        return note
    known = [start for head, start in _STARTS.items() if note.startswith(head)]
    found = [
        listed
        for start in known or _OTHER_STARTS
        for own in (order, _OTHER[order])
        if (listed := _directory(note, own, start)) is not None
    ]
    # Bytes that only look like a directory have positions anywhere, or hardly any.
    for listed in sorted(found, key=lambda one: -len(one.far)):
        moved = _moved(note, listed, old, new)
        if moved is not None:
            return moved
    return note if not found and set(note.rstrip(b"\0")[:64]) <= _PRINTABLE else None


def _moved(note: bytes, listed: _Listed, old: int, new: int) -> bytes | None:
    """The note, a directory, for a new position."""
    footer = _footer(note, listed.order)
    for base in (old, footer):  # a program may have moved the note and not its positions
        if base is None or not _counts_from(base, listed, len(note)):
            continue
        moved = bytearray(note)
        if not _shift(moved, listed, base, new):
            return None
        if footer is not None:
            struct.pack_into(listed.order + "I", moved, len(note) - 4, new)
        return bytes(moved)
    inside = all(one.place + one.length <= len(note) and not one.nested for one in listed.far)
    return note if inside else None


def _counts_from(base: int, listed: _Listed, length: int) -> bool:
    """Whether positions count so that the note is at `base`, rather than from the note itself.

    Values stand behind the directory or behind the four bytes that link it with the next one.
    """
    if not all(base <= one.place <= base + length - one.length for one in listed.far):
        return False
    first = min((one.place for one in listed.far), default=base)

    def gap(place: int) -> int:
        return min(abs(place - listed.end), abs(place - listed.end - 4))

    return gap(first - base) <= gap(first)


def _shift(moved: bytearray, listed: _Listed, base: int, new: int) -> bool:
    """Shifts the positions of a directory and of nested ones; False if one is no directory."""
    for one in listed.far:
        if one.nested:
            inner = _directory(bytes(moved), listed.order, one.place - base)
            if inner is None or not _shift(moved, inner, base, new):
                return False
        struct.pack_into(listed.order + "I", moved, one.at, one.place - base + new)
    return True


def _footer(note: bytes, order: str) -> int | None:
    """The position of the note that Canon's notes end with; None if there is none."""
    if note[-8:-4] != _MARKS[order]:
        return None
    return int(struct.unpack_from(order + "I", note, len(note) - 4)[0])


def _directory(note: bytes, order: str, start: int) -> _Listed | None:
    """The directory at `start`; None if there is no plain one."""
    try:
        (count,) = struct.unpack_from(order + "H", note, start)
        if not 0 < count <= _MOST_TAGS or start < 0:
            return None
        return _Listed(order, start + 2 + 12 * count, list(_far(note, order, start + 2, count)))
    except (struct.error, KeyError):
        return None


def _far(note: bytes, order: str, first: int, count: int) -> Iterator[_Far]:
    """The values that are stored outside a directory."""
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
