"""Which tags of a TIFF's or an EXIF block's first directory describe the photo, not the file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from warp_train.photos.ifd import IFD, LONG, RATIONAL, SHORT, Entry, packed

XMP, IPTC, PHOTOSHOP, ICC, LAYERS, C2PA = 700, 33723, 34377, 34675, 37724, 52545
RESOLUTION = (282, 283, 296)
ORIENTATION = 0x0112

_PHOTOGRAPHIC = frozenset(
    (
        *(269, 270, 271, 272, 285, *RESOLUTION, 305, 306, 315, 316, 318, 319),
        *(11, 18246, 18249, 33432, 50341),  # software, ratings, copyright, PrintIM
        *(50708, 50709, 50735, 50736, 50781, 50827),  # DNG's names of the camera, lens and file
        *(50898, 50899),  # Panasonic's titles
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
        *(XMP, IPTC, PHOTOSHOP, ICC),  # blocks that `Metadata` has fields for
    )
)
"""How the file stores its pixels."""
_RAW = range(50706, 51200)
"""DNG's tags: a file that has them is a camera's raw file for other programs."""
_EXIF_LAYOUT = frozenset((256, 257, 258, 259, 262, ORIENTATION, 277, 284, 529, 530, 531, 532))
_HELD_ELSEWHERE = frozenset((34665, 34853, 40965, XMP, IPTC, PHOTOSHOP, ICC))
_FOREIGN = _LAYOUT - _EXIF_LAYOUT - _HELD_ELSEWHERE
"""Layout that no EXIF block has for its picture (EXIF 3.0, section 4.6.4): where pixels are."""
_DNG = "its raw file's tags (DNG) were left out: they describe no developed picture"
_GEOGRAPHIC = frozenset((33550, 33922, 34264, 34735, 34736, 34737))
_FALSE = {
    **dict.fromkeys((50706, 50707), _DNG),  # the version, by which programs know a raw file
    LAYERS: "Photoshop's layers were left out: they contain uncorrected pixels",
    C2PA: "its content credentials (C2PA) were left out: they sign the old pixels",
    330: "the further pictures in the file were left out",
    **dict.fromkeys((50838, 50839), "its ImageJ metadata were left out: they mark the old pixels"),
    301: "its transfer function (TIFF tag 301) was left out",
    290: "its grey response (TIFF tags 290 and 291) was left out",
    291: "its grey response (TIFF tags 290 and 291) was left out",
    **dict.fromkeys(
        _GEOGRAPHIC, "its map coordinates (GeoTIFF) were left out: they locate the old pixels"
    ),
}
_OF_A_PAGE = frozenset((290, 291, 301))
"""True in an EXIF block whose pixels are of the same kind."""
Place = Literal["same block", "other block"]


def false_tags(tags: Iterable[int]) -> tuple[frozenset[int], list[str]]:
    """The tags of an EXIF block's first directory that are false in any new file, and warnings."""
    false = (_FOREIGN | _FALSE.keys() - _OF_A_PAGE) & set(tags)
    return false, list(dict.fromkeys(_FALSE[tag] for tag in sorted(false) if tag in _FALSE))


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
    if tag == ORIENTATION and place == "other block":
        return True, None
    if tag in _LAYOUT:
        return False, None
    if tag in _RAW:
        return False, _DNG
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
