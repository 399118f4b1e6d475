"""Colour profiles for files that name their colours without one (ICC.1:2001-04, version 2)."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

_D50 = (0.9642, 1.0, 0.8249)
_BRADFORD = np.array(
    ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))
)
"""The cone responses of Bradford's chromatic adaptation (ICC.1:2001-04, annex E)."""
Chromaticity = tuple[float, float]
SRGB: tuple[Chromaticity, ...] = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
"""Primaries of sRGB (IEC 61966-2-1)."""
ADOBE_RGB: tuple[Chromaticity, ...] = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
"""Primaries of Adobe RGB (1998)."""
D65: Chromaticity = (0.3127, 0.3290)
ADOBE_GAMMA = 563 / 256


def adobe_rgb_profile() -> bytes:
    """A profile of Adobe RGB (1998), for files that name it by EXIF's interoperability index."""
    return matrix_profile("compatible with Adobe RGB (1998)", ADOBE_RGB, D65, ADOBE_GAMMA)


def matrix_profile(
    name: str, primaries: tuple[Chromaticity, ...], white: Chromaticity, gamma: float
) -> bytes:
    """A profile of three primaries and a power law.

    Args:
        name: description of the profile, ASCII.
        primaries: chromaticities (x, y) of red, green and blue.
        white: chromaticity of the white point.
        gamma: linear = encoded ** gamma.

    Raises:
        ValueError: the primaries span no colours.
    """
    matrix = _to_d50(primaries, white)
    curve = b"curv" + struct.pack(">IIH", 0, 1, min(max(round(gamma * 256), 1), 65535)) + b"\0\0"
    text = name.encode("ascii") + b"\0"
    described = b"desc" + struct.pack(">II", 0, len(text)) + text + bytes(4 + 4 + 2 + 1 + 67)
    tags = {
        b"desc": described,
        b"cprt": b"text" + bytes(4) + b"public domain\0",
        b"wtpt": _xyz(_D50),
        **{
            kind: _xyz(column)
            for kind, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), matrix.T, strict=True)
        },
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    return _profile(tags)


def _to_d50(primaries: tuple[Chromaticity, ...], white: Chromaticity) -> NDArray[np.float64]:
    """The matrix of linear RGB → XYZ, adapted to the profile's white, D50."""
    columns = np.array([_from_xy(*point) for point in primaries]).T
    source = np.array(_from_xy(*white))
    try:
        matrix = columns * np.linalg.solve(columns, source)
        cones = np.diag((_BRADFORD @ _D50) / (_BRADFORD @ source))
        adapted: NDArray[np.float64] = np.linalg.inv(_BRADFORD) @ cones @ _BRADFORD @ matrix
    except np.linalg.LinAlgError as error:
        raise ValueError("primaries that span no colours") from error
    if not np.isfinite(adapted).all() or np.abs(adapted).max() > 4:
        raise ValueError("primaries that span no colours")
    return adapted


def _from_xy(x: float, y: float) -> tuple[float, float, float]:
    if y <= 0:
        raise ValueError("primaries that span no colours")
    return x / y, 1.0, (1 - x - y) / y


def _xyz(values: object) -> bytes:
    numbers = [round(float(value) * 65536) for value in values]  # type: ignore[attr-defined]
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *numbers)


def _profile(tags: dict[bytes, bytes]) -> bytes:
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for kind, content in tags.items():
        padded = content + bytes(-len(content) % 4)
        table += kind + struct.pack(">II", start + len(body), len(content))
        body += padded
    size = start + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"\0\0\0\0", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H4s4s", 2026, 1, 1, 0, 0, 0, b"acsp", b"\0\0\0\0")
    head = head.ljust(68, b"\0") + struct.pack(">3i", *(round(v * 65536) for v in _D50))
    return head.ljust(128, b"\0") + table + body
