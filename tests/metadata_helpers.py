"""Metadata built by hand: TIFF directories, JPEG segments, PNG chunks and XMP packets."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from data_helpers import textured
from numpy.typing import NDArray
from PIL import Image
from rectify_helpers import run

Tag = tuple[int, int, int, bytes]
"""(tag, type, count, value)."""
FORMATS = {"jpeg": ".jpg", "png": ".png", "tiff": ".tif", "webp": ".webp"}
MARKS = {"<": b"II*\0", ">": b"MM\0*"}
_TYPES = {"B": 1, "H": 3, "I": 4, "b": 6, "h": 8, "i": 9}
NAMESPACES = {
    "aux": "http://ns.adobe.com/exif/1.0/aux/",
    "crs": "http://ns.adobe.com/camera-raw-settings/1.0/",
    "crss": "http://ns.adobe.com/camera-raw-saved-settings/1.0/",
    "darktable": "http://darktable.sf.net/",
    "dc": "http://purl.org/dc/elements/1.1/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "GPano": "http://ns.google.com/photos/1.0/panorama/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "MP": "http://ns.microsoft.com/photo/1.2/",
    "MPReg": "http://ns.microsoft.com/photo/1.2/t/Region#",
    "MPRI": "http://ns.microsoft.com/photo/1.2/t/RegionInfo#",
    "mwg-rs": "http://www.metadataworkinggroup.com/schemas/regions/",
    "my": "http://my.example/1/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "stArea": "http://ns.adobe.com/xmp/sType/Area#",
    "stDim": "http://ns.adobe.com/xap/1.0/sType/Dimensions#",
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "xmpNote": "http://ns.adobe.com/xmp/note/",
}


def numbers(order: str, tag: int, code: str, *values: int) -> Tag:
    """A tag of whole numbers; `code` as in `struct`."""
    return tag, _TYPES[code], len(values), struct.pack(f"{order}{len(values)}{code}", *values)


def text(tag: int, value: str, kind: int = 2) -> Tag:
    coded = value.encode() + b"\0"
    return tag, kind, len(coded), coded


def raw(tag: int, value: bytes, kind: int = 7) -> Tag:
    return tag, kind, len(value), value


def directory(order: str, tags: Iterable[Tag], at: int, following: int = 0) -> bytes:
    """A directory for the position `at`, with its values behind it."""
    listed = sorted(tags, key=lambda one: one[0])
    head, values = struct.pack(order + "H", len(listed)), b""
    beyond = at + 2 + 12 * len(listed) + 4
    for tag, kind, count, value in listed:
        head += struct.pack(order + "HHI", tag, kind, count)
        if len(value) <= 4:
            head += value.ljust(4, b"\0")
        else:
            head += struct.pack(order + "I", beyond + len(values))
            values += value + b"\0" * (len(value) % 2)
    return head + struct.pack(order + "I", following) + values


def exif_of(
    order: str,
    first: Iterable[Tag],
    details: Iterable[Tag] = (),
    thumbnail: bytes = b"",
    second: Iterable[Tag] = (),
) -> bytes:
    """An EXIF block whose first directory comes last, with a JPEG thumbnail if one is given."""
    data = MARKS[order] + bytes(4)
    listed, following = list(first), 0
    if details:
        listed.append(numbers(order, 0x8769, "I", len(data)))
        data += directory(order, details, len(data))
    if thumbnail:
        at = len(data)
        data += thumbnail + b"\0" * (len(thumbnail) % 2)
        following = len(data)
        where = [numbers(order, 0x201, "I", at), numbers(order, 0x202, "I", len(thumbnail))]
        data += directory(order, [*second, *where], following)
    head = data[:4] + struct.pack(order + "I", len(data))
    return head + data[8:] + directory(order, listed, len(data), following)


def jpeg_of(picture: NDArray[Any] | None = None) -> bytes:
    file = io.BytesIO()
    Image.fromarray(textured(160, 240) if picture is None else picture).save(
        file, "JPEG", quality=95, subsampling=0
    )
    return file.getvalue()


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def jpeg(
    exif: bytes = b"", xmp: bytes = b"", more: bytes = b"", picture: NDArray[Any] | None = None
) -> bytes:
    """A JPEG with an EXIF block, an XMP packet and further segments."""
    plain = jpeg_of(picture)
    parts = segment(0xE1, b"Exif\0\0" + exif) if exif else b""
    parts += segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp) if xmp else b""
    return plain[:2] + parts + more + plain[2:]


def jpeg_segments(data: bytes) -> list[tuple[int, bytes]]:
    """(marker, content) of the segments in front of the picture."""
    at, found = 2, []
    while data[at + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", data, at + 2)
        found.append((data[at + 1], data[at + 4 : at + 2 + length]))
        at += 2 + length
    return found


def png(chunks: Iterable[tuple[bytes, bytes]], after: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """A PNG with chunks in front of the pixels and behind them."""
    file = io.BytesIO()
    Image.fromarray(textured(160, 240)).save(file, "PNG")
    plain = file.getvalue()

    def coded(listed: Iterable[tuple[bytes, bytes]]) -> bytes:
        return b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in listed
        )

    return plain[:33] + coded(chunks) + plain[33:-12] + coded(after) + plain[-12:]


def xmp_chunk(xmp: bytes) -> tuple[bytes, bytes]:
    return b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp


def rdf(attributes: str = "", body: str = "") -> bytes:
    """An XMP packet."""
    spaces = " ".join(f'xmlns:{prefix}="{name}"' for prefix, name in NAMESPACES.items())
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {spaces}>'
        f'<rdf:Description rdf:about="" {attributes}>{body}</rdf:Description>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def closeness(one: NDArray[Any], other: NDArray[Any]) -> float:
    """The mean difference of two pictures."""
    return float(np.abs(one.astype(float) - other.astype(float)).mean())


def written(source: Path, kind: str, **options: Any) -> tuple[Path, list[str]]:
    """The corrected photo in a format, and the warnings."""
    data = source.read_bytes()
    suffix = {b"\xff\xd8": ".jpg", b"\x89P": ".png", b"RI": ".webp"}.get(data[:2], ".tif")
    named = source.with_suffix(suffix)
    named.write_bytes(data)
    name = f"a{FORMATS.get(kind, '.bmp')}"
    record = run(named, name=name, format=kind, overwrite=True, **options)
    assert "error" not in record, record
    return Path(record["output"]), record["warnings"]


def xmp_of(path: Path) -> bytes:
    with Image.open(path) as image:
        return bytes(image.info.get("xmp") or b"")
