"""EXIF blocks: read, and updated in place for upright, corrected pixels.

Makers' notes contain positions within the block, which would be wrong in a rewritten one. A block
is therefore changed in place, and grows at its end only.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from warp_train.photos.ifd import (
    INTEGER_KINDS,
    LONG,
    SHORT,
    SIZES,
    Block,
    Directory,
    Entry,
    open_block,
    packed,
    without_entries,
)
from warp_train.photos.previews import replace_previews
from warp_train.photos.tiff_tags import ORIENTATION as ORIENTATION
from warp_train.photos.tiff_tags import false_tags

EXIF_HEADER = b"Exif\x00\x00"
"""Precedes the block in JPEG and some other files."""
EXIF_IFD, GPS_IFD, INTEROP_IFD, MAKER_NOTE = 0x8769, 0x8825, 0xA005, 0x927C
_SUBJECT_AREA, _SUBJECT_LOCATION = 0x9214, 0xA214
_COMPRESSION, _JPEG_AT, _JPEG_LENGTH = 0x0103, 0x0201, 0x0202
_WIDTHS, _HEIGHTS = frozenset((0x0100, 0xA002, 0x1001)), frozenset((0x0101, 0xA003, 0x1002))
_SIGNED = frozenset((6, 8, 9))
_ADOBE_RGB = b"R03"

Points = NDArray[np.float64]
"""[n, 2] positions (x, y) in pixels."""
Box = tuple[float, float, float, float]
"""(left, top, right, bottom) in pixels of a picture."""


@dataclass(frozen=True)
class ExifUpdate:
    """What changes in an EXIF block."""

    height: int
    """Of the new pixels, as is `width`."""
    width: int
    move: Callable[[Box], Box | None]
    """A box in the stored pixels → in the new pixels; None outside them."""
    thumbnail: Callable[[int], tuple[bytes, int, int]]
    """A JPEG of the new pixels whose long side is at most that many pixels, its width, height."""


def orientation_of(exif: bytes) -> int | None:
    """The orientation 1..8 of an EXIF block or a TIFF; None if it is missing or invalid.

    The standard type is SHORT; files with any other type of whole numbers exist, and are shown
    rotated.
    """
    try:
        block = open_block(exif)
        value = block.number(block.directory(block.first), ORIENTATION)
    except ValueError:
        return None
    return value if value is not None and 1 <= value <= 8 else None


def has_orientation(exif: bytes) -> bool:
    """Whether an EXIF block has an orientation, valid or not."""
    try:
        block = open_block(exif)
        return ORIENTATION in block.directory(block.first).entries
    except ValueError:
        return False


def is_adobe_rgb(exif: bytes) -> bool:
    """Whether the pixels are Adobe RGB by the interoperability index (DCF 2.0, section 5.3)."""
    try:
        block = open_block(exif)
        first = block.directory(block.first)
    except ValueError:
        return False
    details = block.sub_directory(first, EXIF_IFD)
    interop = block.sub_directory(details, INTEROP_IFD) if details else None
    index = interop.entries.get(1) if interop else None
    return index is not None and index.value.startswith(_ADOBE_RGB)


def without_tags(exif: bytes, unwanted: frozenset[int]) -> bytes:
    """The block without some tags of its first directory; empty if no other tag is left.

    An orientation that is given twice is given once. Raises ValueError if the block is damaged.
    """
    block = open_block(exif)
    if block.big:
        raise ValueError("an EXIF block in a BigTIFF structure")
    first = block.directory(block.first)
    exif = without_entries(exif, block.order, first, unwanted, once=ORIENTATION)
    (left,) = struct.unpack_from(block.order + "H", exif, block.first)
    return exif if left else b""


def updated_exif(exif: bytes, update: ExifUpdate) -> tuple[bytes, list[str]]:
    """The block for the new pixels, and warnings on what was left out.

    Raises ValueError if its directories are damaged.
    """
    old = open_block(exif)
    false, lost = false_tags(old.directory(old.first).entries)
    exif = without_tags(exif, false)
    if not exif:
        return b"", lost
    block = open_block(exif)
    first = block.directory(block.first)
    details = block.sub_directory(first, EXIF_IFD)
    interop = block.sub_directory(details, INTEROP_IFD) if details else None
    place = block.sub_directory(first, GPS_IFD)
    patch = _Patch(block, bytearray(exif), [one for one in (first, details, interop, place) if one])
    outside: set[int] = set()
    for directory in (first, details, interop):
        for entry in directory.entries.values() if directory else ():
            if entry.tag in _WIDTHS:
                patch.set_number(entry, update.width)
            elif entry.tag in _HEIGHTS:
                patch.set_number(entry, update.height)
            elif entry.tag == ORIENTATION and directory is first:
                patch.set_upright(entry)
            elif entry.tag in (_SUBJECT_AREA, _SUBJECT_LOCATION) and directory is details:
                outside |= patch.move_subject(entry, update.move)
            elif entry.tag == MAKER_NOTE and directory is details:
                end = entry.at + len(entry.value)
                replace_previews(patch.data, entry.at, end, update.thumbnail)
    patch.replace_thumbnail(first, update)
    new = bytes(patch.data)
    if details is not None and outside:
        new = without_entries(new, block.order, details, frozenset(outside), once=0)
        lost.append("its subject area in the EXIF was left out: it lies outside the crop")
    return new, lost


def moved_subject(
    numbers: Sequence[float], move: Callable[[Box], Box | None]
) -> tuple[int, ...] | None:
    """Moves a point (x, y), a circle (x, y, diameter) or a rectangle (x, y, width, height).

    x and y are those of its centre. Returns None if it is moved outside the new pixels.
    """
    x, y, *sizes = numbers
    across, down = (sizes[0], sizes[-1]) if sizes else (0, 0)
    box = move((x - across / 2, y - down / 2, x + across / 2, y + down / 2))
    if box is None:
        return None
    left, top, right, bottom = box
    across, down = right - left, bottom - top
    new = [(left + right) / 2, (top + bottom) / 2]
    new += ([], [max(across, down)], [across, down])[len(sizes)]
    return tuple(max(round(value), 0) for value in new)


class _Patch:
    """Changes of a block's bytes."""

    def __init__(self, block: Block, data: bytearray, directories: list[Directory]) -> None:
        self.block, self.data, self.directories = block, data, directories

    def set_number(self, entry: Entry, value: int) -> None:
        """A whole number in place of the entry's first one; as a LONG where its type is too short.

        An entry of several numbers, which is invalid, is left alone where its type is too short.
        """
        if entry.kind not in INTEGER_KINDS or not entry.count:
            return
        if value < 2 ** (8 * SIZES[entry.kind] - (entry.kind in _SIGNED)):
            self._write(entry, (value,))
        elif entry.count == 1:
            self._write_row(entry, struct.pack(self.block.order + "HII", LONG, 1, value))

    def set_upright(self, entry: Entry) -> None:
        """Orientation 1, as the SHORT that it has to be, whatever its type was."""
        if entry.kind in INTEGER_KINDS:
            self._write_row(entry, struct.pack(self.block.order + "HIHH", SHORT, 1, 1, 0))

    def move_subject(self, entry: Entry, move: Callable[[Box], Box | None]) -> set[int]:
        """Moves a subject; returns its tag if it is outside the new pixels."""
        if entry.kind not in INTEGER_KINDS or entry.count not in (2, 3, 4):
            return set()
        new = moved_subject(self.block.numbers(entry), move)
        if new is None:
            return {entry.tag}
        self._write(entry, [min(value, 65535) for value in new])
        return set()

    def replace_thumbnail(self, first: Directory, update: ExifUpdate) -> None:
        """Replaces the JPEG thumbnail, to whose directory the first one links.

        One that is stored otherwise, or shares its place with other data, is unlinked.
        """
        if not first.next:
            return
        try:
            second = self.block.directory(first.next)
        except ValueError:
            self._unlink(first)
            return
        at, length = (self.block.number(second, tag) for tag in (_JPEG_AT, _JPEG_LENGTH))
        entries = [second.entries.get(tag) for tag in (_JPEG_AT, _JPEG_LENGTH)]
        if at is None or length is None or self.data[at : at + 2] != b"\xff\xd8":
            self._unlink(first)
            return
        if any(_overlaps(one, at, length) for one in (second, *self.directories)):
            self._unlink(first)
            return
        new, *size = update.thumbnail(160)
        if at + length >= len(self.data):  # the last thing of the block, as usual
            del self.data[at:]
        else:
            self.data[at : at + length] = bytes(length)
        if len(new) > length:
            at = len(self.data)
        if at == len(self.data):
            self.data += new
        else:
            self.data[at : at + len(new)] = new
        for entry, value in zip(entries, (at, len(new)), strict=True):
            assert entry is not None
            self.set_number(entry, value)
        for tag, side in zip((0x0100, 0x0101), size, strict=True):
            if (measured := second.entries.get(tag)) is not None:
                self.set_number(measured, side)
        if (turned := second.entries.get(ORIENTATION)) is not None:
            self.set_upright(turned)

    def _unlink(self, directory: Directory) -> None:
        struct.pack_into(self.block.order + "I", self.data, directory.link, 0)

    def _write_row(self, entry: Entry, row: bytes) -> None:
        """Type, count and value of an entry, which is then in its row, wherever it was."""
        self.data[entry.place + 2 : entry.place + 12] = row

    def _write(self, entry: Entry, values: list[int] | tuple[int]) -> None:
        value = packed(self.block.order, entry.kind, values)
        end = entry.at + len(value)
        if len(entry.value) > 4 and any(
            start < end and entry.at < stop
            for start, stop in ((0, 8), *((one.at, one.link) for one in self.directories))
        ):
            return  # its position is damaged: it is that of other tags
        self.data[entry.at : entry.at + len(value)] = value


def _overlaps(directory: Directory, at: int, length: int) -> bool:
    """Whether a part of the block contains rows or values of a directory.

    The link behind the rows is not counted: some programs leave it out.
    """
    spans = [(directory.at, directory.link - directory.at)]
    spans += [(entry.at, len(entry.value)) for entry in directory.entries.values()]
    return any(start < at + length and at < start + size for start, size in spans)
