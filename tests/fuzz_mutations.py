"""Mutations of photo files that respect their structure, so that they reach deep into readers."""

import re
import struct
from collections.abc import Callable
from itertools import islice, pairwise
from random import Random
from typing import Any

from heif_helpers import walk

from warp_train.photos.png_chunks import png_chunk

NUMBERS: tuple[int, ...] = (
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    255,
    256,
    257,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x10000,
    2**24,
    2**29,
)
NUMBERS += (2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1)
TAGS: tuple[int, ...] = (
    254,
    256,
    257,
    258,
    259,
    262,
    266,
    269,
    270,
    273,
    274,
    277,
    278,
    279,
    282,
    283,
    284,
    285,
)
TAGS += (288, 296, 301, 305, 306, 317, 318, 320, 322, 323, 324, 325, 330, 338, 339, 347, 513, 514)
TAGS += (530, 532, 700, 18246, 33432, 33550, 33723, 34377, 34665, 34675, 34853, 37500, 37724)
TAGS += (40961, 40962, 40963, 40965, 41486, 41492, 42034, 42036, 37380, 37396, 50341, 50706, 50707)
TAGS += (1, 2, 0x2B, 0x84, 0x2013, 0x2020, 0x2040, 0x4015, 0x4016, 0xB001, 0xB002, 65000)
MARKERS: tuple[int, ...] = (
    0x01,
    0xC0,
    0xC1,
    0xC2,
    0xC4,
    0xC9,
    0xD0,
    0xD8,
    0xD9,
    0xDA,
    0xDB,
    0xDD,
    0xE0,
    0xE1,
)
MARKERS += (0xE2, 0xE3, 0xEB, 0xED, 0xEE, 0xFE, 0xFF, 0x00)
CHUNKS: tuple[bytes, ...] = (
    b"IHDR",
    b"PLTE",
    b"IDAT",
    b"IEND",
    b"tRNS",
    b"pHYs",
    b"eXIf",
    b"iCCP",
    b"tEXt",
    b"zTXt",
)
CHUNKS += (b"iTXt", b"gAMA", b"cHRM", b"sRGB", b"cICP", b"bKGD", b"sBIT", b"hIST", b"sPLT", b"tIME")
CHUNKS += (b"acTL", b"fcTL", b"fdAT", b"caBX", b"iDOT", b"ABCD", b"abcd", b"ab\xff\0", b"mDCV")
FOURS: tuple[bytes, ...] = (
    b"VP8 ",
    b"VP8L",
    b"VP8X",
    b"ALPH",
    b"ANIM",
    b"ANMF",
    b"ICCP",
    b"EXIF",
    b"XMP ",
    b"C2PA",
)
BOXES: tuple[bytes, ...] = (
    b"ftyp",
    b"meta",
    b"mdat",
    b"moov",
    b"hdlr",
    b"pitm",
    b"iloc",
    b"iinf",
    b"infe",
    b"iprp",
)
BOXES += (b"ipco", b"ipma", b"ispe", b"pixi", b"colr", b"clap", b"irot", b"imir", b"pasp", b"auxC")
BOXES += (b"hvcC", b"av1C", b"iref", b"dimg", b"auxl", b"thmb", b"cdsc", b"idat", b"uuid", b"mpvd")
BOXES += (b"hvc1", b"av01", b"Exif", b"mime", b"grid", b"tmap", b"free", b"iden", b"avif", b"heic")
TEXTS: tuple[str, ...] = (
    "",
    "0",
    "1",
    "-1",
    "6",
    "nan",
    "inf",
    "-inf",
    "1e308",
    "1e-320",
    "9" * 400,
    "True",
    "é",
)
TEXTS += ("1, 2", "0.1,0.2,0.3,0.4", "nan,inf,0,1", "pixel", "GainMap", "MotionPhoto", "image/jpeg")
TEXTS += ("lens", "  ", "\u00b2", "equirectangular", "a\nb", "&#10;", "0x10", "1/0", "1_000", "١")
SNIPPETS: tuple[str, ...] = (
    "<!-- x -->",
    "<?pi x?>",
    "<![CDATA[x]]>",
    "<!DOCTYPE x>",
    "&lol;",
    "&#1;",
    "&#xD800;",
)
SNIPPETS += (
    "<a><b>",
    "</rdf:Description>",
    "<rdf:Description/>",
    "<rdf:RDF/>",
    "<rdf:li>",
    "<x:x/>",
)
SNIPPETS += ("\u00e9", "<rdf:Seq><rdf:li/></rdf:Seq>", '<!DOCTYPE a [<!ENTITY b "c">]>', "\0")


def mutated(data: bytes, rng: Random, others: list[bytes]) -> bytes:
    """The file with one to four changes; `others` are files to take parts from."""
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        chance = rng.random()
        if chance < 0.75:
            data = _structural(data)(data, rng, others)
        elif chance < 0.9:
            data = noisy(data, rng)
        elif chance < 0.95:
            data = data[: rng.randrange(len(data) + 1)]
        else:
            other = rng.choice(others)
            data = data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]
    return data


def _structural(data: bytes) -> Callable[[bytes, Random, list[bytes]], bytes]:
    if data[:2] == b"\xff\xd8":
        return _jpeg
    if data[:4] == b"\x89PNG":
        return _png
    if data[:4] == b"RIFF":
        return _webp
    if data[:3] in (b"II*", b"MM\0", b"II+"):
        return lambda data, rng, others: tiff(data, rng)
    if data[4:8] == b"ftyp":
        return lambda data, rng, others: _heif(data, rng)
    return lambda data, rng, others: noisy(data, rng, most=64)


def noisy(data: bytes, rng: Random, most: int | None = None) -> bytes:
    """A few bytes changed, numbers written, a part removed or repeated."""
    out = bytearray(data)
    end = min(len(out), most or len(out))
    if not end:
        return rng.randbytes(rng.randrange(9))
    at, how = rng.randrange(end), rng.randrange(6)
    span = min(rng.choice((1, 1, 2, 4, 8, 16, 64, 500)), len(out) - at)
    if how == 0:
        out[at] ^= 1 << rng.randrange(8)
    elif how == 1:
        out[at] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
    elif how == 2:
        code = rng.choice(("<H", ">H", "<I", ">I", "<I", ">I", ">Q"))
        number = rng.choice((*NUMBERS, len(out), at, rng.randrange(len(out))))
        number &= 256 ** struct.calcsize(code) - 1
        out[at : at + struct.calcsize(code)] = struct.pack(code, number)
    elif how == 3:
        del out[at : at + span]
    elif how == 4:
        out[at:at] = out[at : at + span]
    else:
        out[at : at + span] = rng.choice((bytes(span), b"\xff" * span, rng.randbytes(span)))
    return bytes(out)


def _block(content: bytes, rng: Random) -> bytes:
    """The content of a segment, a chunk or a tag, changed by what it contains."""
    for header in (b"Exif\0\0", b"MPF\0", b"http://ns.adobe.com/xap/1.0/\0"):
        if content.startswith(header):
            return header + _block(content[len(header) :], rng)
    if content.startswith(b"Photoshop 3.0\0") or content.startswith(b"8BIM"):
        at = content.find(b"8BIM")
        return content[:at] + _resources(content[max(at, 0) :], rng)
    if content[:3] in (b"II*", b"MM\0"):
        return tiff(content, rng)
    if content.startswith(b"\xff\xd8\xff"):  # a gain map
        return _jpeg(content, rng, [content])
    at = content.find(b"<")
    if b"rdf" in content and at >= 0:
        return content[:at] + packet(content[at:], rng)
    return noisy(content, rng)


def _listed(
    pieces: list[Any],
    rng: Random,
    others: list[Any],
    change: Callable[[Any], Any],
) -> list[Any]:
    """A list of parts with one deleted, repeated, moved, taken from elsewhere or changed."""
    pieces = list(pieces)
    at, how = rng.randrange(len(pieces)), rng.randrange(8)
    other = rng.randrange(len(pieces))
    if how == 0:
        del pieces[at]
    elif how == 1:
        pieces.insert(other, pieces[at])
    elif how == 2:
        pieces[at], pieces[other] = pieces[other], pieces[at]
    elif how == 3 and others:
        pieces.insert(at, rng.choice(others))
    else:
        pieces[at] = change(pieces[at])
    return pieces


def _jpeg_pieces(data: bytes) -> list[bytes]:
    """Whole segments with their markers, entropy-coded data, and what follows."""
    pieces, at = [data[:2]], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] not in (0xD9, 0xD8, 0xFF):
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        pieces.append(data[at:end])
        if data[at + 1] == 0xDA:
            found = re.compile(rb"\xff[^\0\xd0-\xd7\xff]").search(data, end)
            stop = found.start() if found else len(data)
            pieces.append(data[end:stop])
            end = stop
        at = end
    nested = data.find(b"\xff\xd8\xff", at)
    cuts = [at, at + 2, *([nested] if nested > at + 2 else []), len(data)]
    return [*pieces, *(data[a:b] for a, b in pairwise(cuts))]


def _jpeg(data: bytes, rng: Random, others: list[bytes]) -> bytes:
    def change(piece: bytes) -> bytes:
        how, head, content = rng.randrange(10), piece[:2], piece[4:]
        if how == 0:
            return head + struct.pack(">H", rng.choice(NUMBERS) & 0xFFFF) + content
        if how == 1:
            return b"\xff" + bytes([rng.choice(MARKERS)]) + piece[2:]
        if piece.startswith(b"\xff\xd8\xff"):
            return _block(piece, rng)
        if how == 2 or piece[:1] != b"\xff" or len(piece) < 4:
            return noisy(piece, rng)
        if how == 3:  # such as a dimension or a table's number
            content = noisy(content, rng, most=20)
        content = _block(content, rng)[:65533]
        return head + struct.pack(">H", len(content) + 2) + content

    jpegs = [other for other in others if other[:2] == b"\xff\xd8"]
    foreign = _jpeg_pieces(rng.choice(jpegs)) if jpegs else []
    return b"".join(_listed(_jpeg_pieces(data), rng, foreign, change))


def _chunks(data: bytes, at: int, order: str, big: bool) -> list[tuple[bytes, bytes]]:
    chunks = []
    while at + 8 <= len(data):
        name, number = (at + 4, at) if big else (at, at + 4)
        length = int.from_bytes(data[number : number + 4], order)  # type: ignore[arg-type]
        chunks.append((data[name : name + 4], data[at + 8 : at + 8 + length]))
        at += 12 + length if big else 8 + length + length % 2
    return chunks or [(b"none", b"")]


def _changed_chunk(
    chunk: tuple[bytes, bytes], rng: Random, names: tuple[bytes, ...]
) -> tuple[bytes, bytes]:
    if rng.random() < 0.2:
        return rng.choice(names), chunk[1]
    return chunk[0], _block(chunk[1], rng)


def _png(data: bytes, rng: Random, others: list[bytes]) -> bytes:
    foreign = [
        c for other in others if other[:4] == b"\x89PNG" for c in _chunks(other, 8, "big", True)
    ]
    chunks = _listed(
        _chunks(data, 8, "big", True), rng, foreign, lambda one: _changed_chunk(one, rng, CHUNKS)
    )
    return data[:8] + b"".join(png_chunk(*chunk) for chunk in chunks)


def _webp(data: bytes, rng: Random, others: list[bytes]) -> bytes:
    foreign = [c for o in others if o[:4] == b"RIFF" for c in _chunks(o, 12, "little", False)]
    chunks = _listed(
        _chunks(data, 12, "little", False), rng, foreign,
        lambda one: _changed_chunk(one, rng, FOURS),
    )  # fmt: skip
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
        for kind, content in chunks
    )
    length = len(body) if rng.random() < 0.9 else rng.choice(NUMBERS)
    return b"RIFF" + struct.pack("<I", length) + body


def _heif(data: bytes, rng: Random) -> bytes:
    try:
        found = list(islice(walk(data), 200))  # a box without a length repeats
    except (IndexError, ValueError, RecursionError):
        return noisy(data, rng)
    inner = [place for place in found if place[0] not in ("mdat", "ftyp")] or found
    if not inner:
        return noisy(data, rng)
    _, start, end = rng.choice(inner)
    end = min(end, len(data))
    how, out = rng.randrange(5), bytearray(data)
    if how == 0:
        out[start - 4 : start] = rng.choice(BOXES)
    elif how == 1:
        out[start - 8 : start - 4] = struct.pack(">I", rng.choice((*NUMBERS, 8)))
    elif how == 2 and end > start:
        at = rng.randrange(start, end)
        out[at] = rng.choice((0, 1, 2, 127, 128, 255, rng.randrange(256)))
    elif how == 3:
        out[start:end] = noisy(data[start:end], rng)[: end - start].ljust(end - start, b"\0")
    else:
        return _heif_payload(data, rng)
    return bytes(out)


def _heif_payload(data: bytes, rng: Random) -> bytes:
    """EXIF or XMP changed in place."""
    at = data.find(rng.choice((b"Exif\0\0II*", b"<?xpacket")))
    if at < 0:
        return noisy(data, rng)
    at += 6 if data[at] == 0x45 else 0
    stop = min(len(data), at + 3000)
    changed = _block(data[at:stop], rng)[: stop - at].ljust(stop - at, b" ")
    return data[:at] + changed + data[stop:]


def tiff(data: bytes, rng: Random) -> bytes:
    """A TIFF structure with an entry, a link or a value changed."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    places, links = _entries(data, order, big)
    if not places or rng.random() < 0.05:
        return noisy(data, rng, most=16)
    out, at, how = bytearray(data), rng.choice(places), rng.randrange(10)
    size, code = (8, "Q") if big else (4, "I")
    known = [*places, *links, *(place - 2 for place in places)]
    number = rng.choice((*NUMBERS, rng.choice(known), len(data), rng.randrange(len(data))))
    if how == 0:
        struct.pack_into(order + "H", out, at, rng.choice(TAGS))
    elif how == 1:
        struct.pack_into(order + "H", out, at + 2, rng.choice((*range(19), 129, 65535)))
    elif how == 2:
        struct.pack_into(order + code, out, at + 4, number)
    elif how == 3:
        struct.pack_into(order + code, out, at + 4 + size, number)
    elif how == 4:
        struct.pack_into(order + "HH", out, at + 4 + size, *(number & 0xFFFF, number >> 16))
    elif how == 5:
        other, whole = rng.choice(places), 4 + 2 * size
        out[at : at + whole], out[other : other + whole] = (
            data[other : other + whole],
            data[at : at + whole] if rng.random() < 0.5 else data[other : other + whole],
        )
    elif how == 6 and links:
        struct.pack_into(order + code, out, rng.choice(links), number)
    elif how == 7:
        out[2:4] = struct.pack(order + "H", 42 if big else 43)
    else:
        return _with_value(data, at, order, code, rng)
    return bytes(out)


def _with_value(data: bytes, at: int, order: str, code: str, rng: Random) -> bytes:
    """An entry whose value is changed and stored at the end."""
    size = struct.calcsize(code)
    kind = struct.unpack_from(order + "H", data, at + 2)[0]
    count, place = struct.unpack_from(order + code * 2, data, at + 4)
    each = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8}.get(kind, 1)
    inline = each * count <= size
    start = at + 4 + size if inline else place
    value = _block(data[start : start + min(each * count, 2**20)], rng)
    out = bytearray(data)
    struct.pack_into(order + code * 2, out, at + 4, len(value) // each, len(data))
    if len(value) <= size:
        out[at + 4 + size : at + 4 + 2 * size] = value.ljust(size, b"\0")
    return bytes(out) + value + bytes(len(value) % 2)


def _entries(data: bytes, order: str, big: bool) -> tuple[list[int], list[int]]:
    """Where the entries of all directories are, and the links to further directories."""
    head, step, code, size = ("Q", 20, "Q", 8) if big else ("H", 12, "I", 4)
    wait, seen, places, links = [8 if big else 4], set[int](), [], []
    while wait:
        link = wait.pop()
        try:
            (at,) = struct.unpack_from(order + code, data, link)
            (count,) = struct.unpack_from(order + head, data, at)
        except (struct.error, OverflowError):
            continue
        if at in seen or not 0 < count < 200:
            continue
        seen.add(at)
        first = at + struct.calcsize(head)
        rows = [p for p in range(first, first + step * count, step) if p + step <= len(data)]
        places += rows
        links.append(first + step * count if first + step * count + size <= len(data) else link)
        wait.append(first + step * count)
        for row in rows:
            if struct.unpack_from(order + "H", data, row)[0] in (34665, 34853, 40965, 330):
                wait.append(row + 4 + size)
    return places, links


def _resources(block: bytes, rng: Random) -> bytes:
    pieces = [b"8BIM" + piece for piece in block.split(b"8BIM")[1:]] or [block]
    return b"".join(_listed(pieces, rng, [], lambda one: noisy(one, rng, most=16)))


def packet(data: bytes, rng: Random) -> bytes:
    """An XMP packet with elements, attributes and texts changed; sometimes not well-formed."""
    text = data.decode("utf-8", "replace")
    tags = list(re.finditer(r"<[^>]*>", text))
    if not tags:
        return noisy(data, rng)
    tag, how = rng.choice(tags), rng.randrange(12)
    other = rng.choice(tags)
    values = list(re.finditer(r'="([^"]*)"|>([^<>]+)<', text))
    if how <= 3 and values:
        value = rng.choice(values)
        group = 1 if value[1] is not None else 2
        text = text[: value.start(group)] + rng.choice(TEXTS) + text[value.end(group) :]
    elif how == 4:
        text = text[: tag.start()] + text[tag.end() :]
    elif how == 5:
        text = text[: tag.end()] + tag[0] + text[tag.end() :]
    elif how == 6:
        a, b = sorted((tag.start(), other.end()))
        text = text[:a] + text[b:] if rng.random() < 0.5 else text[:b] + text[a:b] + text[b:]
    elif how == 7:
        text = text[: tag.end()] + rng.choice(SNIPPETS) + text[tag.end() :]
    elif how == 8:
        deep = rng.choice((1, 10, 200, 300, 3000))
        name = rng.choice(("rdf:li", "rdf:Description", "mwg-rs:Area", "Container:Item"))
        text = text[: tag.end()] + f"<{name}>" * deep + f"</{name}>" * deep + text[tag.end() :]
    elif how == 9:
        names = re.findall(r"[\w.-]+:[\w.-]+", text)
        text = re.sub(re.escape(rng.choice(names)), rng.choice(names), text)
    elif how == 10:
        mark = rng.choice((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf"))
        code = {255: "utf-16-le", 254: "utf-16-be"}.get(mark[0], "utf-8")
        return mark + text.encode(code, "replace")
    else:
        return noisy(data, rng)
    return text.encode("utf-8", "replace")
