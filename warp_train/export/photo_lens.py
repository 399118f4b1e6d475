"""A photo's lens and camera, as the formats with many photos a file take them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from warp_train.photos.camera_exif import CameraExif

LeftOut = tuple[Path, str]
"""A photo that is not in the export, and the reason."""


@dataclass(frozen=True)
class PhotoLens:
    """The lens of a photo, and the camera that took it."""

    path: Path
    height: int
    """Upright, in pixels."""
    width: int
    params: tuple[float, ...]
    """`[8]`, in the order of `PARAM_NAMES`."""
    camera: CameraExif

    @property
    def aspect(self) -> float:
        """Long side over short side, between the outermost pixel centres as in lensfun."""
        long, short = max(self.height, self.width), min(self.height, self.width)
        return (long - 1) / (short - 1)


def without_refused(
    photos: Iterable[PhotoLens],
    reason_of: Callable[[PhotoLens], str | None],
    left_out: list[LeftOut],
) -> list[PhotoLens]:
    """The photos without a reason to leave them out. The others are appended to `left_out`."""
    kept = []
    for photo in photos:
        reason = reason_of(photo)
        if reason is None:
            kept.append(photo)
        else:
            left_out.append((photo.path, reason))
    return kept
