"""Moves a camera maker's note to another position in a file.

Most notes are a directory of tags, whose positions count from the start of the file or from the
start of the note. Only the first kind depends on where the note is.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from warp_train.photos.ifd import IFD, SIZES

_OWN_POSITIONS = (b"Nikon\x00\x02", b"OLYMPUS\x00", b"OM SYSTEM", b"FUJIFILM", b"Apple iOS\x00")
"""Starts of notes whose positions count from the note."""
_STARTS = (0, 6, 8, 10, 12)
"""Where the directory starts, behind the maker's name."""
_MOST_TAGS = 1024


class _Far(NamedTuple):
    """A value that is stored outside the directory."""

    at: int
    """Where its position is stored."""
    place: int
    length: int


def moved_note(note: bytes, order: str, old: int, new: int) -> bytes | None:
    """A note from position `old` of a file, for position `new` of another; None if it cannot move.

    It cannot if it refers to data outside itself, or if it is not a directory of tags.
    """
    if old == new or note.startswith(_OWN_POSITIONS):
        return note
    for start in _STARTS:
        far = _far_values(note, order, start)
        if far is None:
            continue
        if all(old <= one.place and one.place + one.length <= old + len(note) for one in far):
            moved = bytearray(note)
            for one in far:
                struct.pack_into(order + "I", moved, one.at, one.place - old + new)
            return bytes(moved)
        return note if all(one.place + one.length <= len(note) for one in far) else None
    return None


def _far_values(note: bytes, order: str, start: int) -> list[_Far] | None:
    """The values outside the directory at `start`; None if there is no plain directory."""
    far: list[_Far] = []
    try:
        (count,) = struct.unpack_from(order + "H", note, start)
        if not 0 < count <= _MOST_TAGS:
            return None
        for at in range(start + 2, start + 2 + 12 * count, 12):
            _, kind, number, place = struct.unpack_from(order + "HHII", note, at)
            if kind not in SIZES or kind == IFD:  # positions in a nested directory are unknown
                return None
            if SIZES[kind] * number > 4:
                far.append(_Far(at + 8, place, SIZES[kind] * number))
    except struct.error:
        return None
    return far
