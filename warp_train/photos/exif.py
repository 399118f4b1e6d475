"""EXIF blocks: read, and updated in place for upright, corrected pixels.

Makers' notes contain positions within the block, which would be wrong in a rewritten one. A block
is therefore changed in place, and grows at its end only.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
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
)

EXIF_HEADER = b"Exif\x00\x00"
"""Precedes the block in JPEG and some other files."""
ORIENTATION, EXIF_IFD, GPS_IFD, INTEROP_IFD, MAKER_NOTE = 0x0112, 0x8769, 0x8825, 0xA005, 0x927C
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
    thumbnail: Callable[[int], bytes]
    """A JPEG of the new pixels whose long side is at most that many pixels."""


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


def updated_exif(exif: bytes, update: ExifUpdate) -> bytes:
    """The block for the new pixels. Raises ValueError if its directories are damaged."""
    block = open_block(exif)
    if block.big:
        raise ValueError("a BigTIFF structure, which EXIF is not")
    first = block.directory(block.first)
    details = block.sub_directory(first, EXIF_IFD)
    interop = block.sub_directory(details, INTEROP_IFD) if details else None
    place = block.sub_directory(first, GPS_IFD)
    patch = _Patch(block, bytearray(exif), [one for one in (first, details, interop, place) if one])
    for directory in (first, details, interop):
        for entry in directory.entries.values() if directory else ():
            if entry.tag in _WIDTHS:
                patch.set_number(entry, update.width)
            elif entry.tag in _HEIGHTS:
                patch.set_number(entry, update.height)
            elif entry.tag == ORIENTATION and directory is first:
                patch.set_upright(entry)
            elif entry.tag in (_SUBJECT_AREA, _SUBJECT_LOCATION) and directory is details:
                patch.move_subject(entry, update.move)
    patch.replace_thumbnail(first, update)
    return bytes(patch.data)


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
        if entry.kind in INTEGER_KINDS and entry.count == 1:
            self._write_row(entry, struct.pack(self.block.order + "HIHH", SHORT, 1, 1, 0))
        else:
            self.set_number(entry, 1)

    def move_subject(self, entry: Entry, move: Callable[[Box], Box | None]) -> None:
        """A point (x, y), a circle (x, y, diameter) or a rectangle (x, y, width, height)."""
        if entry.kind != SHORT or entry.count not in (2, 3, 4):
            return
        x, y, *sizes = self.block.numbers(entry)
        across, down = (sizes[0], sizes[-1]) if sizes else (0, 0)
        box = move((x - across / 2, y - down / 2, x + across / 2, y + down / 2))
        left, top, right, bottom = box or (0, 0, 0, 0)
        across, down = right - left, bottom - top
        new = [(left + right) / 2, (top + bottom) / 2]
        new += {0: [], 1: [max(across, down)], 2: [across, down]}[len(sizes)]
        self._write(entry, [min(max(round(value), 0), 65535) for value in new])

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
        new = update.thumbnail(160)
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
        if (turned := second.entries.get(ORIENTATION)) is not None:
            self.set_number(turned, 1)

    def _unlink(self, directory: Directory) -> None:
        struct.pack_into(self.block.order + "I", self.data, directory.link, 0)

    def _write_row(self, entry: Entry, row: bytes) -> None:
        """Type, count and value of an entry whose value is in its row, and not elsewhere."""
        self.data[entry.at - 6 : entry.at + 4] = row

    def _write(self, entry: Entry, values: list[int] | tuple[int]) -> None:
        value = packed(self.block.order, entry.kind, values)
        end = entry.at + len(value)
        if len(entry.value) > 4 and any(
            start < end and entry.at < stop
            for start, stop in ((0, 8), *((one.start, one.link) for one in self.directories))
        ):
            return  # its position is damaged: it is that of other tags
        self.data[entry.at : entry.at + len(value)] = value


def _overlaps(directory: Directory, at: int, length: int) -> bool:
    """Whether a part of the block contains rows or values of a directory.

    The link behind the rows is not counted: some programs leave it out.
    """
    spans = [(directory.start, directory.link - directory.start)]
    spans += [(entry.at, len(entry.value)) for entry in directory.entries.values()]
    return any(start < at + length and at < start + size for start, size in spans)
