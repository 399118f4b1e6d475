"""HEIC and AVIF files made by pillow-heif, Pillow and OpenCV, and changes of their boxes."""

import io
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[Any]
_CONTAINERS = {"meta": 4, "iprp": 0, "ipco": 0}
"""Boxes that contain boxes, and how many bytes they have before them."""


def scene(height: int = 60, width: int = 100) -> Array:
    """[H, W, 3] uint8: a slope in each colour, with a red corner at the top left."""
    slope = np.indices((height, width)).sum(0)[..., None] * np.array([1, 1.2, 1.4])
    pixels: Array = slope.clip(0, 255).astype(np.uint8)
    pixels[: height // 3, : width // 3] = (250, 10, 10)
    return pixels


def heic(pixels: Array, mode: str = "RGB", *, quality: int = 95, **options: Any) -> bytes:
    """A HEIC file of [H, W, C] pixels; `mode` as in pillow-heif, such as `RGB;16`.

    `info_…` options are entries of pillow-heif's `info`, such as `info_exif`.
    """
    height, width = pixels.shape[:2]
    file = pillow_heif.from_bytes(mode, (width, height), np.ascontiguousarray(pixels).tobytes())
    for name in [name for name in options if name.startswith("info_")]:
        file.info[name.removeprefix("info_")] = options.pop(name)
    out = io.BytesIO()
    file.save(out, quality=quality, chroma="444", **options)
    return out.getvalue()


def avif(pixels: Array, **options: Any) -> bytes:
    """An AVIF file of 8 bits."""
    out = io.BytesIO()
    options = {"quality": 95, "subsampling": "4:4:4", "speed": 9, **options}
    Image.fromarray(pixels.squeeze()).save(out, "AVIF", **options)
    return out.getvalue()


def avif_of(bits: int, pixels: Array) -> bytes:
    """An AVIF file without loss, of 8, 10 or 12 bits; [H, W, 1 or 3] pixels of so many."""
    how = [cv2.IMWRITE_AVIF_DEPTH, bits, cv2.IMWRITE_AVIF_QUALITY, 100]
    done, coded = cv2.imencode(".avif", np.ascontiguousarray(pixels[..., ::-1]), how)
    assert done
    return coded.tobytes()


def exif(**tags: Any) -> bytes:
    """An EXIF block with the header of JPEG."""
    made = Image.Exif()
    for name, value in tags.items():
        made[{"orientation": 0x0112, "make": 0x010F}[name]] = value
    return made.tobytes()


def box(kind: str, content: bytes) -> bytes:
    return (len(content) + 8).to_bytes(4, "big") + kind.encode() + content


def with_property(data: bytes, kind: str, content: bytes) -> bytes:
    """The file with one more property of item 1, which has an entry in `ipma`; an essential one."""
    places = {name: (start, end) for name, start, end in walk(data)}
    count = sum(1 for _ in _inside(data, *places["ipco"]))
    data = spliced(data, "ipco", places["ipco"][1], 0, box(kind, content))
    places = {name: (start, end) for name, start, end in walk(data)}
    at = places["ipma"][0]
    assert data[at : at + 4] == bytes(4), "version 0, short indices"
    assert data[at + 8 : at + 10] == b"\0\1", "the first entry is item 1's"
    linked = data[at + 10]
    data = spliced(data, "ipma", at + 11 + linked, 0, bytes([0x80 | count + 1]))
    return data[: at + 10] + bytes([linked + 1]) + data[at + 11 :]


def with_property_replaced(data: bytes, old: bytes, kind: str, content: bytes) -> bytes:
    """The file with another property in place of the one whose content contains `old`."""
    places = {name: (start, end) for name, start, end in walk(data)}
    start, end = next(
        (start, end) for _, start, end in _inside(data, *places["ipco"]) if old in data[start:end]
    )
    return spliced(data, "ipco", start - 8, end - start + 8, box(kind, content))


def spliced(data: bytes, box_name: str, at: int, removed: int, added: bytes) -> bytes:
    """Data with bytes replaced in `ipco` or `ipma`; the sizes and places of boxes are corrected."""
    delta = len(added) - removed
    changed = bytearray(data)
    for name, start, end in walk(data):
        if name in (box_name, "iprp", "meta"):
            changed[start - 8 : start - 4] = (end - start + 8 + delta).to_bytes(4, "big")
        if name == "iloc":
            for place in _places(data, start):
                offset = int.from_bytes(data[place : place + 4], "big")
                if offset >= at:
                    changed[place : place + 4] = (offset + delta).to_bytes(4, "big")
    return bytes(changed[:at]) + added + bytes(changed[at + removed :])


def walk(data: bytes, at: int = 0, end: int | None = None) -> Iterator[tuple[str, int, int]]:
    """(type, start, end) of the contents of all boxes, also of those in containers."""
    for name, start, stop in _inside(data, at, len(data) if end is None else end):
        yield name, start, stop
        if name in _CONTAINERS:
            yield from walk(data, start + _CONTAINERS[name], stop)


def _inside(data: bytes, at: int, end: int) -> Iterator[tuple[str, int, int]]:
    while at + 8 <= end:
        size = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8].decode("latin-1"), at + 8, at + size
        at += size


def _places(data: bytes, start: int) -> Iterator[int]:
    """Where `iloc` holds places in the file, of 4 bytes: each item's base, or else its offsets."""
    version = data[start]
    assert version < 2
    assert data[start + 4] == 0x44
    assert data[start + 5] in (0, 0x40)
    with_base = data[start + 5] > 0
    at = start + 8
    for _ in range(int.from_bytes(data[start + 6 : at], "big")):
        at += 6 if version else 4
        if with_base:
            yield at
            at += 4
        parts = int.from_bytes(data[at : at + 2], "big")
        at += 2
        for _ in range(parts):
            if not with_base:
                yield at
            at += 8
