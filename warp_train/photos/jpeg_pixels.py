"""The pixels of a JPEG as they are stored, and how they were compressed."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

import numpy as np
import simplejpeg
from PIL import Image as Pillow
from PIL.JpegImagePlugin import zigzag_index

from warp_train.photos.damage import clear_errors
from warp_train.photos.jpeg_segments import (
    APP0,
    APP14,
    SOS,
    JpegParts,
    frame_header,
    quantisation_tables,
    segment_bytes,
)
from warp_train.photos.pixels import Pixels

_EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
_JFIF = b"JFIF\0\1\1" + bytes((0, 0, 1, 0, 1, 0, 0))
"""Its presence means YCbCr."""
_FEW = 64
"""Spare bytes that encoders leave between the picture and the end marker."""
_COLOURS = {1: "GRAY", 3: "RGB", 4: "CMYK"}
_SAMPLING = {(1, 1): 0, (2, 1): 1, (2, 2): 2}


@dataclass(frozen=True)
class JpegCoding:
    """How a JPEG was compressed, so that another picture can be compressed in the same way."""

    tables: tuple[list[int], ...]
    """The quantisation table of each component, 64 values each in rows."""
    sampling: int
    """Chroma subsampling, 0: 4:4:4, 1: 4:2:2, 2: 4:2:0, -1: any other."""
    progressive: bool


def decode_jpeg(data: bytes, parts: JpegParts) -> Pixels | Pillow.Image:
    """The picture as stored: [H, W, 1 or 3] uint8, or an image of CMYK.

    Raises ValueError if a part of the picture is missing or damaged.
    """
    bits, components = frame_header(parts)
    if bits != 8 or len(components) not in _COLOURS:
        raise ValueError(f"a JPEG of {len(components)} components of {bits} bits: not supported")
    picture = _bare_jpeg(data, parts)
    colours = _COLOURS[len(components)]
    try:
        pixels = simplejpeg.decode_jpeg(picture, colours, strict=True)
    except ValueError as error:
        if _is_damage(str(error), picture):
            raise ValueError(f"damaged or truncated ({error})") from error
        pixels = None
    if pixels is None or len(components) == 4:
        return _by_pillow(picture)
    return np.asarray(pixels).reshape(*pixels.shape[:2], -1)


def _bare_jpeg(data: bytes, parts: JpegParts) -> bytes:
    """The JPEG without its metadata, of which decoders check some, and without stray bytes."""
    pieces = [b"\xff\xd8"]
    for number, segment in enumerate(parts.segments):
        if segment.marker == SOS:
            break
        if number == 0 and segment.marker == APP0 and segment.content.startswith(b"JFIF\0"):
            pieces.append(segment_bytes(APP0, _JFIF))  # decoders warn of versions but 1
        elif segment.marker == APP14 or not (APP0 <= segment.marker < APP0 + 16):
            pieces.append(segment_bytes(segment.marker, segment.content))
    return b"".join((*pieces, data[parts.scan : parts.end]))


def _by_pillow(data: bytes) -> Pixels | Pillow.Image:
    """CMYK, which Pillow inverts as Adobe does, and what simplejpeg refuses for less than damage:
    spare bytes, an unknown version, rare sampling factors."""
    with clear_errors():
        image = Pillow.open(io.BytesIO(data), formats=("JPEG",))
        image.load()
    if image.mode == "CMYK":
        return image
    pixels = np.array(image)
    return pixels.reshape(*pixels.shape[:2], -1)


def _is_damage(message: str, data: bytes) -> bool:
    """Whether a decoder's warning means that pixels are wrong.

    Bytes behind the last pixel are harmless, unless they were part of the picture: data that were
    overwritten with zeros end too early or too late.
    """
    if not message.startswith(("Corrupt JPEG data", "Premature end")):
        return False
    found = _EXTRANEOUS.search(message)
    if found is None:
        return True
    spare, body = int(found[1]), data[:-2]
    padding = len(body) - len(body.rstrip(body[-1:]))
    return spare > _FEW and not padding <= spare + _FEW


def jpeg_coding(parts: JpegParts) -> JpegCoding:
    """How the picture was compressed. Raises ValueError if its headers are damaged."""
    _, components = frame_header(parts)
    tables = quantisation_tables(parts)
    own = [tables.get(number, []) for _, _, number in components]
    rows = tuple([table[place] for place in zigzag_index] for table in own if len(table) == 64)
    if len(rows) != len(components):
        rows = ()
    while len(rows) > 1 and rows[-1] == rows[-2]:  # components may share a table
        rows = rows[:-1]
    progressive = any(segment.marker in (0xC2, 0xCA) for segment in parts.segments)
    return JpegCoding(rows, _sampling(components), progressive)


def _sampling(components: tuple[tuple[int, int, int], ...]) -> int:
    if len(components) != 3:
        return -1
    across, down = (
        [factors >> 4 for _, factors, _ in components],
        [f & 15 for _, f, _ in components],
    )
    if across[1] != across[2] or down[1] != down[2] or not (across[1] and down[1]):
        return -1
    ratio = (across[0] / across[1], down[0] / down[1])
    return (
        _SAMPLING.get((int(ratio[0]), int(ratio[1])), -1)
        if ratio[0] % 1 == ratio[1] % 1 == 0
        else -1
    )
