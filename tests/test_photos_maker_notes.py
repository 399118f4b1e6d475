"""A maker's note that moves reads as before: it equals one that was built at the new place."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from metadata_helpers import MARKS, Tag, directory, numbers, raw, text

from warp_train.photos.maker_notes import moved_note

OTHER = {"<": ">", ">": "<"}
TAGS: list[Tag] = [text(1, "a camera"), numbers("<", 2, "B", 1, 2, 3, 4), text(3, "of some make")]


def headed(head: bytes) -> Callable[[str, int], bytes]:
    """A directory behind the maker's name, whose positions count from the start of the file."""
    return lambda order, at: head + directory(order, TAGS, at + len(head))


def canon(order: str, at: int) -> bytes:
    """Canon's note ends with its own position."""
    return directory(order, TAGS, at) + MARKS[order] + struct.pack(order + "I", at)


def olympus(order: str, at: int) -> bytes:
    """In old notes the value of a tag is another directory, with positions of the same kind."""

    def outer(inner: bytes) -> bytes:
        return b"OLYMP\0\1\0" + directory(order, [*TAGS, raw(0x2010, inner)], at + 8)

    size = len(directory(order, TAGS, 0))
    return outer(directory(order, TAGS, at + len(outer(bytes(size))) - size))


NOTES = {
    "plain": headed(b""),
    "JVC": headed(b"JVC "),
    "Casio": headed(b"QVC\0\0\0"),
    "old Nikon": headed(b"Nikon\0\1\0"),
    "Sigma": headed(b"SIGMA\0\0\0\1\0"),
    "Panasonic": headed(b"Panasonic\0\0\0"),
    "Canon": canon,
    "Olympus": olympus,
}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("file", ["<", ">"])
@pytest.mark.parametrize("name", NOTES)
def test_positions_in_the_file_are_shifted(name: str, order: str, file: str) -> None:
    """Also where the note has another byte order than the file that it was copied into."""
    build = NOTES[name]
    for old, new in ((70_000, 8), (8, 70_000), (1234, 1236)):
        assert moved_note(build(order, old), file, old, new) == build(order, new)


@pytest.mark.parametrize("order", ["<", ">"])
def test_positions_that_a_program_forgot_to_shift_are_those_of_the_footer(order: str) -> None:
    assert moved_note(canon(order, 900), order, 5000, 8) == canon(order, 8)


OWN = [
    b"Nikon\0\2\x11\0\0II*\0\x08\0\0\0" + directory("<", TAGS, 8),
    b"FUJIFILM\x0c\0\0\0" + directory("<", TAGS, 12),
    b"Apple iOS\0\0\1MM" + directory(">", TAGS, 14),
    b"UNKNOWN\0" + directory("<", TAGS * 9, 8),
    b"KDK0100" + bytes(range(100)),
    b"VER:0100QTY:FINE",
]


@pytest.mark.parametrize("note", OWN, ids=lambda note: note[:5].decode("latin-1"))
def test_notes_without_positions_in_the_file_stay_as_they_are(note: bytes) -> None:
    for old, new in ((70_000, 8), (64, 8), (8, 3000)):
        assert moved_note(note, "<", old, new) == note


def test_a_note_that_refers_to_other_parts_of_the_file_cannot_move() -> None:
    outside = directory("<", TAGS, 5000)
    assert moved_note(outside, "<", 100_000, 8) is None
    ricoh = b"Ricoh\0\0\0" + directory("<", [raw(0x2001, b"[Ricoh Camera Info]" + bytes(9))], 1008)
    assert moved_note(ricoh, "<", 1000, 8) is None
    assert moved_note(bytes(range(128, 256)), "<", 1000, 8) is None
