"""The chunks of a PNG file, and the metadata in them (PNG specification, third edition)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

SIGNATURE = b"\x89PNG\r\n\x1a\n"
XMP_KEYWORD = b"XML:com.adobe.xmp"
"""The keyword of the text chunk that contains XMP."""
_COMMENT = b"Comment"
COLOUR_CHUNKS = (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI")
_TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt", b"tIME")
_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"sPLT")
"""Chunks that start with a keyword of 1 to 79 bytes."""
_LENGTHS = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"cICP": 4, b"mDCV": 24, b"cLLI": 8, b"tIME": 7}
_DEPENDS_ON_PIXELS = (b"bKGD", b"sBIT", b"hIST", b"sPLT")
_STRUCTURE = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"pHYs", b"eXIf", b"iCCP", b"iDOT")
"""Chunks of the picture's coding, or that `Metadata` has fields for."""
_RAW_PROFILE = b"Raw profile type "
_FRAME = 12
"""Bytes of a chunk beside its content: length, type and checksum."""
_DENSITY = 9
_SECOND = "a second {} block was left out: a file has one"
_MOST_BYTES = 2**26
"""Longest metadata chunk after decompression: longer ones are bombs."""


@dataclass(frozen=True)
class PngMetadata:
    """The metadata of a PNG."""

    exif: bytes = b""
    """Without the `Exif` header."""
    xmp: bytes = b""
    icc: bytes = b""
    density: bytes = b""
    """The content of pHYs: pixels per unit across and down, and the unit (0: unknown, 1: metre)."""
    photoshop: bytes = b""
    """Photoshop's image resources, which contain captions and rights (IPTC)."""
    kept: tuple[tuple[bytes, bytes], ...] = ()
    """(type, data) of the other chunks that a corrected PNG keeps."""
    lost: list[str] = field(default_factory=list)
    """Warnings on chunks that it does not keep."""


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, data) of each chunk of a PNG. Raises ValueError if the data are cut off or damaged."""
    at, kind = 8, b""
    while kind != b"IEND":
        try:
            length, kind = struct.unpack_from(">I4s", data, at)
            (checksum,) = struct.unpack_from(">I", data, at + 8 + length)
        except struct.error:
            raise ValueError("truncated") from None
        content = data[at + 8 : at + 8 + length]
        if zlib.crc32(content, zlib.crc32(kind)) != checksum:
            raise ValueError(f"damaged ({kind.decode('latin-1')} has a wrong checksum)")
        yield kind, content
        at += 12 + length


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk with its length and checksum."""
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png_metadata(data: bytes) -> PngMetadata:
    """The metadata of a PNG, wherever in the file they are.

    Raises ValueError if the file is cut off or damaged.
    """
    found: dict[str, bytes] = {}
    kept: list[tuple[bytes, bytes]] = []
    lost: list[str] = []
    end = len(SIGNATURE)
    for kind, content in png_chunks(data):
        name = kind.decode("latin-1")
        end += _FRAME + len(content)
        if not _is_valid(kind, content):
            lost.append(f"its PNG chunk {name} is damaged and was left out")
        elif kind == b"eXIf":
            exif = content.removeprefix(b"Exif\x00\x00")
            lost += [_SECOND.format("exif")] if found.get("exif", exif) != exif else []
            found["exif"] = exif
        elif kind == b"pHYs" and len(content) == _DENSITY:
            found["density"] = content
        elif kind == b"iCCP":
            _add_icc(content, found, lost)
        elif kind in _TEXT_CHUNKS:
            block = _block_of_text(kind, content)
            if block is None and kind == b"zTXt" and _plain_text(kind, _after(content)) is None:
                lost.append("its PNG chunk zTXt is damaged and was left out")
            elif block is None:
                kept.append((kind, content))
            elif block[1]:
                if found.setdefault(*block) != block[1]:
                    lost.append(_SECOND.format(block[0]))
            else:
                lost.append(f"its {block[0]} block is damaged and was left out")
        elif kind in COLOUR_CHUNKS or (kind not in _STRUCTURE and kind[3] & 32):
            kept.append((kind, content))  # bit 5 of the last letter: independent of the pixels
        elif kind in _DEPENDS_ON_PIXELS:
            kept.append((kind, content))
        elif kind == b"caBX":
            lost.append("its content credentials (C2PA) were left out: they sign the old pixels")
        elif kind not in _STRUCTURE:
            lost.append(f"its PNG chunk {name} was left out: its meaning is unknown")
    if data[end:].strip(b"\0"):
        lost.append(f"{len(data) - end} bytes behind the picture were left out")
    return PngMetadata(**found, kept=tuple(kept), lost=lost)


def _is_valid(kind: bytes, content: bytes) -> bool:
    """Whether readers of a PNG accept a chunk's type and its length."""
    texts = kind in _TEXTS and not 0 < content.find(b"\0") < 80
    return kind.isalpha() and not texts and len(content) == _LENGTHS.get(kind, len(content))


def _add_icc(content: bytes, found: dict[str, bytes], lost: list[str]) -> None:
    packed = content.partition(b"\0")[2][1:]
    profile = _inflated(packed)
    if profile is None:
        lost.append("its colour profile is damaged and was left out")
    else:
        found["icc"] = profile


def _block_of_text(kind: bytes, content: bytes) -> tuple[str, bytes] | None:
    """The metadata block, (field, data), that a text chunk contains; None for plain text.

    The data are empty if the chunk is damaged.
    """
    keyword, _, rest = content.partition(b"\0")
    if kind == b"iTXt" and keyword == XMP_KEYWORD:
        return "xmp", _international_text(rest) or b""
    if not keyword.startswith(_RAW_PROFILE) or kind == b"tIME":
        return None
    name = keyword.removeprefix(_RAW_PROFILE).lower()
    fields = {b"exif": "exif", b"app1": "exif", b"xmp": "xmp", b"iptc": "photoshop"}
    fields |= {b"8bim": "photoshop", b"icc": "icc", b"icm": "icc"}
    if name not in fields:
        return None
    text = _plain_text(kind, rest)
    raw = _unhexed(text) if text is not None else b""
    if raw.startswith(b"http://ns.adobe.com/xap/1.0/\x00"):
        return "xmp", raw.partition(b"\0")[2]
    return fields[name], raw.removeprefix(b"Exif\x00\x00").removeprefix(b"Photoshop 3.0\x00")


def _after(content: bytes) -> bytes:
    """What follows the keyword of a chunk."""
    return content.partition(b"\0")[2]


def comment_of(kind: bytes, content: bytes) -> bytes | None:
    """The text of a chunk with a PNG's comment, in UTF-8; None for other and damaged chunks."""
    keyword, _, rest = content.partition(b"\0")
    if keyword != _COMMENT or kind not in (b"tEXt", b"zTXt", b"iTXt"):
        return None
    text = _plain_text(kind, rest)
    return text if text is None or kind == b"iTXt" else text.decode("latin-1").encode()


def comment_chunk(comment: bytes) -> tuple[bytes, bytes]:
    """A chunk with a comment: in UTF-8 if it is that, or else in Latin-1 as PNG's plain text."""
    text = comment.replace(b"\0", b" ")
    try:
        unicode = not text.isascii() and bool(text.decode())
    except UnicodeDecodeError:
        unicode = False
    return (b"iTXt", _COMMENT + bytes(5) + text) if unicode else (b"tEXt", _COMMENT + b"\0" + text)


def _plain_text(kind: bytes, rest: bytes) -> bytes | None:
    if kind == b"zTXt":
        return _inflated(rest[1:]) if rest[:1] == b"\0" else None
    return rest if kind == b"tEXt" else _international_text(rest)


def _international_text(rest: bytes) -> bytes | None:
    packed, tail = rest[:1] == b"\1", rest[2:]
    text = tail.partition(b"\0")[2].partition(b"\0")[2]
    return _inflated(text) if packed else text


def _unhexed(text: bytes) -> bytes:
    """The bytes of a raw profile: a line with its name, one with its length, hexadecimal digits."""
    parts = text.split(maxsplit=2)
    try:
        return bytes.fromhex(parts[2].decode("ascii")) if len(parts) == 3 else b""
    except ValueError:
        return b""


def _inflated(packed: bytes) -> bytes | None:
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(packed, _MOST_BYTES)
    except zlib.error:
        return None
    return data if stream.eof else None


def raw_profile(name: bytes, content: bytes) -> tuple[bytes, bytes]:
    """A compressed text chunk with a metadata block in hexadecimal digits, as ImageMagick's."""
    digits = content.hex().encode("ascii")
    lines = b"\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    text = b"\n%s\n%8d\n%s\n" % (name, len(content), lines)
    return b"zTXt", _RAW_PROFILE + name + b"\0\0" + zlib.compress(text)
