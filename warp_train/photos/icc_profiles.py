"""Colour profiles for files that describe their colours without one: by the numbers of ITU-T H.273
(cICP, nclx), by primaries and a gamma (PNG), or by EXIF's interoperability index."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

_D65 = (0.3127, 0.3290)
_PRIMARIES: dict[int, tuple[str, tuple[float, ...], tuple[float, float]]] = {
    1: ("BT.709", (0.640, 0.330, 0.300, 0.600, 0.150, 0.060), _D65),
    5: ("BT.601 (625 lines)", (0.640, 0.330, 0.290, 0.600, 0.150, 0.060), _D65),
    6: ("BT.601 (525 lines)", (0.630, 0.340, 0.310, 0.595, 0.155, 0.070), _D65),
    7: ("SMPTE 240M", (0.630, 0.340, 0.310, 0.595, 0.155, 0.070), _D65),
    9: ("BT.2020", (0.708, 0.292, 0.170, 0.797, 0.131, 0.046), _D65),
    11: ("DCI-P3", (0.680, 0.320, 0.265, 0.690, 0.150, 0.060), (0.314, 0.351)),
    12: ("Display P3", (0.680, 0.320, 0.265, 0.690, 0.150, 0.060), _D65),
}
"""Name, x and y of red, green and blue, and of white, by H.273's number (table 2)."""
_BT709 = (
    1 / 0.45,
    1 / 1.099296826809442,
    0.099296826809442 / 1.099296826809442,
    1 / 4.5,
    0.0812429,
)
_SRGB = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_CURVES: dict[int, tuple[str, Sequence[float]]] = {
    1: ("BT.709", _BT709),
    4: ("gamma 2.2", (2.2,)),
    5: ("gamma 2.8", (2.8,)),
    6: ("BT.601", _BT709),
    8: ("linear", (1.0,)),
    13: ("sRGB", _SRGB),
    14: ("BT.2020", _BT709),
    15: ("BT.2020", _BT709),
    16: ("PQ", ()),
    18: ("HLG", ()),
}
"""Name and parameters (g, a, b, c, d of ICC's parametric curves) of each transfer function, by
H.273's number (table 3). Those of HDR are sampled."""
SRGB_PRIMARIES, D65 = _PRIMARIES[1][1], _D65
"""Chromaticities x and y of red, green and blue, and of the white point."""
_ADOBE_RGB = (0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
_ADOBE_GAMMA = 563 / 256
_HDR = (16, 18)
_SAMPLES = 4096
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
_D50 = np.array([0.9642, 1.0, 0.8249])


def is_srgb(primaries: int, transfer: int) -> bool:
    """Whether colours are sRGB, which is also meant by 2, "unspecified"."""
    return primaries in (1, 2) and transfer in (13, 2)


def is_hdr(transfer: int) -> bool:
    """Whether a transfer function is one of high dynamic range: PQ or HLG."""
    return transfer in _HDR


def colour_name(primaries: int, transfer: int) -> str:
    """Names such as `Display P3, sRGB curve`."""
    gamut = _PRIMARIES[primaries][0] if primaries in _PRIMARIES else f"primaries {primaries}"
    curve = f"{_CURVES[transfer][0]} curve" if transfer in _CURVES else f"transfer {transfer}"
    return f"{gamut}, {curve}"


def colour_profile(primaries: int, transfer: int, *, grey: bool = False) -> bytes | None:
    """An ICC profile (version 4.4, matrix and curves, with a `cicp` tag) of H.273's colours.

    "Unspecified" is sRGB's.

    Args:
        primaries: H.273's number.
        transfer: H.273's number.
        grey: a profile for pictures of one channel.

    Returns:
        The profile; None if the colours are not in the tables above.
    """
    primaries, transfer = 1 if primaries == 2 else primaries, 13 if transfer == 2 else transfer
    if primaries not in _PRIMARIES or transfer not in _CURVES:
        return None
    _, chromaticities, white = _PRIMARIES[primaries]
    name, curve = colour_name(primaries, transfer), _curve(transfer)
    numbers = b"cicp" + bytes((0, 0, 0, 0, primaries, transfer, 0, 1))
    more = {} if grey else {b"cicp": numbers}
    return _matrix_profile(name, chromaticities, white, curve, grey=grey, more=more)


def adobe_rgb_profile() -> bytes:
    """A profile of Adobe RGB (1998), for files that name it by EXIF's interoperability index."""
    return gamma_profile("Adobe RGB (1998), compatible", _ADOBE_RGB, _D65, _ADOBE_GAMMA)


def is_grey(profile: bytes) -> bool:
    """Whether a profile is for pictures of one channel."""
    return profile[16:20] == b"GRAY"


def profile_of_grey(profile: bytes) -> bytes | None:
    """A profile for RGB in which equal channels look as in a grey profile.

    Returns None if the profile has no curve of its light.
    """
    try:
        (count,) = struct.unpack_from(">I", profile, 128)
        for at in range(132, 132 + 12 * min(count, 100), 12):
            name, start, length = struct.unpack_from(">4sII", profile, at)
            curve = profile[start : start + length]
            if name == b"kTRC" and profile[20:24] == b"XYZ " and len(curve) == length > 8:
                title = "RGB with the curve of a grey profile"
                return _matrix_profile(title, SRGB_PRIMARIES, D65, curve, grey=False, more={})
    except struct.error:
        pass
    return None


def gamma_profile(
    name: str,
    chromaticities: Sequence[float],
    white: tuple[float, float],
    gamma: float,
    *,
    grey: bool = False,
) -> bytes:
    """A profile of three primaries and a power law, light = signal ** gamma.

    Args:
        name: description of the profile.
        chromaticities: x and y of red, green and blue.
        white: x and y of the white point.
        gamma: above zero.
        grey: a profile for pictures of one channel.

    Raises:
        ValueError: the primaries span no colours.
    """
    if not all(0 < value < 1 for value in (*chromaticities, *white)):
        raise ValueError("primaries that span no colours")
    try:
        curve = _numbers(b"para", (gamma,), bytes(4))
        return _matrix_profile(name, chromaticities, white, curve, grey=grey, more={})
    except (np.linalg.LinAlgError, struct.error, OverflowError, ValueError) as error:
        raise ValueError("primaries that span no colours") from error


def _matrix_profile(
    name: str,
    chromaticities: Sequence[float],
    white: tuple[float, float],
    curve: bytes,
    *,
    grey: bool,
    more: dict[bytes, bytes],
) -> bytes:
    adapted = _adaptation(_xyz(*white))
    tags = {
        b"desc": _text(name),
        b"cprt": _text("CC0"),
        b"wtpt": _numbers(b"XYZ ", _D50),
        b"chad": _numbers(b"sf32", adapted.ravel()),
    }
    if grey:
        tags[b"kTRC"] = curve
    else:
        columns = adapted @ _rgb_to_xyz(chromaticities, white)
        tags |= {b"%cXYZ" % c: _numbers(b"XYZ ", columns[:, n]) for n, c in enumerate(b"rgb")}
        tags |= {b"%cTRC" % c: curve for c in b"rgb"}
    return _profile(b"GRAY" if grey else b"RGB ", tags | more)


def _xyz(x: float, y: float) -> Matrix:
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _rgb_to_xyz(chromaticities: Sequence[float], white: tuple[float, float]) -> Matrix:
    pairs = zip(chromaticities[::2], chromaticities[1::2], strict=True)
    columns = np.stack([_xyz(x, y) for x, y in pairs], axis=1)
    scaled: Matrix = columns * np.linalg.solve(columns, _xyz(*white))
    return scaled


def _adaptation(white: Matrix) -> Matrix:
    """From a white to D50, by Bradford's method, as ICC prescribes."""
    gains = (_BRADFORD @ _D50) / (_BRADFORD @ white)
    adapted: Matrix = np.linalg.inv(_BRADFORD) @ np.diag(gains) @ _BRADFORD
    return adapted


def _curve(transfer: int) -> bytes:
    parameters = _CURVES[transfer][1]
    if parameters:
        kind = 3 if len(parameters) == 5 else 0
        return _numbers(b"para", parameters, struct.pack(">HH", kind, 0))
    signal = np.linspace(0, 1, _SAMPLES)
    light = _pq(signal) if transfer == 16 else _hlg(signal)
    values = np.rint(light * 65535).astype(">u2").tobytes()
    return b"curv" + struct.pack(">II", 0, _SAMPLES) + values


def _pq(signal: Matrix) -> Matrix:
    """Light relative to 10000 cd/m² (SMPTE ST 2084)."""
    root = signal ** (32 / 2523)
    light: Matrix = np.maximum(root - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * root)
    return light ** (16384 / 2610)


def _hlg(signal: Matrix) -> Matrix:
    """Light of the scene relative to the brightest (ARIB STD-B67)."""
    bright = (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12
    return np.where(signal <= 0.5, signal**2 / 3, bright)


def _numbers(kind: bytes, numbers: Sequence[float] | Matrix, start: bytes = b"") -> bytes:
    """A tag of numbers in 1/65536."""
    fixed = [round(float(number) * 65536) for number in numbers]
    return kind + bytes(4) + start + struct.pack(f">{len(fixed)}i", *fixed)


def _text(words: str) -> bytes:
    coded = words.encode("utf-16-be")
    return b"mluc" + struct.pack(">III4sII", 0, 1, 12, b"enUS", len(coded), 28) + coded


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    head = struct.pack(
        ">4x4sI4s4s4s12s4s28x12s48x",
        bytes(4),
        0x04400000,
        b"mntr",
        space,
        b"XYZ ",
        struct.pack(">6H", 2024, 1, 1, 0, 0, 0),
        b"acsp",
        _numbers(b"", _D50)[4:],
    )
    places, content = [], b""
    start = 128 + 4 + 12 * len(tags)
    written: dict[bytes, int] = {}  # equal tags share their place
    for name, tag in tags.items():
        if tag not in written:
            written[tag] = start + len(content)
            content += tag + bytes(-len(tag) % 4)
        places.append(struct.pack(">4sII", name, written[tag], len(tag)))
    body = struct.pack(">I", len(tags)) + b"".join(places) + content
    return struct.pack(">I", len(head) + len(body)) + head[4:] + body
