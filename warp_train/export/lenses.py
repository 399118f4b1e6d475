"""The lens that a model sees in a photo, for export to other programs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warp_train.data.decoding import decode_image
from warp_train.export.camera_exif import NoCamera, read_camera
from warp_train.export.lensfun import (
    LeftOut,
    LensfunExport,
    PhotoLens,
    lensfun_database,
)
from warp_train.export.opencv import opencv_lens
from warp_train.inference.fallback import SafeWarp, choose_warp
from warp_train.inference.photo_warp import PhotoWarp
from warp_train.inference.predictor import Predictor


@dataclass(frozen=True)
class FoundLens:
    """What `rectify` would do to a photo if the model had no residual."""

    path: Path
    height: int
    """Upright, in pixels."""
    width: int
    chosen: SafeWarp

    @property
    def params(self) -> tuple[float, ...]:
        """`[8]`, in the order of `PARAM_NAMES`."""
        return tuple(self.chosen.warp.params.tolist())

    @property
    def refused(self) -> str | None:
        """Why the lens that the model said is not the one here; None if it is."""
        return "; ".join(self.chosen.refused) or None


def find_lens(predictor: Predictor, path: Path) -> FoundLens:
    """Asks the model about a photo, and checks its lens on it.

    Raises:
        BadSample: the photo cannot be read.
    """
    photo = decode_image(path).pixels
    height, width = photo.shape[:2]
    lens = PhotoWarp(predictor.predict(photo).params)
    return FoundLens(path, height, width, choose_warp(lens, height, width))


def opencv_row(found: FoundLens) -> dict[str, Any]:
    """The JSON object of a photo: OpenCV's numbers, and where they come from."""
    return {
        "input": str(found.path),
        **opencv_lens(found.chosen.warp.params, found.height, found.width),
        "params": list(found.params),
        "mode_used": found.chosen.mode,
        "warnings": list(found.chosen.refused),
    }


def lensfun_entry(
    found: Iterable[FoundLens], crop_factor: float | None = None, mount: str | None = None
) -> LensfunExport:
    """A lensfun database of the lenses, see `lensfun_database`.

    Left out are photos whose EXIF does not say what took them, and those whose lens was refused:
    what stands in for it is safe, but no measurement.
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
            lenses.append(PhotoLens(one.path, one.height, one.width, one.params, camera))
    made = lensfun_database(lenses, crop_factor, mount)
    return LensfunExport(made.xml, (*left_out, *made.left_out))
