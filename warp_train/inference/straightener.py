"""Straightens photos in memory. Every command that applies a warp to photos goes through it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from warp_train.inference.fallback import Mode
from warp_train.inference.look import Look, SeenPhoto, choose
from warp_train.inference.photo_warp import PhotoWarp
from warp_train.inference.predictor import Predictor, load_predictor
from warp_train.inference.resample import resample
from warp_train.inference.shoot import CommonLens, Shoot
from warp_train.inference.view import View, choose_view
from warp_train.models.heads_parametric import ParametricHead
from warp_train.photos.formats import Crop, Interpolation
from warp_train.photos.pixels import LEAST_SIDE, Image, Pixels, predictor_view
from warp_train.weights import SHIPPED


@dataclass(frozen=True)
class Corrected:
    """The corrected pixels of a photo, and the part of the frame that they show."""

    pixels: Pixels
    view: View
    resampled: bool
    """False: `pixels` are those of the photo, because neither a warp nor a crop applies."""


@dataclass(frozen=True)
class Straightened:
    """A straightened photo, and the warp that straightened it."""

    image: Pixels
    """RGB [H, W, 3] in the photo's own dtype."""
    warp: PhotoWarp
    """The warp that was applied, over the frame before the crop."""
    mode: Mode
    """Which warp was applied: the predicted one, or a weaker one if that is not safe."""
    expected_error_px: float | None
    """The mean end-point error that the model expects of its prediction, in pixels of the photo;
    None if it is unknown."""
    reasons: tuple[str, ...]
    """Why the modes before `mode` were refused, one line each."""

    @property
    def params(self) -> tuple[float, ...]:
        """The eight numbers of the applied lens, in the order of `geometry.PARAM_NAMES`."""
        return tuple(self.warp.params.tolist())


@dataclass(frozen=True)
class Straightener:
    """A trained model that straightens photos.

    model = Straightener.from_pretrained("outputs/runs/quickstart")
    result = model.straighten(rgb)
    result.image
    """

    predictor: Predictor

    @classmethod
    def from_pretrained(cls, model: str | Path = SHIPPED, device: str = "auto") -> Straightener:
        """Loads a model.

        Args:
            model: `tiny`, which comes with the package, a run folder, a checkpoint folder or a hub
                id.
            device: `auto`, `cpu`, `cuda` or `mps`; `auto` takes a GPU if there is one.

        Raises:
            WarpTrainError: the model cannot be loaded, or the device is not available.
        """
        return cls(load_predictor(model, device))

    @property
    def head(self) -> ParametricHead:
        """The part of the network that solves for the lens, on the CPU."""
        return self.predictor.head

    @property
    def model_hash(self) -> str:
        """16 hex digits that identify the weights."""
        return self.predictor.model_hash

    def look(
        self,
        photo: Image,
        *,
        lens_only: bool = False,
        leave_alone: str | None = None,
        common: CommonLens | None = None,
    ) -> Look:
        """Predicts the warp of a photo and checks it, without resampling the photo.

        Args:
            photo: upright RGB uint8 [H, W, 3].
            common: the lens that its shoot agrees on. It replaces the photo's own unless that
                contradicts it.
            lens_only: leave out the residual, for programs that can apply a lens only.
            leave_alone: a reason to choose no warp, whatever the prediction.
        """
        if common is None or leave_alone is not None:
            predicted = self.predictor.predict(photo)
            height, width = photo.shape[:2]
            return choose(predicted, height, width, lens_only=lens_only, leave_alone=leave_alone)
        seen = SeenPhoto.of(self.predictor.see(photo), self.head)
        return seen.look(common, self.head, lens_only=lens_only)

    def see(self, photo: Image, shoot: Shoot) -> SeenPhoto:
        """Adds an upright photo, RGB uint8 [H, W, 3], to its shoot.

        Once all photos are added, `SeenPhoto.look` chooses the photo's warp by the lens of the
        shoot, without another run of the network.
        """
        sight = self.predictor.see(photo)
        shoot.add(sight.observation)
        return SeenPhoto.of(sight, self.head)

    def common_lens(self, photos: Iterable[Image]) -> CommonLens | None:
        """The lens that photos agree on, upright RGB uint8 [H, W, 3] each; None for less than two.

        At most `shoot.MOST_PHOTOS` of them decide, those that show most of their lens.
        """
        shoot = Shoot(self.head)
        for photo in photos:
            shoot.add(self.predictor.see(photo).observation)
        return shoot.solve()

    def straighten(
        self, rgb: Pixels, *, crop: Crop = "fill", interpolation: Interpolation = "bicubic"
    ) -> Straightened:
        """Straightens one photo. Its pixels are resampled once, at full resolution.

        The image equals the file that `warp-train rectify` writes with the same options.

        Args:
            rgb: upright uint8 or uint16 [H, W, 3].
            crop: `fill` zooms in until nothing in the frame is blank, `max` keeps the largest part
                without blank pixels, `none` keeps the whole frame.
            interpolation: `bilinear`, `bicubic` or `lanczos`.

        Raises:
            ValueError: `rgb` is not such an array, an option is unknown, or no crop is possible.
        """
        _check_options(crop, interpolation)
        photo = _checked(rgb)
        return _straightened(rgb, photo, self.look(predictor_view(photo)), crop, interpolation)

    def straighten_shoot(
        self,
        photos: Sequence[Pixels],
        *,
        crop: Crop = "fill",
        interpolation: Interpolation = "bicubic",
    ) -> list[Straightened]:
        """Straightens photos that were taken through one lens at one setting, uncropped.

        They share one lens, which is found from all of them together. A photo that contradicts it
        is straightened by itself.

        Args and errors: as of `straighten`, for each photo.
        """
        _check_options(crop, interpolation)
        shoot = Shoot(self.head)
        checked = [_checked(rgb) for rgb in photos]
        seen = [self.see(predictor_view(photo), shoot) for photo in checked]
        common = shoot.solve()
        return [
            _straightened(rgb, photo, one.look(common, self.head), crop, interpolation)
            for rgb, photo, one in zip(photos, checked, seen, strict=True)
        ]


def correct(pixels: Pixels, warp: PhotoWarp, crop: Crop, interpolation: Interpolation) -> Corrected:
    """Applies a safe warp to the pixels [H, W, C] of a photo, of 8 or 16 bits.

    Raises:
        ValueError: the warp moves so much out of the frame that no crop is possible.
    """
    height, width = pixels.shape[:2]
    view = choose_view(warp, height, width, crop)
    if warp.is_identity and view.is_whole:
        return Corrected(pixels, view, resampled=False)
    return Corrected(resample(pixels, warp, view, interpolation), view, resampled=True)


def _straightened(
    rgb: Pixels, photo: Pixels, look: Look, crop: Crop, interpolation: Interpolation
) -> Straightened:
    """The result for `rgb`, of which `photo` is the checked array."""
    chosen = look.chosen
    image = correct(photo, chosen.warp, crop, interpolation).pixels
    own = image.copy() if np.shares_memory(image, rgb) else image
    return Straightened(own, chosen.warp, chosen.mode, look.expected_error_px, chosen.refused)


def _check_options(crop: Crop, interpolation: Interpolation) -> None:
    _check_option("crop", crop, get_args(Crop))
    _check_option("interpolation", interpolation, get_args(Interpolation))


def _check_option(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} {value!r}: expected one of {', '.join(allowed)}")


def _checked(rgb: Any) -> Pixels:
    """The photo as an array that OpenCV can read; ValueError if it is not an RGB photo."""
    expected = "expected a NumPy array, uint8 or uint16, of shape [height, width, 3]"
    if not isinstance(rgb, np.ndarray):
        raise ValueError(f"{expected}; got {type(rgb).__name__}")
    if rgb.dtype not in (np.uint8, np.uint16) or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"{expected}; got {rgb.dtype} {list(rgb.shape)}")
    if min(rgb.shape[:2]) < LEAST_SIDE:
        height, width = rgb.shape[:2]
        raise ValueError(f"expected at least {LEAST_SIDE} px a side; got {width}x{height} px")
    return np.ascontiguousarray(rgb)
