"""Photo files of unusual kinds, built byte by byte."""

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from warp_train.photos.jpeg_segments import JpegParts, jpeg_parts

Array = NDArray[Any]
END = b"\xff\xd9"
XMP_HEADER = b"http://ns.adobe.com/xap/1.0/\0"


def upright(stored: Array, orientation: int) -> Array:
    """Stored pixels [h, w, C] as EXIF's table of orientations describes them."""
    swapped: Array = stored.transpose(1, 0, 2)
    turned: dict[int, Array] = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: swapped,
        6: swapped[:, ::-1],
        7: swapped[::-1, ::-1],
        8: swapped[::-1],
    }
    return turned[orientation]


def saved(picture: Array | Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    """A file by Pillow."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture.squeeze())
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def segment(marker: int, content: bytes) -> bytes:
    """A segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def inserted(jpeg: bytes, *segments: bytes) -> bytes:
    """A JPEG with segments behind its first marker."""
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def exif_segment(orientation: int) -> bytes:
    """EXIF with an orientation and nothing else."""
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    return segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + entry + bytes(4))


def xmp_segment(properties: str, inside: str = "") -> bytes:
    """An XMP packet of one description."""
    spaces = {
        "hdrgm": "http://ns.adobe.com/hdr-gain-map/1.0/",
        "Container": "http://ns.google.com/photos/1.0/container/",
        "Item": "http://ns.google.com/photos/1.0/container/item/",
        "GCamera": "http://ns.google.com/photos/1.0/camera/",
    }
    used = {name: uri for name, uri in spaces.items() if f"{name}:" in properties + inside}
    declared = "".join(f' xmlns:{name}="{uri}"' for name, uri in used.items())
    return segment(
        0xE1,
        XMP_HEADER
        + (
            '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
            '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
            f'<rdf:Description rdf:about=""{declared} {properties}>{inside}</rdf:Description>'
            "</rdf:RDF></x:xmpmeta>"
        ).encode(),
    )


def jpegs_in(data: bytes) -> tuple[list[tuple[bytes, JpegParts]], bytes]:
    """The pictures that follow one another in a file, and the bytes behind them."""
    found, at = [], 0
    while data[at : at + 3] == b"\xff\xd8\xff":
        end = jpeg_parts(data, at).end
        found.append((data[at:end], jpeg_parts(data[at:end])))
        at = end
    return found, data[at:]


def tiff_file(tags: Sequence[tuple[int, int, Sequence[int]]], strips: Sequence[bytes]) -> bytes:
    """A little-endian TIFF of one page.

    Args:
        tags: (tag, 3 SHORT or 4 LONG, values), without the places of the strips.
        strips: in the order of the file.
    """
    data, starts = b"II*\0\0\0\0\0", []
    for strip in strips:
        starts.append(len(data))
        data += strip + bytes(len(strip) % 2)
    entries = sorted([*tags, (273, 4, starts), (279, 4, [len(strip) for strip in strips])])
    values, at = b"", len(data) + 2 + 12 * len(entries) + 4
    directory = struct.pack("<H", len(entries))
    for tag, kind, numbers in entries:
        value = struct.pack(f"<{len(numbers)}{'HI'[kind == 4]}", *numbers)
        place = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", at + len(values))
        directory += struct.pack("<HHI", tag, kind, len(numbers)) + place
        values += (value + bytes(len(value) % 2)) if len(value) > 4 else b""
    return data[:4] + struct.pack("<I", len(data)) + data[8:] + directory + bytes(4) + values


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def png_file(
    samples: Array, bits: int, colour: int, before: bytes = b"", interlaced: bool = False
) -> bytes:
    """A PNG of [h, w, C] samples.

    Args:
        bits: of a sample, 1 to 16.
        colour: type of the colours: 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGB and alpha.
        before: chunks in front of the pixels.
    """
    passes = [(0, 0, 1, 1)]
    if interlaced:
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4)]
        passes += [(1, 0, 2, 2), (0, 1, 1, 2)]
    rows = b""
    for left, top, across, down in passes:
        part = samples[top::down, left::across]
        rows += b"".join(b"\0" + _packed(row, bits) for row in part) if part.size else b""
    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, int(interlaced))
    chunks = chunk(b"IHDR", header) + before + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunks + chunk(b"IEND", b"")


def _packed(row: Array, bits: int) -> bytes:
    if bits == 16:
        return row.astype(">u2").tobytes()
    flat = row.reshape(-1, 1).astype(np.uint8)
    return np.packbits(np.unpackbits(flat, axis=1)[:, 8 - bits :].reshape(-1)).tobytes()


def cmyk_profile() -> bytes:
    """A colour profile of four inks: a table of 16 colours, in Lab (ICC.1, `lut8Type`)."""
    straight = bytes(range(256))
    corners = b""
    for inks in np.ndindex(2, 2, 2, 2):
        cyan, magenta, yellow, black = inks
        light = 255 * (1 - black) * (1 - 0.3 * cyan) * (1 - 0.4 * magenta) * (1 - 0.1 * yellow)
        a = 128 + 60 * (magenta - cyan) * (1 - black)
        b = 128 + 60 * (yellow - (cyan + magenta) / 2) * (1 - black)
        corners += bytes(int(value) for value in (light, a, b))
    unit = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    table = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + unit + straight * 4 + corners + straight * 3
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    text = b"desc" + bytes(4) + struct.pack(">I", 5) + b"inks\0" + bytes(78)
    parts = {b"desc": text, b"wtpt": white, b"A2B0": table}
    at, index, body = 128 + 4 + 12 * len(parts), struct.pack(">I", len(parts)), b""
    for name, content in parts.items():
        index += name + struct.pack(">II", at + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = struct.pack(
        ">I4sI4s4s4s", at + len(body), b"lcms", 0x02400000, b"prtr", b"CMYK", b"Lab "
    )
    header += struct.pack(">6H4s", 2024, 1, 1, 0, 0, 0, b"acsp") + bytes(28)
    header += struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + index + body
