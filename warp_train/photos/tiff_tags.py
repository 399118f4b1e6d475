"""Which tags of a TIFF's or an EXIF block's first directory describe the photo, not the file."""

from __future__ import annotations

from typing import Literal

from warp_train.photos.ifd import IFD, LONG, RATIONAL, SHORT, Entry, packed

XMP, IPTC, PHOTOSHOP, ICC, LAYERS, C2PA = 700, 33723, 34377, 34675, 37724, 52545
RESOLUTION = (282, 283, 296)

_PHOTOGRAPHIC = frozenset(
    (
        *(269, 270, 271, 272, 285, *RESOLUTION, 305, 306, 315, 316, 318, 319),
        *(18246, 18249, IPTC, 33432, 50341),  # ratings, captions, copyright, PrintIM
    )
)
_LAYOUT = frozenset(
    (
        *(254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 274, 277, 278, 279, 280, 281),
        *(284, 286, 287, 288, 289, 292, 293, 297, 317, 320, 321, 322, 323, 324, 325, 326, 327, 328),
        *(332, 333, 334, 336, 337, 338, 339, 340, 341, 342, 343, 345, 346, 347, 351),
        *(400, 401, 402, 403, 404, 405, 433, 434, 435, 512, 513, 514, 515, 517, 518, 519, 520, 521),
        *(
            529,
            530,
            531,
            532,
            559,
            50674,
            32953,
            32954,
            32955,
            32995,
            32996,
            32997,
            32998,
            33421,
            33422,
        ),
        *(34665, 34853, 40965),  # the directories, which are copied by themselves
        *(XMP, PHOTOSHOP, ICC),  # blocks that `Metadata` has fields for
    )
)
"""How the file stores its pixels."""
_RAW = range(50706, 51200)
"""DNG's tags: a file that has them is a camera's raw file for other programs."""
_GEOGRAPHIC = frozenset((33550, 33922, 34264, 34735, 34736, 34737))
_FALSE = {
    LAYERS: "Photoshop's layers were left out: they contain uncorrected pixels",
    C2PA: "its content credentials (C2PA) were left out: they sign the old pixels",
    330: "the further pictures in the file were left out",
    301: "its transfer function (TIFF tag 301) was left out",
    290: "its grey response (TIFF tags 290 and 291) was left out",
    291: "its grey response (TIFF tags 290 and 291) was left out",
    **dict.fromkeys(
        _GEOGRAPHIC, "its map coordinates (GeoTIFF) were left out: they locate the old pixels"
    ),
}
Place = Literal["same block", "other block"]


def fate_of(entry: Entry, order: str, place: Place) -> tuple[bool, str | None]:
    """Whether a tag of the first directory goes into a new file, and the warning if it is lost.

    Args:
        entry: the tag.
        order: byte order of its value, `<` or `>`.
        place: `same block` if all positions in the block stay as they are, so that a tag of an
            unknown meaning may contain positions.
    """
    tag = entry.tag
    if tag in RESOLUTION and not _is_resolution(entry, order):
        return False, None
    if tag in _PHOTOGRAPHIC:
        return True, None
    if tag in _FALSE:
        return False, _FALSE[tag]
    if tag in _LAYOUT or tag in _RAW:
        return False, None
    private = tag >= 32768
    if private and (place == "same block" or entry.kind not in (LONG, IFD, 16, 17, 18)):
        return True, None
    return False, f"its TIFF tag {tag} was left out: its meaning is unknown"


def _is_resolution(entry: Entry, order: str) -> bool:
    """Whether a resolution is of the prescribed type, and its unit of a prescribed value."""
    if entry.tag == RESOLUTION[2]:
        units = [packed(order, SHORT, (unit,)) for unit in (1, 2, 3)]
        return entry.kind == SHORT and entry.value in units
    return entry.kind == RATIONAL and entry.count == 1
