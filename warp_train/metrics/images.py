"""Converts pictures to the RGB and luma that the scores compare, in 0..1."""

from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from warp_train.geometry.bt601 import LUMA_WEIGHTS

Array = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Picture = TypeVar("Picture", Array, Bytes)

LEAST_SIDE = 8
"""Shortest side, in px, of a picture in which lines are detected or that is halved further."""
_LUMA = np.array(LUMA_WEIGHTS, np.float32)


def as_rgb(image: NDArray[Any], name: str) -> Array:
    """float32 RGB [H, W, 3] of a uint8 (0..255) or float (0..1) picture, [H, W, 3] or grey [H, W].

    Values that are out of range or not finite are kept.
    Raises ValueError for any other shape or type; its message calls the picture `name`.
    """
    image = np.asarray(image)
    grey = image.ndim == 2
    if not grey and (image.ndim != 3 or image.shape[2] != 3):
        raise ValueError(f"{name}: shape {image.shape} is neither [H, W, 3] nor [H, W]")
    if image.size == 0:
        raise ValueError(f"{name}: shape {image.shape} has no pixels")
    if image.dtype == np.uint8:
        values = image.astype(np.float32) / np.float32(255)
    elif np.issubdtype(image.dtype, np.floating):
        values = image.astype(np.float32)
    else:
        raise ValueError(f"{name}: {image.dtype} is neither uint8 nor float")
    return np.repeat(values[..., None], 3, axis=2) if grey else values


def displayed(rgb: Array) -> Array:
    """The picture as a screen shows it: clipped to 0..1, and black where it is not finite."""
    return np.clip(np.nan_to_num(rgb, nan=0.0, posinf=0.0, neginf=0.0), 0, 1)


def luma_of(rgb: Array) -> Array:
    """Luma [H, W] in 0..1 of RGB [H, W, 3]."""
    return rgb @ _LUMA


def to_bytes(luma: Array) -> Bytes:
    """Luma in 0..1 converted to 0..255, which OpenCV's detectors require."""
    values: Bytes = np.rint(luma * np.float32(255)).astype(np.uint8)
    return values


def scales(luma: Bytes, count: int) -> list[Bytes]:
    """The picture, its half, its quarter …: `count` pictures, or fewer if a side gets too short."""
    pictures = [luma]
    while len(pictures) < count and min(pictures[-1].shape) >= 2 * LEAST_SIDE:
        pictures.append(halved(pictures[-1]))
    return pictures


def halved(luma: Picture) -> Picture:
    """The picture at half the size, or unchanged if a side would be shorter than `LEAST_SIDE`."""
    if min(luma.shape) < 2 * LEAST_SIDE:
        return luma
    size = (luma.shape[1] // 2, luma.shape[0] // 2)
    return np.asarray(cv2.resize(luma, size, interpolation=cv2.INTER_AREA), luma.dtype)


def overlap(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Overlap of two histograms: Σ min / Σ max in 0..1 (Ruzicka), 1 if both are empty."""
    larger = float(np.maximum(one, other).sum())
    return float(np.minimum(one, other).sum()) / larger if larger > 0 else 1.0
