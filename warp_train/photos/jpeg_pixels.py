"""The pixels of a JPEG as they are stored, and how they were compressed."""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import dataclass, replace

import numpy as np
import simplejpeg
from PIL import Image as Pillow
from PIL.JpegImagePlugin import zigzag_index

from warp_train.photos.damage import clear_errors
from warp_train.photos.jpeg_damage import LAST_ZEROS, damage_of
from warp_train.photos.jpeg_segments import (
    APP0,
    APP14,
    DAC,
    DHT,
    DQT,
    DRI,
    FRAMES,
    SOS,
    Frame,
    JpegParts,
    frame_header,
    quantisation_tables,
    segment_bytes,
)
from warp_train.photos.pixels import Pixels

_EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
_END = b"\xff\xd9"
_JFIF = b"JFIF\0\1\1" + bytes((0, 0, 1, 0, 1, 0, 0))
"""Its presence means YCbCr."""
_FEW = 64
"""Spare bytes that encoders leave between the picture and the end marker."""
_NEEDED = FRAMES | {APP0, APP14, DAC, DHT, DQT, DRI, SOS}
"""Markers that matter for the pixels."""
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

    def turned(self, orientation: int) -> JpegCoding:
        """That of the picture rotated upright: 4:2:2 would halve the other side's colours, too."""
        return replace(self, sampling=0) if orientation >= 5 and self.sampling == 1 else self


def decode_jpeg(
    data: bytes, parts: JpegParts, notes: list[str] | None = None
) -> Pixels | Pillow.Image:
    """The picture as stored: [H, W, 1 or 3] uint8, or an image of CMYK.

    Args:
        data: of the file.
        parts: of the picture in it.
        notes: gets warnings.

    Raises:
        ValueError: a part of the picture is missing or damaged.
    """
    frame = frame_header(parts)
    count = len(frame.components)
    if frame.bits != 8 or count not in _COLOURS:
        what = f"{frame.bits} bits a channel" if frame.bits != 8 else f"{count} channels"
        raise ValueError(
            f"a JPEG of {what} cannot be corrected: convert it to an ordinary JPEG or a TIFF first"
        )
    picture = _bare(data, parts, frame)
    pixels, spare = _decoded(picture, frame)
    wrong = damage_of(data, parts, spare)
    if wrong is not None:
        raise ValueError(f"damaged ({wrong})")
    tail = picture[:-2].rstrip(b"\xff")
    if spare > _FEW and len(set(tail[-spare:])) > 1 and notes is not None:
        notes.append(f"{spare} bytes of its data belong to no pixel: it may be damaged")
    if frame.is_lossless and notes is not None:
        notes.append("it is a lossless JPEG: as a JPEG, the result is compressed with loss")
    if count == 4:
        return _by_pillow(picture)
    array = np.asarray(_by_pillow(picture)) if pixels is None else pixels
    return array.reshape(*array.shape[:2], -1)


def _by_pillow(picture: bytes) -> Pillow.Image:
    """As Pillow decodes it, which inverts Adobe's CMYK, and reads every subsampling."""
    with clear_errors():
        image = Pillow.open(io.BytesIO(picture), formats=("JPEG",))
        image.load()
    return image


def _bare(data: bytes, parts: JpegParts, frame: Frame) -> bytes:
    """The picture with what decoders need: they refuse some markers and a height of zero."""
    pieces = [b"\xff\xd8"]
    first = parts.scans[0] if parts.scans else None
    if first is None:
        raise ValueError("damaged (it has no picture data)")
    for segment in parts.segments[: first.number + 1]:
        content = segment.content
        if segment.marker == APP0:
            if segment.content.startswith(b"JFIF\0") and len(pieces) == 1:
                pieces.append(segment_bytes(APP0, _JFIF))  # decoders warn of versions but 1
            continue
        if segment.marker in FRAMES:
            content = content[:1] + frame.height.to_bytes(2, "big") + content[3:]
        if segment.marker in _NEEDED:
            pieces.append(segment_bytes(segment.marker, content))
    return b"".join((*pieces, data[first.start : parts.end]))


def _decoded(picture: bytes, frame: Frame) -> tuple[Pixels | None, int]:
    """The pixels, None if only Pillow can decode them, and the number of bytes behind the last one.

    Raises ValueError if the decoder names damage.
    """
    colours = _COLOURS[len(frame.components)]
    try:
        return simplejpeg.decode_jpeg(picture, colours, strict=True), 0
    except ValueError as error:
        message = str(error)
    found = _EXTRANEOUS.search(message)
    if found is not None:
        return _without_spare(picture, int(found[1]), frame)
    if message.startswith(("Corrupt JPEG data", "Premature end")):
        raise ValueError(f"damaged or truncated ({message})")
    if "subsampling" in message:
        return None, 0
    try:
        return simplejpeg.decode_jpeg(picture, colours, strict=False), 0
    except ValueError as error:
        raise ValueError(f"damaged, or of an unknown kind ({error})") from error


def _without_spare(picture: bytes, spare: int, frame: Frame) -> tuple[Pixels | None, int]:
    """As `_decoded`, for a picture with bytes behind the last pixel.

    The decoder returns its last warning only, so that this one may hide another, and it reads ahead
    up to eight bytes. The picture is therefore decoded without the spare bytes.
    """
    body = picture[:-2].rstrip(b"\xff")
    zeros = len(body) - len(body.rstrip(b"\0"))
    if zeros >= spare and not frame.is_arithmetic:  # whose missing data are zeros
        for padding in range(zeros, zeros - LAST_ZEROS - 1, -1):
            with contextlib.suppress(ValueError):
                return _shortened(body, padding, frame)
    return _shortened(body, spare, frame)


def _shortened(body: bytes, spare: int, frame: Frame) -> tuple[Pixels | None, int]:
    pixels, more = _decoded(body[: len(body) - spare] + _END, frame)
    return pixels, spare + more


def jpeg_coding(parts: JpegParts) -> JpegCoding:
    """How the picture was compressed. Raises ValueError if its headers are damaged."""
    frame = frame_header(parts)
    tables = quantisation_tables(parts)
    own = [tables.get(number, []) for _, _, number in frame.components]
    rows = tuple([table[place] for place in zigzag_index] for table in own if len(table) == 64)
    if len(rows) != len(frame.components):
        rows = ()
    while len(rows) > 1 and rows[-1] == rows[-2]:  # components may share a table
        rows = rows[:-1]
    return JpegCoding(rows, _sampling(frame.components), frame.is_progressive)


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
