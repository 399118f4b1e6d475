"""Fits the metadata of a photo to the format of the new file, and lists what it cannot hold."""

from __future__ import annotations

import struct
from dataclasses import replace

from warp_train.photos.claims import without_claims
from warp_train.photos.damage import one_line
from warp_train.photos.exif import is_adobe_rgb
from warp_train.photos.formats import Format
from warp_train.photos.icc_profiles import (
    D65,
    SRGB_PRIMARIES,
    adobe_rgb_profile,
    colour_profile,
    gamma_profile,
    is_grey,
    is_srgb,
    profile_of_grey,
)
from warp_train.photos.metadata import Metadata
from warp_train.photos.photoshop import iptc_of
from warp_train.photos.png_chunks import COLOUR_CHUNKS, comment_chunk, comment_of
from warp_train.photos.xmp import Packet

_NAMES = {"exif": "EXIF", "icc": "colour profile", "xmp": "XMP"}
_MIME: dict[Format, str] = {
    **{"jpeg": "image/jpeg", "png": "image/png", "tiff": "image/tiff"},
    **{"webp": "image/webp", "bmp": "image/bmp"},
}
_CODING = (
    *("tiff:Compression", "tiff:PhotometricInterpretation", "tiff:PlanarConfiguration"),
    *("tiff:SamplesPerPixel", "tiff:BitsPerSample"),
    *("tiff:YCbCrSubSampling", "tiff:YCbCrPositioning"),
)
"""XMP properties of how the old file codes its pixels."""
_LACKS: dict[Format, tuple[str, ...]] = {
    "webp": ("photoshop",),
    "bmp": ("exif", "icc", "xmp", "photoshop"),
}
"""Metadata blocks that a format cannot hold."""
_BACKGROUND_LENGTH = {1: 2, 2: 2, 3: 6, 4: 6}
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_OLD_PICTURE = (
    *("exif:Orientation", "exif:PixelXDimension", "exif:PixelYDimension", "exif:thumbnail:"),
    *("exif:ImageWidth", "exif:ImageLength", "exif:SubjectArea", "exif:SubjectLocation"),
    *("Thumb::Image::", "png:IHDR.width,height"),
)
"""Starts of the keywords by which ImageMagick and thumbnailers repeat other metadata as texts."""
_OF_PROFILE = frozenset(COLOUR_CHUNKS) - {b"mDCV", b"cLLI"}
"""Chunks that a colour profile replaces."""
_NEAR_SRGB = 0.02
"""Largest difference of a gamma, or of a chromaticity, that is invisible."""


def fitted(
    metadata: Metadata, kind: Format, channels: int, source: str
) -> tuple[Metadata, list[str]]:
    """The metadata as a format can hold them, and warnings on what it cannot.

    Args:
        metadata: for the new pixels.
        kind: format of the new file.
        channels: of the new pixels, 1 to 4.
        source: format of the photo's file.
    """
    lost: list[str] = []
    metadata = _with_profile(metadata, kind, channels, source, lost)
    if is_grey(metadata.icc) and channels >= 3:
        metadata = replace(metadata, icc=profile_of_grey(metadata.icc) or b"")
        if not metadata.icc:
            lost.append("its grey colour profile was left out: the new file's pixels are RGB")
    if kind != source:
        metadata = replace(metadata, xmp=_with_format(metadata.xmp, kind))
    if kind != "jpeg":
        metadata = _without_jpeg_parts(metadata, kind, lost)
    metadata = (
        _with_png_chunks(metadata, channels, lost)
        if kind == "png"
        else _without_png_chunks(metadata, kind, lost)
    )
    if metadata.webp_chunks and kind != "webp":
        names = ", ".join(sorted({kind.decode("latin-1") for kind, _ in metadata.webp_chunks}))
        lost.append(f"its WebP chunks {names} were left out: their meaning is unknown")
        metadata = replace(metadata, webp_chunks=())
    for field in _LACKS.get(kind, ()):
        if getattr(metadata, field):
            captions = "IPTC captions" if iptc_of(metadata.photoshop) else "Photoshop resources"
            name = _NAMES.get(field, captions)
            lost.append(f"{kind.upper()} files cannot hold the {name}: left out")
            metadata = replace(metadata, **{field: b""})  # type: ignore[arg-type]
    return metadata, [one_line(note) for note in lost]


def _without_jpeg_parts(metadata: Metadata, kind: Format, lost: list[str]) -> Metadata:
    """Metadata without what only a JPEG holds, and without the XMP's claims of it."""
    name = kind.upper()
    if metadata.jpeg_segments:
        markers = sorted({segment.marker for segment in metadata.jpeg_segments})
        names = ", ".join("comments" if m == 0xFE else f"APP{m - 0xE0}" for m in markers)
        lost.append(f"its data segments ({names}) were left out: {name} files cannot hold them")
    for part, what in (("gain_map", "gain map (HDR)"), ("picture", "further pictures")):
        if any(one.kind == part for one in metadata.appended):
            lost.append(
                f"its {what} were left out" if what.endswith("s") else f"its {what} was left out"
            )
    if any(one.kind == "data" for one in metadata.appended):
        lost.append("the data behind the picture, such as a video, were left out")
    xmp = metadata.xmp
    if metadata.appended or metadata.gain_map_marks:
        xmp = without_claims(metadata.xmp)
    return replace(
        metadata,
        xmp=xmp,
        jpeg_segments=(),
        gain_map_marks=(),
        has_index=False,
        appended=(),
    )


def _with_format(xmp: bytes, kind: Format) -> bytes:
    """The packet with the new file's format, and without the coding of the old one."""
    try:
        packet = Packet(xmp)
    except ValueError:
        return xmp
    for place in packet.own_places("dc:format"):
        place.text = _MIME[kind]
    packet.remove(*_CODING)
    return bytes(packet) if xmp else b""


def _with_png_chunks(metadata: Metadata, channels: int, lost: list[str]) -> Metadata:
    kept: list[tuple[bytes, bytes]] = []
    for kind, content in metadata.png_chunks:
        keyword = content.partition(b"\0")[0].decode("latin-1")
        if kind in _TEXTS and keyword.startswith(_OLD_PICTURE):
            lost.append(f"its text '{keyword}' was left out: it describes the old picture")
            continue
        fits = {
            b"bKGD": len(content) == _BACKGROUND_LENGTH[channels],
            b"sBIT": len(content) == channels,
            b"hIST": False,  # of a palette, which the new file does not have
            b"sRGB": not metadata.icc,  # the standard forbids it beside a profile
        }.get(kind, True)
        if fits:
            kept.append((kind, content))
        elif kind != b"sRGB":
            lost.append(f"its PNG chunk {kind.decode()} was left out: it fits the old pixel format")
    if metadata.comment:
        kept.append(comment_chunk(metadata.comment))
    return replace(metadata, png_chunks=tuple(kept), comment=b"")


def _without_png_chunks(metadata: Metadata, kind: Format, lost: list[str]) -> Metadata:
    comment, names = metadata.comment, []
    for chunk, content in metadata.png_chunks:
        keyword = content.partition(b"\0")[0]
        if kind == "jpeg" and not comment and (text := comment_of(chunk, content)):
            comment = text
        elif chunk in _TEXTS:
            names.append(f"text '{keyword.decode('latin-1')}'")
        elif chunk not in _OF_PROFILE:
            names.append(f"chunk {chunk.decode('latin-1')}")
    if names:
        listed = ", ".join(dict.fromkeys(names))
        lost.append(f"{kind.upper()} files cannot hold the PNG's {listed}: left out")
    if comment and kind != "jpeg":
        lost.append(f"{kind.upper()} files cannot hold the comment: left out")
        comment = b""
    return replace(metadata, png_chunks=(), comment=comment)


def _with_profile(
    metadata: Metadata, kind: Format, channels: int, source: str, lost: list[str]
) -> Metadata:
    """Adds a colour profile where only the old format can name the colours without one."""
    if metadata.icc or kind == source:
        return metadata
    chunks, grey = dict(metadata.png_chunks), channels < 3
    if is_adobe_rgb(metadata.exif) and not grey:
        return replace(metadata, icc=adobe_rgb_profile())
    if len(chunks.get(b"cICP", b"")) == 4:
        primaries, transfer = chunks[b"cICP"][:2]
        profile = colour_profile(primaries, transfer, grey=grey)
        if profile is None:
            lost.append("its colour description (cICP) was left out: colours may look different")
        return metadata if is_srgb(primaries, transfer) else replace(metadata, icc=profile or b"")
    if b"sRGB" in chunks:
        return metadata
    gamma, (white, primaries_xy) = _gamma_of(chunks), _chromaticities_of(chunks)
    if gamma is None and (grey or _is_near(primaries_xy, SRGB_PRIMARIES)):
        return metadata
    name = "the PNG's gamma and primaries"
    try:
        return replace(
            metadata, icc=gamma_profile(name, primaries_xy, white, gamma or 2.2, grey=grey)
        )
    except ValueError:
        lost.append("its primaries (cHRM) are damaged and were left out")
        return metadata


def _is_near(values: tuple[float, ...], others: tuple[float, ...]) -> bool:
    return all(abs(a - b) <= _NEAR_SRGB for a, b in zip(values, others, strict=True))


def _gamma_of(chunks: dict[bytes, bytes]) -> float | None:
    """The decoding gamma of a PNG; None if it is missing or close to that of sRGB."""
    content = chunks.get(b"gAMA", b"")
    value = int.from_bytes(content, "big") if len(content) == 4 else 0
    gamma = 100_000 / value if value else None
    return None if gamma is None or abs(gamma - 2.2) <= _NEAR_SRGB else gamma


def _chromaticities_of(
    chunks: dict[bytes, bytes],
) -> tuple[tuple[float, float], tuple[float, ...]]:
    """The white point and the primaries of a PNG; those of sRGB if it has none."""
    content = chunks.get(b"cHRM", b"")
    if len(content) != 32:
        return D65, SRGB_PRIMARIES
    white_x, white_y, *primaries = (value / 100_000 for value in struct.unpack(">8I", content))
    return (white_x, white_y), tuple(primaries)
