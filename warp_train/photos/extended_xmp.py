"""XMP that is too long for one segment of a JPEG, in two parts (XMP specification 3, 1.1.3.1)."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

from warp_train.photos.xmp import Packet

_NOTE = "xmpNote:HasExtendedXMP"
_DAMAGED = "its extended XMP is damaged or incomplete and was left out"
_MOST_XMP = 2**26
_PART = 65_000
"""Bytes of extended XMP in one segment."""


def whole_xmp(main: bytes, segments: Sequence[bytes]) -> tuple[bytes, list[str]]:
    """The XMP of a JPEG in one packet, and warnings on what was left out.

    Args:
        main: the packet in the first segment.
        segments: the contents of the further ones, behind their header: the MD5 sum of the extended
            part in 32 digits, its length, an offset, and what is there.
    """
    if not segments and _NOTE.encode() not in main:
        return main, []
    try:
        packet = Packet(main)
        name = (packet.value(_NOTE) or "").encode().upper()
        packet.remove(_NOTE)
        extended = _joined([one for one in segments if one[:32].upper() == name])
        if extended:
            packet.add_descriptions_of(Packet(extended))
    except ValueError:
        return main, [_DAMAGED] if segments else []
    return bytes(packet), [] if extended or not segments else [_DAMAGED]


def _joined(segments: Sequence[bytes]) -> bytes:
    """The extended part; empty if a piece of it is missing."""
    pieces: dict[int, bytes] = {}
    length = 0
    for segment in segments:
        if len(segment) > 40:
            length, at = struct.unpack_from(">II", segment, 32)
            pieces.setdefault(at, segment[40:])
    whole = b""
    for at in sorted(pieces):
        if at == len(whole):
            whole += pieces[at]
    return whole if len(whole) == length <= _MOST_XMP else b""


def split_xmp(xmp: bytes, room: int) -> tuple[bytes, list[bytes]]:
    """A packet of at most `room` bytes, and the contents of the segments for the rest.

    The largest properties go into the extended part: programs that read the first part only find
    most of them.

    Raises:
        ValueError: a packet that is too long cannot be parsed.
    """
    if len(xmp) <= room:
        return xmp, []
    packet, rest = Packet(xmp), Packet(b"")
    if len(packet.compact()) <= room:
        return packet.compact(), []
    sized = sorted(((place.size, place) for place in packet.own_places()), key=lambda one: -one[0])
    packet.set(_NOTE, "0" * 32)
    excess = len(packet.compact()) - room
    for size, place in sized:
        if excess <= 0:
            break
        rest.add(place)
        excess = excess - size if excess > size else len(packet.compact()) - room
    extended = rest.bare()
    digest = hashlib.md5(extended, usedforsecurity=False).hexdigest().upper()
    packet.set(_NOTE, digest)
    parts = [
        digest.encode() + struct.pack(">II", len(extended), at) + extended[at : at + _PART]
        for at in range(0, len(extended), _PART)
    ]
    return packet.compact(), parts
