"""XMP packets of every coding, damaged ones, and long ones, which a JPEG holds in two parts."""

from __future__ import annotations

import hashlib
import re
import struct
from pathlib import Path

import pytest
from lxml import etree
from metadata_helpers import (
    FORMATS,
    jpeg,
    jpeg_segments,
    png,
    rdf,
    segment,
    written,
    xmp_chunk,
    xmp_of,
)

XMP_HEADER = b"http://ns.adobe.com/xap/1.0/\0"
EXTENDED_HEADER = b"http://ns.adobe.com/xmp/extension/\0"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "source"


@pytest.mark.parametrize(
    "coding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "utf-16", "utf-8"]
)
def test_xmp_of_every_coding_is_read(coding: str, source: Path) -> None:
    packet = rdf('photoshop:City="Tønder"').decode().encode(coding)
    source.write_bytes(jpeg(xmp=packet))
    path, warnings = written(source, "png")
    assert warnings == []
    assert 'photoshop:City="Tønder"'.encode() in xmp_of(path)
    etree.fromstring(re.search(rb"<x:.*</x:xmpmeta>", xmp_of(path), re.DOTALL)[0])  # type: ignore[index]


DAMAGED = {
    "a control character": rdf('photoshop:City="To\x01wn"'),
    "no end": rdf('photoshop:City="Town"').replace(b"</rdf:RDF>", b""),
    "Latin-1": rdf('photoshop:City="Town" my:A="ø"')
    .decode()
    .replace("\ufeff", "")
    .encode("latin-1"),
    "a bare ampersand": rdf('photoshop:City="Town" my:A="A & B"'),
}
BOMB = b"".join(
    b'<!ENTITY e%d "%s">' % (n, b"&e%d;" % (n - 1) * 10 if n else b"bomb" * 10) for n in range(12)
)
LOST = {
    "words": b"hello",
    "a bomb": b"<!DOCTYPE x [%s]>" % BOMB + rdf(body="<my:A>&e11;</my:A>").partition(b"?>")[2],
    "a bomb inside": rdf(body="<my:A>&e11;</my:A>").replace(
        b"<rdf:RDF", b"<!DOCTYPE x [%s]><rdf:RDF" % BOMB
    ),
    "a file": rdf(body="<my:A>&f;</my:A>").replace(
        b"<rdf:RDF", b'<!DOCTYPE x [<!ENTITY f SYSTEM "/etc/passwd">]><rdf:RDF'
    ),
}


@pytest.mark.parametrize("name", DAMAGED | LOST)
@pytest.mark.parametrize("kind", ["jpeg", "tiff"])
def test_damaged_xmp_is_repaired_or_named(name: str, kind: str, source: Path) -> None:
    source.write_bytes(jpeg(xmp=(DAMAGED | LOST)[name]))
    path, [warning] = written(source, kind)
    packet = xmp_of(path)
    found = re.search(rb"<x:.*</x:xmpmeta>", packet, re.DOTALL)
    assert found is not None
    etree.fromstring(found[0])
    assert b"DOCTYPE" not in packet
    assert b"root:" not in packet
    assert (b'photoshop:City="Town"' in packet) == (name in DAMAGED)
    assert "damaged" in warning
    assert ("was left out" in warning) == (name in LOST)


def extended(packet: bytes, step: int = 40_000) -> list[bytes]:
    """The segments of an extended part (XMP specification 3, 1.1.3.1)."""
    digest = hashlib.md5(packet).hexdigest().upper().encode()
    return [
        segment(
            0xE1,
            EXTENDED_HEADER + digest + struct.pack(">II", len(packet), at) + packet[at : at + step],
        )
        for at in range(0, len(packet), step)
    ]


def bare(packet: bytes) -> bytes:
    found = re.search(rb"<x:.*</x:xmpmeta>", packet, re.DOTALL)
    assert found is not None
    return found[0]


def whole_of(path: Path) -> tuple[bytes, bytes]:
    """The main part and the extended part of a JPEG's XMP, put together as the standard says."""
    contents = [content for _, content in jpeg_segments(path.read_bytes())]
    [main] = [one.removeprefix(XMP_HEADER) for one in contents if one.startswith(XMP_HEADER)]
    parts = [
        one.removeprefix(EXTENDED_HEADER) for one in contents if one.startswith(EXTENDED_HEADER)
    ]
    noted = re.search(rb"HasExtendedXMP(?:=.|>)([0-9A-F]{32})", main)
    if noted is None:
        assert not parts
        return main, b""
    rest = b""
    for part in parts:
        assert part[:32] == noted[1]
        assert struct.unpack(">I", part[36:40]) == (len(rest),)
        rest += part[40:]
    assert all(struct.unpack(">I", part[32:36]) == (len(rest),) for part in parts)
    assert hashlib.md5(rest).hexdigest().upper().encode() == noted[1]
    return main, rest


LONG = "".join(chr(97 + n % 26) for n in range(90_000))


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("kind", FORMATS)
def test_extended_xmp_is_whole_in_every_format(kind: str, order: int, source: Path) -> None:
    rest = bare(rdf(body=f"<my:Long>{LONG}</my:Long>"))
    stale = bare(rdf(body=f"<my:Stale>{LONG}</my:Stale>"))
    note = hashlib.md5(rest).hexdigest().upper()
    main = rdf(f'xmpNote:HasExtendedXMP="{note}" photoshop:City="Town"')
    source.write_bytes(jpeg(xmp=main, more=b"".join([*extended(stale), *extended(rest)[::order]])))
    path, warnings = written(source, kind)
    assert warnings == []
    front, behind = whole_of(path) if kind == "jpeg" else (xmp_of(path), b"")
    assert b'photoshop:City="Town"' in front
    assert b"warpTrain" in front
    assert LONG.encode() in front + behind
    assert b"Stale" not in front + behind
    if kind != "jpeg":
        assert b"HasExtendedXMP" not in front


@pytest.mark.parametrize("missing", [0, 1, None])
def test_incomplete_extended_xmp_is_named(missing: int | None, source: Path) -> None:
    rest = bare(rdf(body=f"<my:Long>{LONG}</my:Long>"))
    note = hashlib.md5(rest).hexdigest().upper()
    parts = extended(rest)
    parts = [] if missing is None else parts[:missing] + parts[missing + 1 :]
    main = rdf(f'xmpNote:HasExtendedXMP="{note}" photoshop:City="Town"')
    source.write_bytes(jpeg(xmp=main, more=b"".join(parts)))
    path, warnings = written(source, "jpeg")
    assert warnings == (
        [] if missing is None else ["its extended XMP is damaged or incomplete and was left out"]
    )
    assert b'photoshop:City="Town"' in whole_of(path)[0]


@pytest.mark.parametrize("spelling", ["element", "attribute", "many", "blanks"])
def test_a_long_xmp_keeps_what_fits_in_front(spelling: str, source: Path) -> None:
    many = "".join(f"<my:P{n}>{n:0900}</my:P{n}>" for n in range(150))
    long = f"<my:Long>{LONG}</my:Long>"
    attributes = f'photoshop:City="Town" my:Other="{LONG if spelling == "attribute" else ""}"'
    packet = rdf(attributes, {"element": long, "many": many}.get(spelling, ""))
    if spelling == "blanks":
        packet = packet.replace(b"<?xpacket end", b" " * 90_000 + b"<?xpacket end")
    source.write_bytes(png([], [xmp_chunk(packet)]))
    path, warnings = written(source, "jpeg")
    assert warnings == []
    front, behind = whole_of(path)
    assert b'photoshop:City="Town"' in front
    if spelling == "many":
        both = front + behind
        assert all(b">%0900d</my:P%d>" % (n, n) in both for n in range(150))
        assert len(front) > 50_000
    else:
        assert (LONG.encode() in behind) == (spelling != "blanks")
