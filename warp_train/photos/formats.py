"""The names of photo formats, crops and interpolations, in a module that imports no torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import PurePath
from typing import Literal

Format = Literal["jpeg", "png", "tiff", "webp", "bmp"]
"""What can be written."""
Kind = Literal["jpeg", "png", "tiff", "webp", "bmp", "heic", "avif"]
"""What can be read."""
Crop = Literal["fill", "none", "max"]
Interpolation = Literal["bilinear", "bicubic", "lanczos"]

SUFFIXES: dict[Kind, tuple[str, ...]] = {
    "jpeg": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "png": (".png",),
    "tiff": (".tif", ".tiff"),
    "webp": (".webp",),
    "bmp": (".bmp", ".dib"),
    "heic": (".heic", ".heif", ".hif"),
    "avif": (".avif",),
}
"""File suffixes of each format, in lower case; a new file of a format gets the first."""
HEIF_SUFFIXES = SUFFIXES["heic"] + SUFFIXES["avif"]
"""Of formats that are read through pillow-heif, and never written."""
PHOTO_SUFFIXES = tuple(
    suffix for suffixes in SUFFIXES.values() for suffix in suffixes if suffix not in HEIF_SUFFIXES
)
"""Of formats that are always read: for training, scores and corrections."""

HEIF_REMEDY = "pip install 'warp_train[heic]'"
_CONVERT = "convert to JPEG, PNG or TIFF first"
_REMEDIES: dict[str, str] = {
    # camera raws
    ".3fr .arw .bay .cr2 .cr3 .crw .dcr .dng .eip .erf .fff .gpr .iiq .k25 .kdc "
    ".mef .mos .mrw .nef .nrw .orf .ori .pef .ptx .raf .raw .rw2 .rwl .rwz .sr2 .srf .srw "
    ".x3f": "develop to TIFF or JPEG first",
    # Photoshop and other editors
    ".psb .psd .xcf .kra .afphoto": "save as flat TIFF first",
    # spherical cameras
    ".insp": "export as flat photos first",
    # more than 16 bits a channel
    ".exr .hdr .pfm": "convert to 16-bit TIFF first",
    # sequences of HEIF
    ".avcs .avifs .heics .heifs": "export the pictures as JPEG first",
    # JPEG XL, JPEG 2000, JPEG XR and others
    ".jxl .j2c .j2k .jp2 .jpc .jpf .jpm .jpx .hdp .jxr .wdp .avci .gif .jls .pbm .pcx .pgm .pnm "
    ".ppm .qoi .sgi .tga": _CONVERT,
}
UNHANDLED: dict[str, str] = {
    suffix: remedy for suffixes, remedy in _REMEDIES.items() for suffix in suffixes.split()
}
"""Suffixes of picture formats that are not read, and what a photographer can do."""


def written_format(kind: Kind) -> Format:
    """The format of a result that is written in the photo's own format, as far as possible."""
    return "jpeg" if kind == "heic" or kind == "avif" else kind


def reads_heif() -> bool:
    """Whether HEIC and AVIF can be read: pillow-heif is installed."""
    return find_spec("pillow_heif") is not None


def remedy(name: str, *, training: bool = False) -> str | None:
    """What to do about a picture file that is not read; None for other files.

    Args:
        name: of the file.
        training: for training, where HEIC and AVIF are not read.
    """
    suffix = PurePath(name).suffix.lower()
    if suffix in HEIF_SUFFIXES:
        return _CONVERT if training else None if reads_heif() else HEIF_REMEDY
    return UNHANDLED.get(suffix)


def unread_line(counts: Mapping[str, int], *, training: bool = False) -> str:
    """How many files were not read, of which formats, and what to do; empty if there are none.

    Args:
        counts: number of files by suffix; each suffix has a `remedy`.
        training: as in `remedy`.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for suffix in sorted(counts):
        groups[remedy(f"x{suffix}", training=training) or _CONVERT].append(suffix)
    parts = []
    for what_to_do, suffixes in groups.items():
        named = ", ".join(f"{counts[suffix]} {suffix}" for suffix in suffixes)
        alone = sum(counts[suffix] for suffix in suffixes) == 1
        parts.append(f"{named} {'file was' if alone else 'files were'} not read: {what_to_do}")
    return "; ".join(parts)
