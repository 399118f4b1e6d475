"""The lens that a model predicts for a photo, for export to other programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from warp_train.data.decoding import BadSample, decode_image
from warp_train.export.lcp import LcpExport, lens_profiles
from warp_train.export.lensfun import LensfunExport, lensfun_database
from warp_train.export.opencv import opencv_lens
from warp_train.export.photo_lens import LeftOut, PhotoLens
from warp_train.inference.look import Look, SeenPhoto
from warp_train.inference.shoot import CommonLens, Shoot
from warp_train.inference.shoot_keys import Frame, by_zoom, focal_of, read_frame, shoots, zoom_of
from warp_train.inference.straightener import Straightener
from warp_train.inference.zooms import zoom_lenses
from warp_train.photos.camera_exif import NoCamera, read_camera
from warp_train.photos.corrected import panorama, why_corrected
from warp_train.photos.files import read_metadata
from warp_train.photos.pixels import Image


@dataclass(frozen=True)
class FoundLens:
    """The lens that `rectify` would apply to a photo if the model had no residual."""

    path: Path
    look: Look
    """Of the upright photo, without the residual."""

    @property
    def params(self) -> tuple[float, ...]:
        """`[8]`, in the order of `PARAM_NAMES`."""
        return tuple(self.look.chosen.warp.params.tolist())

    @property
    def refused(self) -> str | None:
        """Why `params` are not the predicted lens, or not that of the other photos; None if they
        are."""
        if self.look.disagrees:
            return "it contradicts the other photos of its lens"
        return "; ".join(self.look.chosen.refused) or None


class SharedLens(NamedTuple):
    """A photo that was looked at, and the lens that it shares with others."""

    seen: SeenPhoto
    common: CommonLens


def find_lens(
    straightener: Straightener, path: Path, shared: SharedLens | None = None
) -> FoundLens:
    """The lens that the model predicts for a photo, or a weaker one if that is not safe.

    A photo whose metadata mark a correction that was applied already has no lens to measure.

    Args:
        shared: of the photo, if it is one of `shared_lenses`.

    Raises:
        BadSample: the photo cannot be read, or it is a panorama.
    """
    if shared is not None:
        return FoundLens(path, shared.seen.look(shared.common, straightener.head, lens_only=True))
    pixels, corrected = _read(path)
    return FoundLens(path, straightener.look(pixels, lens_only=True, leave_alone=corrected))


def shared_by_exif(paths: Iterable[Path]) -> list[list[Frame]]:
    """The photos that share a lens, see `shoot_keys.shoots`."""
    frames = [frame for path in paths if (frame := read_frame(path)) is not None]
    return shoots(frames, "auto")


def shared_lenses(
    straightener: Straightener, groups: Iterable[Sequence[Frame]], on_look: Callable[[], object]
) -> dict[Path, SharedLens]:
    """The photos that share a lens with others. Focal lengths of one zoom borrow from each other.

    Args:
        groups: as of `shared_by_exif`.
        on_look: called after each look at such a photo.
    """
    shared: dict[Path, SharedLens] = {}
    for zoom in by_zoom(groups, lambda group: zoom_of(group, "auto")):
        found = [Shoot(straightener.head) for _ in zoom]
        seen = [
            list(_seen(straightener, shoot, group, on_look))
            for shoot, group in zip(found, zoom, strict=True)
        ]
        lenses = zoom_lenses(found, [focal_of(group) for group in zoom])
        for lens, photos in zip(lenses, seen, strict=True):
            if lens is not None:
                shared |= {path: SharedLens(photo, lens) for path, photo in photos}
    return shared


def _seen(
    straightener: Straightener, shoot: Shoot, group: Iterable[Frame], on_look: Callable[[], object]
) -> Iterator[tuple[Path, SeenPhoto]]:
    """The photos of a group that can be measured, after they were added to their shoot."""
    for frame in group:
        with suppress(BadSample):  # reported when its lens is measured
            pixels, corrected = _read(frame.path)
            if corrected is None:
                yield frame.path, straightener.see(pixels, shoot)
        on_look()


def _read(path: Path) -> tuple[Image, str | None]:
    """A photo, and the mark of a correction that was applied already, if it has one.

    Raises BadSample for a photo that cannot be read, and for a panorama.
    """
    pixels, metadata = decode_image(path).pixels, read_metadata(path)
    if (reason := panorama(metadata)) is not None:
        raise BadSample(path, reason)
    return pixels, why_corrected(metadata)


def opencv_row(found: FoundLens) -> dict[str, Any]:
    """The JSON object of a photo: its lens in OpenCV's numbers, and how it was chosen."""
    look = found.look
    return {
        "input": str(found.path),
        **opencv_lens(look.chosen.warp.params, look.height, look.width),
        "params": list(found.params),
        "mode_used": look.chosen.mode,
        "warnings": list(look.chosen.refused),
    }


def measured_lenses(
    found: Iterable[FoundLens], lens: str | None = None
) -> tuple[list[PhotoLens], list[LeftOut]]:
    """The lenses with their cameras, and the photos that no entry can use, with reasons.

    A photo is left out if its EXIF does not name the camera and focal length, or if its lens was
    refused: the weaker lens that replaces it is safe, but it is not a measurement.

    Args:
        lens: name of the lens of the photos whose EXIF names none.
    """
    lenses: list[PhotoLens] = []
    left_out: list[LeftOut] = []
    for one in found:
        if one.refused is not None:
            left_out.append((one.path, f"its lens was refused ({one.refused})"))
            continue
        try:
            camera = read_camera(one.path)
        except NoCamera as error:
            left_out.append((one.path, str(error)))
        else:
            named = replace(camera, lens=camera.lens or lens or "")
            lenses.append(PhotoLens(one.path, one.look.height, one.look.width, one.params, named))
    return lenses, left_out


def camera_names(paths: Iterable[Path], lens: str | None = None) -> list[str]:
    """The cameras with their lenses that the EXIF of photos names, as `camera (lens)`.

    Args:
        lens: name of the lens of the photos whose EXIF names none.
    """
    names = set()
    for path in paths:
        with suppress(NoCamera):
            camera = read_camera(path)
            names.add(f"{camera.camera} ({camera.lens or lens or 'its lens'})")
    return sorted(names)


def lensfun_entry(
    found: Iterable[FoundLens],
    crop_factor: float | None = None,
    mount: str | None = None,
    lens: str | None = None,
) -> LensfunExport:
    """A lensfun database of the lenses, see `measured_lenses` and `lensfun_database`."""
    lenses, left_out = measured_lenses(found, lens)
    made = lensfun_database(lenses, crop_factor, mount)
    return replace(made, left_out=(*left_out, *made.left_out))


def lcp_profiles(
    found: Iterable[FoundLens], crop_factor: float | None = None, lens: str | None = None
) -> LcpExport:
    """Adobe lens profiles of the lenses, see `measured_lenses` and `lens_profiles`."""
    lenses, left_out = measured_lenses(found, lens)
    made = lens_profiles(lenses, crop_factor)
    return replace(made, left_out=(*left_out, *made.left_out))
