"""TIFF directories, in which TIFF files and EXIF blocks hold their tags (TIFF 6.0, section 2)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, IFD = 1, 2, 3, 4, 5, 7, 13
UTF8 = 129
"""A type that EXIF 3.0 adds."""

_CODES = {
    **{BYTE: "B", ASCII: "s", SHORT: "H", LONG: "I", 6: "b", UNDEFINED: "s", 8: "h", 9: "i"},
    **{11: "f", 12: "d", IFD: "I", 16: "Q", 17: "q", 18: "Q", UTF8: "s"},
}
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
SIZES[UTF8] = 1
_BIG_SIZES = {16: 8, 17: 8, 18: 8}
INTEGER_KINDS = frozenset((1, 3, 4, 6, 8, 9, 13, 16, 17, 18))
"""Types of whole numbers, signed ones included."""
_MOST_ENTRIES = 4096
_MOST_SHARES = 2
"""The values of a directory's tags together, relative to the file: they may share some bytes."""


@dataclass(frozen=True)
class Entry:
    """One tag of a directory."""

    tag: int
    kind: int
    """Type of the value, 1 (BYTE) to 18 (IFD8)."""
    count: int
    value: bytes
    """As stored, in the byte order of the file."""
    at: int
    """Position of the value in the file."""
    place: int = 0
    """Position of the entry in the directory."""


@dataclass(frozen=True)
class Directory:
    """The tags of one directory, and the position of the next one."""

    entries: Mapping[int, Entry]
    next: int
    """0: there is none."""
    link: int
    """Where the position of the next directory is stored."""
    at: int
    """Position of the directory, whose rows end at `link`."""


@dataclass(frozen=True)
class Block:
    """A TIFF structure: its bytes, and how they are read."""

    data: bytes = field(repr=False)
    order: str
    """`<` (little-endian) or `>`."""
    big: bool
    """BigTIFF, whose positions have 64 bits."""
    first: int
    """Position of the first directory."""

    def directory(self, at: int) -> Directory:
        """The directory at a position. Raises ValueError if it is not complete.

        Tags whose value lies outside the data or whose type is unknown are left out.
        """
        if at >= len(self.data):
            raise ValueError("truncated (a directory of tags is missing)")
        count_code, entry_size, link_code = ("Q", 20, "Q") if self.big else ("H", 12, "I")
        try:
            (count,) = struct.unpack_from(self.order + count_code, self.data, at)
            start = at + struct.calcsize(count_code)
            link = start + entry_size * count
            if not 0 < count <= _MOST_ENTRIES or at < 8:
                raise ValueError("damaged (a directory of tags is invalid)")
            places = range(start, link, entry_size)
            found, room = list[Entry](), _MOST_SHARES * len(self.data)
            for place in places:
                if (entry := self._entry(place)) is not None:
                    found.append(entry)
                    room -= len(entry.value)
                if room < 0:
                    raise ValueError("damaged (the values of its tags overlap)")
        except (struct.error, OverflowError):  # a position of 64 bits
            raise ValueError("damaged (a directory of tags is invalid)") from None
        try:
            (after,) = struct.unpack_from(self.order + link_code, self.data, link)
        except (struct.error, OverflowError):  # some programs leave out the last link
            after = 0
        return Directory({entry.tag: entry for entry in reversed(found)}, after, link, at)

    def sub_directory(self, directory: Directory, tag: int) -> Directory | None:
        """The directory that a tag points to; None if it is missing or damaged."""
        place = self.number(directory, tag)
        if place is None:
            return None
        try:
            return self.directory(place)
        except ValueError:
            return None

    def numbers(self, entry: Entry) -> tuple[float, ...]:
        """The values of an entry; none for text, and for fractions with a denominator of zero."""
        if entry.kind in (5, 10):
            code = "I" if entry.kind == 5 else "i"
            flat = struct.unpack(f"{self.order}{2 * entry.count}{code}", entry.value)
            pairs = list(zip(flat[::2], flat[1::2], strict=True))
            return tuple(a / b for a, b in pairs) if all(b for _, b in pairs) else ()
        code = _CODES[entry.kind]
        if code == "s":
            return ()
        return struct.unpack(f"{self.order}{entry.count}{code}", entry.value)

    def number(self, directory: Directory, tag: int) -> int | None:
        """The first value of a tag of whole numbers; None if it is missing or not a number."""
        entry = directory.entries.get(tag)
        if entry is None or entry.kind not in INTEGER_KINDS or not entry.count:
            return None
        return int(self.numbers(entry)[0])

    def _entry(self, place: int) -> Entry | None:
        head, room, code = (12, 8, "HHQ") if self.big else (8, 4, "HHI")
        tag, kind, count = struct.unpack_from(self.order + code, self.data, place)
        each = SIZES.get(kind) or (_BIG_SIZES.get(kind) if self.big else None)
        if each is None:
            return None
        length, at = each * count, place + head
        if length > room:
            (at,) = struct.unpack_from(self.order + ("Q" if self.big else "I"), self.data, at)
        value = self.data[at : at + length]
        return Entry(tag, kind, count, value, at, place) if len(value) == length else None


def without_entries(
    data: bytes, order: str, directory: Directory, unwanted: frozenset[int], once: int
) -> bytes:
    """The data with a classic directory that lacks some tags. Nothing outside it moves.

    Args:
        data: a TIFF structure.
        order: `<` or `>`.
        directory: one of its directories.
        unwanted: tags to leave out.
        once: a tag that is kept at its first place only: programs differ in which one they read.
    """
    start, kept, seen = directory.at + 2, [], False
    for place in range(start, directory.link, 12):
        (tag,) = struct.unpack_from(order + "H", data, place)
        if tag not in unwanted and not (tag == once and seen):
            kept.append(data[place : place + 12])
        seen = seen or tag == once
    if 12 * len(kept) == directory.link - start:
        return data
    listed = struct.pack(order + "H", len(kept)) + b"".join(kept)
    listed += struct.pack(order + "I", directory.next)
    whole = listed.ljust(directory.link + 4 - directory.at, b"\0")
    return data[: directory.at] + whole + data[directory.link + 4 :]


def open_block(data: bytes) -> Block:
    """The TIFF structure of a file or an EXIF block. Raises ValueError if it has no TIFF header."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    try:
        if order is None:
            raise ValueError("no TIFF header")
        (version,) = struct.unpack_from(order + "H", data, 2)
        if version not in (42, 43):
            raise ValueError("no TIFF header")
        code, at = ("Q", 8) if version == 43 else ("I", 4)
        (first,) = struct.unpack_from(order + code, data, at)
    except struct.error:
        raise ValueError("no TIFF header") from None
    return Block(data, order, version == 43, first)


def packed(order: str, kind: int, values: Iterable[float]) -> bytes:
    """Values of a numeric type as they are stored."""
    numbers = tuple(values)
    return struct.pack(f"{order}{len(numbers)}{_CODES[kind]}", *numbers)


def entry_of(order: str, tag: int, kind: int, *values: float) -> Entry:
    """An entry of numbers, for `directory_bytes`."""
    return Entry(tag, kind, len(values), packed(order, kind, values), 0)


def directory_bytes(
    order: str, entries: Iterable[Entry], at: int, placed: tuple[int, ...] = ()
) -> bytes:
    """A classic directory, without a next one, with its values behind it, for the position `at`.

    The values of the tags in `placed` are already in the file, at `Entry.at`.
    """
    listed = sorted(entries, key=lambda entry: entry.tag)
    beyond = at + 2 + 12 * len(listed) + 4
    head, values = [struct.pack(order + "H", len(listed))], b""
    for entry in listed:
        head.append(struct.pack(order + "HHI", entry.tag, entry.kind, entry.count))
        if len(entry.value) <= 4:
            head.append(entry.value.ljust(4, b"\0"))
        elif entry.tag in placed:
            head.append(struct.pack(order + "I", entry.at))
        else:
            head.append(struct.pack(order + "I", beyond + len(values)))
            values += entry.value + b"\0" * (len(entry.value) % 2)
    return b"".join((*head, b"\0\0\0\0", values))
