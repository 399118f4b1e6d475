"""Groups of photos that one lens entry can describe, for the formats with many photos a file."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from warp_train.export.agreement import agreeing
from warp_train.export.lensfun_fit import radial_curve
from warp_train.export.photo_lens import LeftOut, PhotoLens, without_refused
from warp_train.inference.shoot_keys import SAME_ASPECT, SAME_CROP_FACTOR
from warp_train.photos.camera_exif import CameraExif
from warp_train.photos.lens_names import with_range

_DIGITAL_ZOOM = 1.005  # less is rounding

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class LensGroup:
    """Photos of one lens whose frames have the same crop factor and aspect."""

    lens: str
    """Name of the lens; empty if the EXIF identifies none. Different lenses of a camera have
    different names."""
    crop_factor: float | None
    """Median of the photos'; None if their EXIF has none."""
    aspect: float
    """Median of the photos'."""
    by_focal: Mapping[float, tuple[PhotoLens, ...]]
    """By focal length in mm, ascending. Their lenses do not fold, and agree with each other."""

    @property
    def photos(self) -> tuple[PhotoLens, ...]:
        return tuple(photo for photos in self.by_focal.values() for photo in photos)

    @property
    def camera(self) -> CameraExif:
        """Of the first photo. Other photos may be of other cameras, see `grouped_photos`."""
        return self.photos[0].camera


def grouped_photos(
    photos: Sequence[PhotoLens], crop_factor: float | None = None, per_camera: bool = True
) -> tuple[list[LensGroup], list[LeftOut]]:
    """Groups by lens and frame, and the photos that no group contains, with reasons.

    Args:
        crop_factor: of the cameras, instead of the values in the EXIF. If the EXIF has several
            values for a lens, the photos with another value than this are left out.
        per_camera: whether photos of one lens on two cameras are two groups. Photos without a name
            of the lens are always grouped by camera.
    """
    left_out: list[LeftOut] = []
    groups = []
    usable = without_refused(photos, _unusable, left_out)
    for name, of_lens in _by_lens(usable, per_camera, left_out):
        for frame in _frames(of_lens, crop_factor, left_out):
            same = _of_one_aspect(frame, left_out)
            by_focal = {
                focal: agreeing(same_focal, left_out)
                for focal, same_focal in sorted(_split(same, lambda p: p.camera.focal).items())
            }
            kept = {focal: tuple(agree) for focal, agree in by_focal.items() if agree}
            if kept:
                crop = crop_factor or _median_crop_factor(frame)
                aspect = statistics.median(photo.aspect for photo in same)
                groups.append(LensGroup(name, crop, aspect, kept))
    return groups, left_out


def _unusable(photo: PhotoLens) -> str | None:
    if photo.camera.digital_zoom > _DIGITAL_ZOOM:
        return f"it was taken with a digital zoom of {photo.camera.digital_zoom:.3g}"
    if radial_curve(photo.params, photo.height, photo.width) is None:
        return "its lens folds inside the photo"
    return None


def _split(
    photos: Iterable[PhotoLens], key: Callable[[PhotoLens], Key]
) -> dict[Key, list[PhotoLens]]:
    groups: dict[Key, list[PhotoLens]] = defaultdict(list)
    for photo in photos:
        groups[key(photo)].append(photo)
    return groups


def _by_lens(
    photos: Sequence[PhotoLens], per_camera: bool, left_out: list[LeftOut]
) -> list[tuple[str, list[PhotoLens]]]:
    """The photos by lens, each with a name: EXIF's, completed by the range where that is needed."""

    def names(photo: PhotoLens) -> tuple[str, ...]:
        camera = photo.camera
        body = (camera.maker, camera.camera) if per_camera or not camera.lens else ()
        return camera.lens_maker.casefold(), camera.lens.casefold(), *body

    return [
        named
        for same_name in _split(photos, names).values()
        for named in _by_range(same_name, left_out)
    ]


def _by_range(
    photos: Sequence[PhotoLens], left_out: list[LeftOut]
) -> list[tuple[str, list[PhotoLens]]]:
    """Photos with one name of the lens, by the range of the lens."""
    name = photos[0].camera.lens
    by_range = _split(photos, lambda photo: photo.camera.lens_spec)
    if len(by_range.keys() - {None}) <= 1 and name:
        spec = next((spec for spec in by_range if spec is not None), None)
        complete = spec is None or any(map(str.isdigit, name))
        return [(name if complete or spec is None else with_range(name, spec), list(photos))]
    if name:
        reason = "its EXIF lacks the focal range that distinguishes lenses with this name"
        left_out += [(photo.path, reason) for photo in by_range.pop(None, [])]
    return [
        (name if spec is None else with_range(name, spec), same) for spec, same in by_range.items()
    ]


def _frames(
    photos: Sequence[PhotoLens], crop_factor: float | None, left_out: list[LeftOut]
) -> list[list[PhotoLens]]:
    """The photos of one lens by crop factor."""
    known = [photo for photo in photos if photo.camera.crop_factor is not None]
    unknown = [photo for photo in photos if photo.camera.crop_factor is None]
    frames: list[list[PhotoLens]] = []
    for photo in sorted(known, key=_crop_factor):
        if not frames or _crop_factor(photo) > SAME_CROP_FACTOR * _crop_factor(frames[-1][0]):
            frames.append([])
        frames[-1].append(photo)
    if len(frames) <= 1:
        return [list(photos)]
    crops = " and ".join(f"{_median_crop_factor(frame):.3g}" for frame in frames)
    reason = f"its EXIF lacks the crop factor, and other photos of its lens have {crops}"
    left_out += [(photo.path, reason) for photo in unknown]
    return [frame for frame in frames if crop_factor is None or _has(frame, crop_factor, left_out)]


def _has(frame: Sequence[PhotoLens], crop_factor: float, left_out: list[LeftOut]) -> bool:
    """Whether the frame has about this crop factor. If not, its photos are left out."""
    own = _median_crop_factor(frame) or 0.0
    if max(own / crop_factor, crop_factor / own) <= SAME_CROP_FACTOR:
        return True
    reason = (
        f"its crop factor is {own:.3g}, not {crop_factor:.3g}, and its lens's photos have several"
    )
    left_out += [(photo.path, reason) for photo in frame]
    return False


def _crop_factor(photo: PhotoLens) -> float:
    return photo.camera.crop_factor or 0.0


def _median_crop_factor(photos: Iterable[PhotoLens]) -> float | None:
    known = [p.camera.crop_factor for p in photos if p.camera.crop_factor is not None]
    return statistics.median(known) if known else None


def _of_one_aspect(photos: Sequence[PhotoLens], left_out: list[LeftOut]) -> list[PhotoLens]:
    """The photos of the most common aspect.

    A photo of another aspect was cropped: its corners are not at the same radius of the lens.
    """
    shapes = Counter(round(photo.aspect, 2) for photo in photos)
    commonest = max(shapes, key=lambda shape: shapes[shape])

    def reason(photo: PhotoLens) -> str | None:
        if abs(photo.aspect / commonest - 1) <= SAME_ASPECT - 1:
            return None
        return (
            f"its aspect is {photo.aspect:.2f}:1, but most photos of its lens have "
            f"{commonest:.2f}:1"
        )

    return without_refused(photos, reason, left_out)
