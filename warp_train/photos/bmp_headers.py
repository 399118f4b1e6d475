"""The headers of a BMP file: its colour profile, resolution and undeclared transparency."""

from __future__ import annotations

import struct

import numpy as np

_HEADER = 14
"""Position of the header that describes the picture."""
_PLAIN, _VERSION_5 = 40, 124
_EMBEDDED = b"DEBM"
"""The kind of the colours if the file contains a profile: the number `MBED`."""
_UNDECLARED = "its fourth channel was left out: the file does not declare it as transparency"


def bmp_metadata(data: bytes) -> tuple[bytes, tuple[float, float] | None, list[str]]:
    """The colour profile, the resolution in pixels per inch, and warnings on what is lost."""
    try:
        (size,) = struct.unpack_from("<I", data, _HEADER)
        if size < _PLAIN:
            return b"", None, []
        bits, coding = struct.unpack_from("<HI", data, _HEADER + 14)
        across, down = (value * 0.0254 for value in struct.unpack_from("<ii", data, _HEADER + 24))
        icc = _profile(data) if size >= _VERSION_5 else b""
    except struct.error:
        raise ValueError("truncated") from None
    dpi = (across, down) if min(across, down) > 0 else None
    return icc, dpi, [_UNDECLARED] if (bits, coding) == (32, 0) and _fourth_varies(data) else []


def _profile(data: bytes) -> bytes:
    if data[_HEADER + 56 : _HEADER + 60] != _EMBEDDED:
        return b""
    start, length = struct.unpack_from("<II", data, _HEADER + 112)
    return data[_HEADER + start : _HEADER + start + length]


def _fourth_varies(data: bytes) -> bool:
    (start,) = struct.unpack_from("<I", data, 10)
    fourth = np.frombuffer(data, np.uint8)[start + 3 :: 4]
    return bool(len(fourth)) and bool((fourth != fourth[0]).any())
