"""The names of photo formats, crops and interpolations, in a module that imports no torch."""

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
"""File suffixes of each format; a new file of a format gets the first."""
PHOTO_SUFFIXES = tuple(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
