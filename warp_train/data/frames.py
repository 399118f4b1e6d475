"""Photos and their lenses at the training size: rotation, mirroring, cropping, scaling."""

import math

import cv2
import numpy as np
import torch
from PIL import Image as Pillow

from warp_train.data.decoding import Box
from warp_train.data.lenses import Array
from warp_train.geometry import rescale_params
from warp_train.photos.pixels import Image, as_image

_COVER = 2.5  # photo pixels per frame pixel


def turn_image(image: Image) -> Image:
    """The image [H, W, 3], rotated by 90° counter-clockwise, [W, H, 3]."""
    return as_image(cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE))


def turn_lens(params: Array) -> Array:
    """The lens of a photo after `turn_image`: positions and vectors (x, y) become (y, −x)."""
    k1, k2, k3, p1, p2, dcx, dcy, s = params
    return np.array([k1, k2, k3, -p2, p1, dcy, -dcx, s])


def mirror_image(image: Image) -> Image:
    """The image [H, W, 3], mirrored left to right."""
    return as_image(cv2.flip(image, 1))


def mirror_lens(params: Array) -> Array:
    """The lens of a photo after `mirror_image`."""
    return params * (1, 1, 1, 1, -1, -1, 1, 1)


def is_across(shape: tuple[int, ...], size: tuple[int, int]) -> bool:
    """Whether one of the two is portrait and the other landscape."""
    return (shape[0] - shape[1]) * (size[0] - size[1]) < 0


def _scale(shape: tuple[int, ...], size: tuple[int, int]) -> float:
    """New pixels per old pixel at which an old frame of `shape` just covers a new one of `size`."""
    return max(size[0] / shape[0], size[1] / shape[1])


def cover_sides(size: tuple[int, int]) -> tuple[int, int]:
    """Least (short, long) sides, in pixels, that a photo keeps when decoding or `prepare` reduces
    it. With fewer pixels, frames of `size` would be visibly less sharp."""
    short, long = sorted(size)
    return math.ceil(_COVER * short), math.ceil(_COVER * long)


def fit_image(image: Image, size: tuple[int, int], extent: Box | None = None) -> Image:
    """The largest centred crop of the aspect of `size`, resized to it.

    The crop's edges may fall between pixels, so that both axes have exactly the same scale.
    `extent` is the part of the image to crop from (`Photo.extent`); None: all of it.
    """
    whole = (0.0, 0.0, float(image.shape[1]), float(image.shape[0]))
    if image.shape[:2] == size and extent in (None, whole):
        return image
    x0, y0, x1, y1 = extent or whole
    width, height = x1 - x0, y1 - y0
    scale = max(size[0] / height, size[1] / width)
    crop_h, crop_w = size[0] / scale, size[1] / scale
    left, top = x0 + max(0.0, (width - crop_w) / 2), y0 + max(0.0, (height - crop_h) / 2)
    box = (left, top, min(x1, left + crop_w), min(y1, top + crop_h))
    # HAMMING is an area filter that weighs pixels cut by the box fractionally; BOX does not.
    kernel = Pillow.Resampling.HAMMING if scale < 1 else Pillow.Resampling.BICUBIC
    picture = Pillow.fromarray(np.ascontiguousarray(image))
    return np.asarray(picture.resize((size[1], size[0]), kernel, box=box))


def fit_ratio(shape: tuple[int, ...], size: tuple[int, int]) -> float:
    """Diagonal of the crop that `fit_image` takes, divided by that of the photo of `shape`: the
    `ratio` with which `rescale_params` converts the photo's lens."""
    old = np.hypot(shape[1] - 1, shape[0] - 1)
    new = np.hypot(size[1] - 1, size[0] - 1)
    return float(new / _scale(shape, size) / old)


def lens_in_frame(
    params: Array, shape: tuple[int, ...], size: tuple[int, int], share: float = 1.0
) -> Array:
    """The lens of a photo of `shape` after `fit_image`: the same warp in the new frame's units.

    `share` is the side of the crop as a share of the largest one's.
    """
    lens = torch.from_numpy(params.astype(np.float64))
    return rescale_params(lens, share * fit_ratio(shape, size)).numpy()
