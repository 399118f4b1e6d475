"""Accepts the kinds of TIFF that photos are stored in, and refuses all others."""

from __future__ import annotations

from typing import Any

from PIL import Image as Pillow

_PHOTOMETRIC = {0: "grey", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr"}
_UNASSOCIATED = 2


def tiff_bits(image: Pillow.Image) -> int:
    """Bits per channel of a TIFF; 0 for another format."""
    return max(_values(image, 258, (1,))) if image.format == "TIFF" else 0


def unused_channels(image: Pillow.Image) -> bool:
    """Whether a TIFF has extra channels that are neither colour nor transparency."""
    return any(kind not in (1, _UNASSOCIATED) for kind in _values(image, 338, ()))


def refuse_odd_tiff(image: Pillow.Image, size: int) -> list[str]:
    """Raises ValueError if a TIFF of `size` bytes cannot be corrected.

    Returns:
        Warnings on pages that are left out.
    """
    tags = _tags(image)
    if 50706 in tags or int(tags.get(254, 0)) & 1:
        raise ValueError("a camera's raw file or a preview: convert it to an ordinary TIFF first")
    colours, bits = int(tags.get(262, 1)), set(_values(image, 258, (1,)))
    if colours not in _PHOTOMETRIC:
        raise ValueError(f"its colour space (photometric {colours}) cannot be corrected")
    if any(kind not in (1, 4) for kind in _values(image, 339, (1,))):
        raise ValueError("floating-point or signed samples cannot be corrected")
    if len(bits) > 1 or not bits <= {1, 2, 4, 8, 16}:
        raise ValueError(f"{'/'.join(map(str, sorted(bits)))} bits a channel cannot be corrected")
    _refuse_odd_sixteen(image, colours, bits)
    _refuse_truncated(image, size)
    return _further_pages(image)


def _refuse_odd_sixteen(image: Pillow.Image, colours: int, bits: set[int]) -> None:
    if bits != {16}:
        return
    if colours not in (0, 1, 2):
        raise ValueError(f"16-bit {_PHOTOMETRIC[colours]} cannot be corrected")
    if 1 in _values(image, 338, ()):
        raise ValueError("16-bit pixels with premultiplied alpha cannot be corrected")
    if colours == 0:
        raise ValueError("16-bit grey in which zero is white cannot be corrected")


def _refuse_truncated(image: Pillow.Image, size: int) -> None:
    for offsets, counts in ((273, 279), (324, 325)):
        ends = zip(_values(image, offsets, ()), _values(image, counts, ()), strict=False)
        if any(start + length > size for start, length in ends):
            raise ValueError("truncated")


def _further_pages(image: Pillow.Image) -> list[str]:
    """Checks the pages after the first: reduced copies are left out, others raise ValueError."""
    pages = getattr(image, "n_frames", 1)
    try:
        for page in range(1, pages):
            image.seek(page)
            if not int(_tags(image).get(254, 0)) & 1:
                raise ValueError(
                    f"the file contains {pages} pages: split it into one file per page"
                )
    finally:
        image.seek(0)
    return ["the reduced copy of the photo in the file was left out"] if pages > 1 else []


def _tags(image: Pillow.Image) -> Any:
    return getattr(image, "tag_v2", {})


def _values(image: Pillow.Image, tag: int, default: tuple[int, ...]) -> tuple[int, ...]:
    value = _tags(image).get(tag, default)
    return tuple(value) if isinstance(value, tuple | list) else (value,)
