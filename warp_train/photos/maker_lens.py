"""The range of a lens from the notes of camera makers.

Cameras from before EXIF 2.3 have no standard tags for the lens. Two makers' notes contain its
range: Canon's CameraSettings (tag 1: at 23 the longest focal length, at 24 the shortest, at 25 the
units per mm) and Nikon's Lens (tag 0x84: both focal lengths, and the lowest f-number at each).

Source: the tag tables of ExifTool, `Canon` and `Nikon`.
"""

from __future__ import annotations

import struct

from warp_train.photos.lens_names import LensSpec, lens_spec

_NIKON = b"Nikon\0\x02"
_NIKON_HEADER = 10  # bytes before the TIFF structure of Nikon's notes
_CANON_SETTINGS, _NIKON_LENS = 0x0001, 0x0084
_SHORT, _RATIONAL = 3, 5
_MOST_TAGS = 512


def maker_lens(maker: str, note: bytes, exif: bytes) -> LensSpec | None:
    """The range of the lens, or None if the note does not contain it or is damaged.

    Args:
        maker: of the camera.
        note: EXIF's MakerNote.
        exif: the TIFF structure around it, from which Canon's positions count.
    """
    try:
        if note.startswith(_NIKON):
            return _nikon(note[_NIKON_HEADER:])
        at = exif.find(note)
        if maker.casefold().startswith("canon") and note and at >= 0:
            return _canon(exif, at)
    except (struct.error, ValueError):
        return None
    return None


def _nikon(tiff: bytes) -> LensSpec | None:
    order = _byte_order(tiff)
    (first,) = struct.unpack_from(order + "I", tiff, 4)
    parts = _values(tiff, order, first, _NIKON_LENS, _RATIONAL)
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return lens_spec([above / below if above and below else None for above, below in pairs])


def _canon(tiff: bytes, at: int) -> LensSpec | None:
    settings = _values(tiff, _byte_order(tiff), at, _CANON_SETTINGS, _SHORT)
    if len(settings) < 26 or not settings[25]:
        return None
    longest, shortest, units = settings[23:26]
    return lens_spec([shortest / units, longest / units, None, None])


def _values(tiff: bytes, order: str, directory: int, wanted: int, kind: int) -> tuple[int, ...]:
    """The numbers of one tag of a directory; two for each rational. Empty if it is not there."""
    (count,) = struct.unpack_from(order + "H", tiff, directory)
    for at in range(directory + 2, directory + 2 + 12 * min(count, _MOST_TAGS), 12):
        tag, found, number, place = struct.unpack_from(order + "HHII", tiff, at)
        if (tag, found) == (wanted, kind) and number <= len(tiff):
            code = f"{order}{number}H" if kind == _SHORT else f"{order}{2 * number}I"
            return struct.unpack_from(code, tiff, place)
    return ()


def _byte_order(tiff: bytes) -> str:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        raise ValueError("not a TIFF structure")
    return order
