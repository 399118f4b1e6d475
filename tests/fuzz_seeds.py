"""Small valid photo files of every container, full of metadata: what the fuzzing starts from."""

import hashlib
import io
import struct
from functools import cache
from typing import Any, Literal

import numpy as np
import tifffile
from data_helpers import textured
from heif_helpers import avif, avif_of, heic
from numpy.typing import NDArray
from PIL import Image, ImageCms

from warp_train.photos.metadata import Metadata
from warp_train.photos.png_chunks import png_chunk, raw_profile
from warp_train.photos.png_encoding import encode_png
from warp_train.photos.tiff_encoding import encode_tiff

H, W = 24, 34
DESCRIPTION, NOTE, THUMBNAIL = 0x010E, 0x927C, 0x0201
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_SPACES = {
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "crs": "http://ns.adobe.com/camera-raw-settings/1.0/",
    "aux": "http://ns.adobe.com/exif/1.0/aux/",
    "darktable": "http://darktable.sf.net/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "xmpGImg": "http://ns.adobe.com/xap/1.0/g/img/",
    "xmpNote": "http://ns.adobe.com/xmp/note/",
    "GCamera": "http://ns.google.com/photos/1.0/camera/",
    "Container": "http://ns.google.com/photos/1.0/container/",
    "Item": "http://ns.google.com/photos/1.0/container/item/",
    "hdrgm": "http://ns.adobe.com/hdr-gain-map/1.0/",
    "GPano": "http://ns.google.com/photos/1.0/panorama/",
    "GDepth": "http://ns.google.com/photos/1.0/depthmap/",
    "mwg-rs": "http://www.metadataworkinggroup.com/schemas/regions/",
    "stArea": "http://ns.adobe.com/xmp/sType/Area#",
    "stDim": "http://ns.adobe.com/xap/1.0/sType/Dimensions#",
    "MP": "http://ns.microsoft.com/photo/1.2/",
    "MPRI": "http://ns.microsoft.com/photo/1.2/t/RegionInfo#",
    "MPReg": "http://ns.microsoft.com/photo/1.2/t/Region#",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "acdsee-rs": "http://ns.acdsee.com/regions/",
    "dc": "http://purl.org/dc/elements/1.1/",
}
_LI = '<rdf:li rdf:parseType="Resource">'
BODY = f"""<mwg-rs:Regions rdf:parseType="Resource">
<mwg-rs:AppliedToDimensions stDim:w="{W}" stDim:h="{H}" stDim:unit="pixel"/><mwg-rs:RegionList>
<rdf:Bag>{_LI}<mwg-rs:Area stArea:x="0.5" stArea:y="0.4" stArea:w="0.2" stArea:h="0.1"
 stArea:unit="normalized"/><mwg-rs:Type>Face</mwg-rs:Type></rdf:li></rdf:Bag>
</mwg-rs:RegionList></mwg-rs:Regions><MP:RegionInfo rdf:parseType="Resource"><MPRI:Regions>
<rdf:Bag>{_LI}<MPReg:Rectangle>0.1, 0.2, 0.3, 0.4</MPReg:Rectangle></rdf:li></rdf:Bag>
</MPRI:Regions></MP:RegionInfo><Iptc4xmpExt:ImageRegion><rdf:Bag>{_LI}
<Iptc4xmpExt:RegionBoundary rdf:parseType="Resource"><Iptc4xmpExt:rbUnit>relative
</Iptc4xmpExt:rbUnit><Iptc4xmpExt:rbVertices><rdf:Seq><rdf:li Iptc4xmpExt:rbX="0.1"
 Iptc4xmpExt:rbY="0.2"/><rdf:li Iptc4xmpExt:rbX="0.4" Iptc4xmpExt:rbY="0.3"/></rdf:Seq>
</Iptc4xmpExt:rbVertices></Iptc4xmpExt:RegionBoundary></rdf:li></rdf:Bag>
</Iptc4xmpExt:ImageRegion><xmp:Thumbnails><rdf:Alt>{_LI}<xmpGImg:width>8</xmpGImg:width>
<xmpGImg:height>8</xmpGImg:height><xmpGImg:image>AAAA</xmpGImg:image></rdf:li></rdf:Alt>
</xmp:Thumbnails><darktable:history><rdf:Seq><rdf:li darktable:operation="lens"
 darktable:enabled="0"/></rdf:Seq></darktable:history><acdsee-rs:Regions>1</acdsee-rs:Regions>
<Container:Directory><rdf:Seq>{_LI}<Container:Item Item:Semantic="Primary"
 Item:Mime="image/jpeg"/></rdf:li>{_LI}<Container:Item Item:Semantic="GainMap"
 Item:Mime="image/jpeg" Item:Length="99"/></rdf:li></rdf:Seq></Container:Directory>"""
_ATTRIBUTES = (
    f'tiff:Orientation="6" tiff:ImageWidth="{W}" exif:PixelYDimension="{H}" crs:HasCrop="True" '
    'crs:LensProfileEnable="0" crs:AlreadyApplied="True" crs:LensManualDistortionAmount="0" '
    'aux:DistortionCorrectionAlreadyApplied="False" hdrgm:Version="1.0" '
    'GDepth:Format="RangeLinear" GCamera:MotionPhoto="1" xmpNote:HasExtendedXMP="{digest}"'
)


def xmp(body: str = BODY, attributes: str = _ATTRIBUTES) -> bytes:
    """An XMP packet with every property that is read or changed, between two processing marks."""
    spaces = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in _SPACES.items())
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta '
        f'xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}"><rdf:Description rdf:about="" '
        f'{spaces} {attributes}>{body}</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


class Sub(list[Any]):
    """Tags of a directory that a tag points to."""


def tag_bytes(order: str, kind: int, *values: float) -> bytes:
    code = {1: "B", 3: "H", 4: "I", 5: "I", 8: "h", 9: "i"}[kind]
    return struct.pack(f"{order}{len(values)}{code}", *values)


def tiff_block(order: str, directories: list[Any], head: int = 8) -> bytes:
    """A TIFF structure of (tag, type, value as bytes or `Sub`), one list for each directory."""
    sizes = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 8: 2, 9: 4, 10: 8}
    data = bytearray((b"II*\0" if order == "<" else b"MM\0*") + bytes(4))
    data += bytes(head - 8)

    def directory(tags: list[Any]) -> int:
        rows = []
        for tag, kind, value in tags:
            if isinstance(value, Sub):
                value = struct.pack(order + "I", directory(value))
            count, at = len(value) // sizes[kind], len(data)
            if len(value) > 4:
                data.extend(value + bytes(len(value) % 2))
                value = struct.pack(order + "I", at)
            rows.append(struct.pack(order + "HHI", tag, kind, count) + value.ljust(4, b"\0"))
        at = len(data)
        data.extend(struct.pack(order + "H", len(rows)) + b"".join(rows) + bytes(4))
        return at

    link = 4
    for tags in directories:
        at = directory(tags)
        struct.pack_into(order + "I", data, link, at)
        link = at + 2 + 12 * len(tags)
    return bytes(data)


def maker_note(make: str, order: str, at: int) -> bytes:
    """A note of a camera maker with the tags that mark a correction, for position `at`."""

    def plain(start: bytes, tag: int, value: bytes, base: int) -> bytes:
        place = base + len(start) + 2 + 12 + 4
        row = struct.pack(order + "HHII", tag, 7, len(value), place)
        return start + struct.pack(order + "H", 1) + row + bytes(4) + value

    if make == "NIKON":
        return b"Nikon\0\x02\x10\0\0" + tiff_block(
            order, [[(0x2B, 7, b"0100\1\0\0\0"), (0x84, 5, tag_bytes(order, 5, *(9, 1) * 4))]]
        )
    if make == "OLYMPUS":
        mark = b"II" if order == "<" else b"MM"
        inner = struct.pack(order + "HHHII", 1, 0x1011, 3, 1, 0) + bytes(4)
        row = struct.pack(order + "HHHII", 1, 0x2040, 13, 1, 30) + bytes(4)
        return b"OLYMPUS\0" + mark + b"\3\0" + row + inner
    if make == "SONY":
        return b"SONY DSC \0\0\0" + struct.pack(order + "HHHIII", 1, 0x2013, 4, 1, 0, 0)
    if make == "PENTAX":
        return plain(b"AOC\0MM" if order == ">" else b"AOC\0II", 0x7D, b"\0\1\2\3\4", 0)
    return plain(b"", 0x4015, bytes(32), at)


def exif(order: str = "<", make: str = "Canon", orientation: int = 6, rich: bool = True) -> bytes:
    """An EXIF block: camera, lens, note, GPS, interoperability index and thumbnail."""

    def number(tag: int, kind: int, *values: float) -> tuple[int, int, bytes]:
        return tag, kind, tag_bytes(order, kind, *values)

    probe = tiff_block(order, [[(NOTE, 7, b"note!")]])
    note = maker_note(make.upper(), order, len(probe.partition(b"note!")[0]))
    details = Sub([
        (NOTE, 7, note), number(0x829A, 5, 1, 100), number(0x920A, 5, 50, 1), (0x9000, 7, b"0230"),
        number(0x829D, 5, 28, 10), number(0x9214, 3, 10, 12, 6, 4), number(0xA002, 4, W),
        number(0xA003, 3, H), number(0xA20E, 5, 1000, 1), number(0xA20F, 5, 1000, 1),
        number(0xA210, 3, 3), number(0xA405, 3, 75), number(0xA404, 5, 1, 1),
        number(0xA432, 5, *(24, 1, 70, 1, 28, 10, 4, 1)), (0xA434, 2, b"EF24-70mm f/2.8\0"),
        (0x9286, 7, b"UNICODE\0h\0i\0"),
        (0xA005, 4, Sub([(1, 2, b"R03\0"), number(0x1001, 4, W)])),
    ])  # fmt: skip
    place = Sub([(1, 2, b"N\0"), number(2, 5, 52, 1, 3, 1, 1, 1)])
    first = [
        (DESCRIPTION, 2, b"A gate\0"), (0x010F, 2, make.encode() + b"\0"), (0x0110, 2, b"One D\0"),
        number(0x0112, 3, orientation), number(0x011A, 5, 300, 1), number(0x011B, 5, 300, 1),
        number(0x0128, 3, 2), (0x0132, 2, b"2024:01:01 00:00:00\0"), (0x8769, 4, details),
        (0x8825, 4, place), (0xC4A5, 7, b"PrintIM\0" + bytes(20)),
    ]  # fmt: skip
    if not rich:
        return tiff_block(order, [first])
    jpeg = jpeg_of(textured(12, 16))
    second = [number(0x0103, 3, 6), number(THUMBNAIL, 4, 0), number(0x0202, 4, len(jpeg))]
    block = bytearray(tiff_block(order, [first, second]))
    struct.pack_into(order + "I", block, len(block) - 4 - 12 - 4, len(block))
    return bytes(block) + jpeg


def jpeg_of(picture: NDArray[Any], mode: str | None = None, **options: Any) -> bytes:
    return saved(picture, "JPEG", mode, **{"quality": 85, **options})


def saved(picture: NDArray[Any], kind: str, mode: str | None = None, **options: Any) -> bytes:
    file, image = io.BytesIO(), Image.fromarray(picture)
    (image.convert(mode) if mode else image).save(file, kind, **options)
    return file.getvalue()


def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def photoshop() -> bytes:
    """Image resources: captions, a thumbnail, a path, a resolution."""

    def one(number: int, data: bytes) -> bytes:
        return b"8BIM" + struct.pack(">HHI", number, 0, len(data)) + data + bytes(len(data) % 2)

    jpeg = jpeg_of(textured(8, 8))
    shown = struct.pack(">6IHH", 1, 8, 8, 24, 192, len(jpeg), 24, 1) + jpeg
    captions = b"\x1c\x02\x50\0\4Anne\x1c\x02\x78\0\3Abc"
    return (
        one(0x0404, captions) + one(0x040C, shown) + one(2000, bytes(26)) + one(0x03ED, bytes(16))
    )


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def rich_jpeg(order: str, make: str, orientation: int = 6) -> bytes:
    """An Ultra HDR JPEG with every kind of segment, a gain map and a video behind it."""
    long = xmp("<dc:subject>longer</dc:subject>", "")
    digest = hashlib.md5(long).hexdigest().upper()
    gain = jpeg_of(textured(H // 2, W // 2)[..., 0])
    version = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="%s"><rdf:Description ' % (
        _RDF.encode()
    )
    version += (
        b'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"/></rdf:RDF>'
    )
    name = b"http://ns.adobe.com/xap/1.0/\0"
    gain = gain[:2] + segment(0xE1, name + version + b"</x:xmpmeta>") + gain[2:]
    profile = srgb()
    half = len(profile) // 2
    index = tiff_block(">", [[(0xB000, 7, b"0100"), (0xB001, 4, bytes((0, 0, 0, 2)))]])
    parts = [
        segment(0xE1, b"Exif\0\0" + exif(order, make, orientation)),
        segment(0xE1, name + xmp(attributes=_ATTRIBUTES.format(digest=digest))),
        segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + digest.encode()
                + struct.pack(">II", len(long), 0) + long),
        segment(0xE2, b"ICC_PROFILE\0\1\2" + profile[:half]),
        segment(0xE2, b"ICC_PROFILE\0\2\2" + profile[half:]),
        segment(0xE2, b"MPF\0" + index),
        segment(0xE2, b"urn:iso:std:iso:ts:21496:-1\0" + bytes(4)),
        segment(0xE3, b"FLIR\0thermal"), segment(0xEB, b"JP\0\1\0\0\0\1jumb c2pa"),
        segment(0xED, b"Photoshop 3.0\0" + photoshop()), segment(0xFE, b"a comment"),
    ]  # fmt: skip
    plain = jpeg_of(textured(H, W), dpi=(300, 300))
    return plain[:20] + b"".join(parts) + plain[20:] + gain + b"\0\0\0\x18ftypmp42" + bytes(40)


def _pixels(channels: int, depth: Any = np.uint8) -> NDArray[Any]:
    colours = textured(H, W, 3).astype(depth)
    alpha = np.linspace(0, 255, W).astype(depth)[None, :, None].repeat(H, 0)
    picture = {1: colours[..., :1], 2: colours[..., :1], 3: colours, 4: colours}[channels]
    picture = np.concatenate((picture, alpha), 2) if channels % 2 == 0 else picture
    return picture if depth == np.uint8 else picture * 256 + picture[::-1]


def png_of(channels: int, depth: Any = np.uint8, clear: bytes = b"") -> bytes:
    metadata = Metadata(
        exif("<"), srgb() if channels > 2 else b"", xmp(), photoshop=photoshop(), dpi=(300, 300),
        png_chunks=((b"tEXt", b"Comment\0words"), (b"gAMA", struct.pack(">I", 45455)),
                    (b"cHRM", struct.pack(">8I", *range(10000, 90000, 10000))),
                    (b"cICP", bytes((9, 16, 0, 1))), (b"bKGD", bytes(2 * channels)),
                    (b"vpAg", b"own"), raw_profile(b"exif", b"Exif\0\0" + exif(">")),
                    *(((b"tRNS", clear),) if clear else ())),
    )  # fmt: skip
    return encode_png(_pixels(channels, depth), metadata)


def tiff_of(picture: NDArray[Any], order: Literal["<", ">"] = "<", **options: Any) -> bytes:
    file = io.BytesIO()
    extra = [(700, 1, None, xmp(), True), (34377, 7, None, photoshop(), True),
             (33723, 7, None, b"\x1c\x02\x50\0\4Anne", True), (271, 2, None, "Canon", True),
             (274, 3, 1, 6, True)]  # fmt: skip
    tifffile.imwrite(file, picture, byteorder=order, extratags=extra, metadata=None,
                     iccprofile=srgb() if picture.shape[-1] == 3 else None, **options)  # fmt: skip
    return file.getvalue()


def riff_of(data: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    for kind, content in chunks:
        data += kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]


def _jpegs() -> dict[str, bytes]:
    colour, gray = textured(H, W), textured(H, W)[..., 0]
    cmyk = jpeg_of(colour, "CMYK", exif=b"Exif\0\0" + exif(">"))
    plain = jpeg_of(gray, exif=b"Exif\0\0" + exif(">", "Nikon", 8), progressive=True)
    wide = textured(20, 300)
    camera = jpeg_of(wide, subsampling=1, exif=b"Exif\0\0" + exif("<", "Pentax", 3))
    panorama = xmp(attributes='GPano:ProjectionType="equirectangular" crs:HasCrop="1"')
    name = b"http://ns.adobe.com/xap/1.0/\0"
    return {
        "ultra_hdr": rich_jpeg("<", "Canon"), "motion": rich_jpeg(">", "Olympus", 1),
        "cmyk": cmyk, "grey_progressive": plain, "pentax": camera,
        "panorama": camera[:2] + segment(0xE1, name + panorama) + camera[2:],
    }  # fmt: skip


def _tiffs() -> dict[str, bytes]:
    colour, planes = _pixels(3), np.moveaxis(_pixels(3, np.uint16), 2, 0)
    metadata = Metadata(exif("<"), srgb(), xmp(), photoshop=photoshop(), dpi=(300, 300))
    big_endian = Metadata(exif(">", "Sony"), b"", xmp())
    tags = Image.Exif()
    tags.load(b"Exif\0\0" + exif("<", rich=False))
    return {
        "tiff": encode_tiff(colour, metadata)[0],
        "tiff_mm16": encode_tiff(_pixels(4, np.uint16), big_endian)[0],
        "planar": tiff_of(planes, planarconfig="separate", photometric="rgb"),
        "tiled_lzw": tiff_of(colour, ">", tile=(16, 16), compression="lzw", photometric="rgb"),
        "big": tiff_of(colour, bigtiff=True, compression="zlib", predictor=True, photometric="rgb"),
        "jpeg_tiff": saved(colour, "TIFF", compression="jpeg"),
        "ycbcr": saved(colour, "TIFF", "YCbCr"),
        "ycbcr_zip": saved(colour, "TIFF", "YCbCr", compression="tiff_deflate"),
        "tiff_palette": saved(colour, "TIFF", "P", exif=tags),
        "fax": saved(colour, "TIFF", "1", compression="group4"),
        "tiff_cmyk": tiff_of(_pixels(4), photometric="separated"),
        "pyramid": _two_pages(colour),
    }  # fmt: skip


def _two_pages(colour: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(colour, photometric="rgb", compression="zlib", metadata=None)
        writer.write(colour[::2, ::2], photometric="rgb", subfiletype=1, metadata=None)
    return file.getvalue()


def _heifs() -> dict[str, bytes]:
    colour, block = textured(H, W), b"Exif\0\0" + exif("<")
    coded: dict[str, Any] = {"info_exif": block, "info_xmp": xmp(), "info_icc_profile": srgb()}
    deep = (_pixels(3).astype(np.uint16)) * 4
    return {
        "heic": heic(colour, **coded),
        "heic_alpha": heic(_pixels(4), "RGBA", info_exif=block),
        "heic10": heic(deep, "RGB;10"),
        "avif": avif(colour, exif=block, xmp=xmp(), icc_profile=srgb()),
        "avif_alpha": avif(_pixels(4)),
        "avif10": avif_of(10, deep),
    }


@cache
def seeds() -> dict[str, bytes]:
    """The files by name. The first bytes give their format."""
    colour, block = textured(H, W), exif("<")
    palette = saved(colour, "PNG", "P", transparency=3)
    interlaced = encode_png(_pixels(3), Metadata(xmp=xmp()))
    at = palette.index(b"IDAT") - 4
    before = png_chunk(b"eXIf", block) + png_chunk(b"sPLT", b"x\0\x08" + bytes(6))
    unknown = (b"abcd", b"unknown"), (b"EXIF", block)
    return {
        **_jpegs(), **_tiffs(), **_heifs(),
        "png": png_of(3), "png16": png_of(3, np.uint16, bytes(6)),
        "png_grey_alpha16": png_of(2, np.uint16),
        "png_grey16": png_of(1, np.uint16, bytes(2)), "png_grey": png_of(1), "png_alpha": png_of(4),
        "png_palette": palette[:at] + before + palette[at:], "png_xmp": interlaced,
        "webp": riff_of(saved(colour, "WEBP", exif=b"Exif\0\0" + block, xmp=xmp(),
                            icc_profile=srgb()), unknown[0]),
        "webp_lossless": saved(_pixels(4), "WEBP", lossless=True, exif=block),
        "webp_plain": riff_of(saved(colour, "WEBP"), *unknown),
        "bmp": saved(colour, "BMP", dpi=(300, 300)), "bmp_palette": saved(colour, "BMP", "P"),
        "bmp_alpha": saved(_pixels(4), "BMP"),
    }  # fmt: skip
