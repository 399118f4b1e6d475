"""Builds the EXIF block of a TIFF, whose tags are spread over the file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from warp_train.photos.exif import EXIF_IFD, GPS_IFD, INTEROP_IFD, MAKER_NOTE
from warp_train.photos.ifd import LONG, SIZES, Block, Entry, directory_bytes, entry_of, open_block
from warp_train.photos.maker_notes import moved_note
from warp_train.photos.tiff_tags import fate_of

_START = 8
_LAST_PLACE = 60_000
"""A note that ends before it can stay where it is, in a block short enough for any format."""


def exif_of_tiff(data: bytes) -> tuple[bytes, list[str]]:
    """The photographic tags of a TIFF's first directory as a block, and warnings on lost tags.

    Returns an empty block if there are none. Raises ValueError if the directory is damaged.
    """
    block = open_block(data)
    first = block.directory(block.first)
    entries, lost = [], []
    for entry in first.entries.values():
        kept, note = fate_of(entry, block.order, "other block")
        entries += [entry] if kept else []
        lost += [note] if note and note not in lost else []
    details = block.sub_directory(first, EXIF_IFD)
    place = block.sub_directory(first, GPS_IFD)
    interop = block.sub_directory(details, INTEROP_IFD) if details else None
    for tag, directory in ((EXIF_IFD, details), (GPS_IFD, place)):
        if directory is None and tag in first.entries:
            lost.append(f"its {'EXIF' if tag == EXIF_IFD else 'GPS'} directory is damaged")
    built = _Built(block.order)
    inner = list(details.entries.values()) if details else []
    inner = [entry for entry in inner if entry.tag not in (INTEROP_IFD,)]
    inner, note_lost = built.with_note(inner)
    if interop:
        inner.append(built.pointer(INTEROP_IFD, interop.entries.values()))
    if inner:
        entries.append(built.pointer(EXIF_IFD, inner))
    if place:
        entries.append(built.pointer(GPS_IFD, place.entries.values()))
    return (built.finished(entries) if entries else b""), lost + note_lost


class _Built:
    """A block under construction."""

    def __init__(self, order: str) -> None:
        self.order = order
        mark = b"II*\x00" if order == "<" else b"MM\x00*"
        self.data = bytearray(mark + bytes(4))
        self.note: tuple[int, int] | None = None

    def with_note(self, entries: list[Entry]) -> tuple[list[Entry], list[str]]:
        """The entries without a maker's note that cannot be kept; places one that can."""
        note = next((entry for entry in entries if entry.tag == MAKER_NOTE), None)
        if note is None or len(note.value) <= 4:
            return entries, []
        fits = note.at >= _START and note.at + len(note.value) <= _LAST_PLACE
        at = note.at if fits else _START
        moved = moved_note(note.value, self.order, note.at, at)
        others = [entry for entry in entries if entry is not note]
        if moved is None:
            return others, ["its maker's note was left out: it refers to other parts of the file"]
        self.data = self.data.ljust(at, b"\0") + moved
        self.data += bytes(len(self.data) % 2)
        return [*others, replace(note, at=at)], []

    def pointer(self, tag: int, entries: Iterable[Entry]) -> Entry:
        """Adds a directory; returns the entry that points to it."""
        at = len(self.data)
        listed = [entry for entry in entries if entry.kind in SIZES]
        self.data += directory_bytes(self.order, listed, at, placed=(MAKER_NOTE,))
        return entry_of(self.order, tag, LONG, at)

    def finished(self, entries: list[Entry]) -> bytes:
        """The block with its first directory."""
        at = len(self.data)
        self.data += directory_bytes(self.order, entries, at)
        self.data[4:8] = at.to_bytes(4, "little" if self.order == "<" else "big")
        return bytes(self.data)


def first_directory(exif: bytes) -> tuple[Block, list[Entry], list[str]]:
    """The tags of a block's first directory that a TIFF with the same block may have.

    Returns:
        The block, the entries, which point into it, and warnings on lost tags.
    """
    block = open_block(exif)
    first = block.directory(block.first)
    entries, lost = [], []
    for entry in first.entries.values():
        kept, note = fate_of(entry, block.order, "same block")
        if kept or entry.tag in (EXIF_IFD, GPS_IFD):
            entries.append(entry)
        elif note and note not in lost:
            lost.append(note)
    return block, entries, lost
