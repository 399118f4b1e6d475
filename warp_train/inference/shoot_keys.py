"""Which photos were taken through one lens at one setting: their shoot. Imports no torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from warp_train.photos.camera_exif import CameraExif, NoCamera, camera_of
from warp_train.photos.files import metadata_in
from warp_train.photos.sizes import picture_size

Of = TypeVar("Of")

Grouping = Literal["auto", "exif", "folder", "off"]

_SAME_FOCAL = 1.01
SAME_CROP_FACTOR = 1.06
"""Largest ratio of two crop factors of one frame.

Cameras round the equivalent focal length to 1 mm, and the least crop mode is 1.2 times.
"""
SAME_ASPECT = 1.015
"""Largest ratio of two aspects of one frame: small copies are rounded to pixels, and 3:2 and 4:3
differ by 1.12."""


class Frame(NamedTuple):
    """A photo, as far as its shoot depends on it."""

    path: Path
    height: int
    """In pixels, as `photos.decoding` finds them, before they are rotated."""
    width: int
    camera: CameraExif | None
    """None if the EXIF has no camera or no focal length."""

    @property
    def aspect(self) -> float:
        """Long side over short side: portrait and landscape photos share a lens."""
        long, short = max(self.height, self.width), min(self.height, self.width)
        return (long - 1) / max(short - 1, 1)


def read_frame(path: Path) -> Frame | None:
    """The frame of a photo of any format that is corrected; None if it cannot be read, which is
    reported when it is corrected."""
    if not path.is_file():  # reading a pipe could block forever
        return None
    try:
        data = path.read_bytes()
        width, height = picture_size(data)
    except Exception:  # parsers raise anything
        return None
    try:
        camera = camera_of(metadata_in(data))
    except NoCamera:
        camera = None
    return Frame(path, height, width, camera)


def name_of(shoot: Sequence[Frame], grouping: Grouping) -> str:
    """What the photos of a shoot have in common, for people."""
    first = shoot[0]
    if grouping == "folder" or first.camera is None:
        return first.path.parent.name or str(first.path.parent)
    camera = first.camera
    return f"{camera.camera}, {camera.lens or 'its lens'}, {camera.focal:g} mm"


def zoom_of(shoot: Sequence[Frame], grouping: Grouping) -> Hashable:
    """What shoots through one zoom at different focal lengths have in common; None: nothing."""
    first = shoot[0]
    if grouping == "folder" or first.camera is None or not first.camera.lens:
        return None
    crop = first.camera.crop_factor or 0.0
    return _body_and_lens(first), round(crop, 1), round(first.aspect, 2)


def focal_of(shoot: Sequence[Frame]) -> float:
    """The focal length of a shoot with a zoom, see `zoom_of`, in mm; 1 for others."""
    camera = shoot[0].camera
    return 1.0 if camera is None else camera.focal


def by_zoom(shoots: Iterable[Of], zoom: Callable[[Of], Hashable]) -> list[list[Of]]:
    """The shoots through one zoom together; each whose `zoom` is None by itself."""
    found: dict[Hashable, list[Of]] = {}
    for number, shoot in enumerate(shoots):
        key = zoom(shoot)
        found.setdefault(("none", number) if key is None else ("zoom", key), []).append(shoot)
    return list(found.values())


def shoots(frames: Iterable[Frame], grouping: Grouping) -> list[list[Frame]]:
    """Groups of photos that share a lens; the other photos are in none.

    A group has two or more photos, or one whose zoom has such a group at another focal length.

    Photos share a lens if they have one aspect and

    - by `folder`, are in one folder;
    - by `auto` and `exif`, have the same body and lens, focal lengths within 1 %, the same digital
      zoom, and crop factors within 6 % (cameras round these).
    """
    if grouping == "off":
        return []
    groups = [list(frames)]
    if grouping == "folder":
        groups = _split(groups, lambda frame: frame.path.parent)
    else:
        groups = [[frame for frame in groups[0] if frame.camera is not None]]
        groups = _split(groups, _body_and_lens)
        groups = _near(groups, lambda frame: _camera(frame).focal, _SAME_FOCAL)
        groups = _near(groups, lambda frame: _camera(frame).crop_factor or 1.0, SAME_CROP_FACTOR)
    groups = _near(groups, lambda frame: frame.aspect, SAME_ASPECT)
    zooms = {zoom_of(group, grouping) for group in groups if len(group) > 1} - {None}
    return [group for group in groups if len(group) > 1 or zoom_of(group, grouping) in zooms]


def _camera(frame: Frame) -> CameraExif:
    assert frame.camera is not None
    return frame.camera


def _body_and_lens(frame: Frame) -> Hashable:
    camera = _camera(frame)
    return (
        *(camera.maker, camera.camera, camera.lens_maker, camera.lens, camera.lens_spec),
        *(round(camera.digital_zoom, 2), camera.crop_factor is None),
    )


def _split(groups: list[list[Frame]], key: Callable[[Frame], Hashable]) -> list[list[Frame]]:
    """The groups, split by a key."""
    parts: list[list[Frame]] = []
    for group in groups:
        by_key: dict[Hashable, list[Frame]] = defaultdict(list)
        for frame in group:
            by_key[key(frame)].append(frame)
        parts += by_key.values()
    return parts


def _near(
    groups: list[list[Frame]], key: Callable[[Frame], float], ratio: float
) -> list[list[Frame]]:
    """The groups, split where a number exceeds the least of its part by more than `ratio`."""
    parts: list[list[Frame]] = []
    for group in groups:
        least = 0.0
        for frame in sorted(group, key=key):
            if not least or key(frame) > ratio * least:
                least = key(frame)
                parts.append([])
            parts[-1].append(frame)
    return parts
