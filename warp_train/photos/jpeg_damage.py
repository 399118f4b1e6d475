"""Damage of a JPEG that decoders pass over: overwritten and missing parts of its coded data."""

from __future__ import annotations

from warp_train.photos.jpeg_segments import DHT, Frame, JpegParts, Scan, frame_header

_RUN, _LONG_RUN = 32, 512
"""Zero bytes in a row that coded data do not have, unless zeros are a flat area there.

The longer one is for arithmetic coding, and for scans that refine other coefficients than the
first: they have up to 1000 correction bits in a row.
"""
LAST_ZEROS = 1
"""Zero bytes that the data of a whole picture may end with, in front of padding."""
_ZEROS = "its picture data are overwritten with zeros"
_STANDARD_DC, _STANDARD_AC = 0, 1
"""What zero bits are in the tables of T.81, annex K: no difference, and a coefficient of -1."""


def damage_of(data: bytes, parts: JpegParts, spare: int) -> str | None:
    """What is wrong with the coded data, as far as decoders are silent about it; None: nothing.

    Args:
        data: of the file.
        parts: of the picture.
        spare: number of bytes in front of the end marker that the decoder did not need.
    """
    frame = frame_header(parts)
    if not _is_complete(frame, parts):
        return "its last scans are missing"
    if frame.is_lossless:
        return None
    for scan in parts.scans:
        last = scan is parts.scans[-1]
        if _has_zeros(data, scan, frame, spare if last else 0, parts) and not (
            _are_zeros_flat(frame, scan, parts)
        ):
            return _ZEROS
    return None


def _has_zeros(data: bytes, scan: Scan, frame: Frame, spare: int, parts: JpegParts) -> bool:
    """Whether a scan contains a long run of zeros.

    Zeros behind the last pixel are padding, and harmless, unless they begin before it.
    """
    header = parts.segments[scan.number].content
    refines = frame.is_progressive and header[-3] > 0 and header[-1] >> 4 > 0
    run = _LONG_RUN if refines or frame.is_arithmetic else _RUN
    if data.find(bytes(run), scan.start, scan.end - spare) >= 0:
        return True
    coded = data[max(scan.start, scan.end - spare - run) : scan.end].rstrip(b"\xff")
    padding = len(coded) - len(coded.rstrip(b"\0"))
    return padding >= _RUN and padding > spare + LAST_ZEROS and not frame.is_arithmetic


def _are_zeros_flat(frame: Frame, scan: Scan, parts: JpegParts) -> bool:
    """Whether zero bits are an area of one colour in a scan, by its Huffman tables."""
    header = parts.segments[scan.number].content
    first, refined = header[-3] == 0, header[-1] >> 4 > 0
    if frame.is_progressive and first and refined:
        return True
    if frame.is_arithmetic or (frame.is_progressive and not first):
        return False
    symbols = _symbols_of_zeros(parts, scan.number)
    for selected in header[2 : 1 + 2 * header[0] : 2]:
        if symbols.get(selected >> 4, _STANDARD_DC) != 0:
            return False
        if not frame.is_progressive and symbols.get(16 + (selected & 15), _STANDARD_AC) != 0:
            return False
    return True


def _symbols_of_zeros(parts: JpegParts, before: int) -> dict[int, int]:
    """The symbol whose code is all zeros, for each Huffman table, by class and number."""
    symbols: dict[int, int] = {}
    for segment in parts.segments[:before]:
        content = segment.content if segment.marker == DHT else b""
        while len(content) > 17:
            symbols[content[0]] = content[17]  # codes are in ascending order
            content = content[17 + sum(content[1:17]) :]
    return symbols


def _is_complete(frame: Frame, parts: JpegParts) -> bool:
    """Whether the scans contain every bit of every coefficient."""
    missing = {one[0]: set(range(64 if frame.is_progressive else 1)) for one in frame.components}
    for scan in parts.scans:
        header = parts.segments[scan.number].content
        if not header or len(header) < 4 + 2 * header[0]:
            return False
        start, end, place = header[-3:]
        if frame.is_progressive and place & 15:
            continue
        known = set(range(start, end + 1)) if frame.is_progressive else {0}
        for component in header[1 : 1 + 2 * header[0] : 2]:
            missing.get(component, set()).difference_update(known)
    return not any(missing.values())
