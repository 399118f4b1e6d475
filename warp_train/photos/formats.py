"""The words for how photos are written, for whoever has to know them before torch is there."""

from typing import Literal

Format = Literal["jpeg", "png", "tiff", "webp", "bmp"]
Crop = Literal["fill", "none", "max"]
Interpolation = Literal["bilinear", "bicubic", "lanczos"]

SUFFIXES: dict[Format, tuple[str, ...]] = {
    "jpeg": (".jpg", ".jpeg"),
    "png": (".png",),
    "tiff": (".tif", ".tiff"),
    "webp": (".webp",),
    "bmp": (".bmp",),
}
"""The first of each is what `--format` makes."""
PHOTO_SUFFIXES = tuple(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
