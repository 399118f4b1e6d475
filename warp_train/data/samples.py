"""Samples, their collation into batches, and the distorted and straight frames of a picture."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from warp_train.data.lenses import Points
from warp_train.photos.pixels import Image, as_image

Sample = dict[str, Any]
"""`input_image`, `target_image` f32 [3, H, W] in 0..1; `image_id` str; `orig_size` (H, W);
`target_params` f32 [8], NaN where the warp is unknown; `index` int; `replaced` str: "path: reason"
of the unreadable file that this sample replaces, or empty. Further keys pass through.
"""

Batch = dict[str, Any]
"""Stacked samples: tensors [B, ...], `orig_size` int64 [B, 2], `index` int64 [B], lists of str."""


class SampleKey(NamedTuple):
    """Identifies a sample: every random choice about it is a function of the seed and these two."""

    epoch: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which is not used on keys


RESERVED_KEYS = (
    "input_image",
    "target_image",
    "target_grid",
    "target_params",
    "image_id",
    "orig_size",
    "index",
    "replaced",
)
UNKNOWN_LENS: NDArray[np.floating[Any]] = np.full(8, np.nan)


def make_sample(
    input_image: Image,
    target_image: Image,
    params: NDArray[Any],
    image_id: str,
    orig_size: tuple[int, int],
    index: int,
) -> Sample:
    """A sample from two RGB uint8 [H, W, 3] frames and the lens `params` [8] between them."""
    return {
        "input_image": to_tensor(input_image),
        "target_image": to_tensor(target_image),
        "image_id": image_id,
        "orig_size": orig_size,
        "target_params": torch.from_numpy(np.asarray(params, dtype=np.float32)),
        "index": index,
        "replaced": "",
    }


def to_tensor(image: Image) -> torch.Tensor:
    """RGB uint8 [H, W, 3] to float32 [3, H, W] in 0..1."""
    planes = np.ascontiguousarray(image.transpose(2, 0, 1))
    return torch.from_numpy(planes * np.float32(1 / 255))


def collate(samples: Sequence[Mapping[str, Any]]) -> Batch:
    """Stacks tensors, arrays and numbers; other values, such as names, become lists."""
    return {key: _stack([sample[key] for sample in samples]) for key in samples[0]}


def _stack(values: list[Any]) -> Any:
    first = values[0]
    if isinstance(first, torch.Tensor):
        return torch.stack(values)
    if isinstance(first, np.ndarray):
        return torch.from_numpy(np.stack(values))
    if isinstance(first, bool | int | float):
        return torch.tensor(values)
    if isinstance(first, tuple) and first and all(isinstance(item, int) for item in first):
        return torch.tensor(values)
    return values


def reach_of(inverse: Points, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Box (left, top, right, bottom), in pixels of the straight frame, of all positions that the
    straight or the bent frame is read at."""
    height, width = size
    x, y = inverse
    left, right = min(0.0, float(x.min())), max(width - 1.0, float(x.max()))
    return left, min(0.0, float(y.min())), right, max(height - 1.0, float(y.max()))


def bend_pair(
    canvas: Image, inverse: Points, zoom: float, shift: tuple[float, float]
) -> tuple[Image, Image]:
    """A straight frame and the same picture as a lens bends it, both [H, W, 3].

    Both frames are read from the same canvas in the same way, so that they are equally sharp.

    Args:
        canvas: RGB uint8.
        inverse: position in the straight frame, in pixels, of every pixel of the bent frame.
        zoom, shift: pixel (x, y) of the straight frame is at `(x, y) · zoom + shift` on the canvas.
    """
    height, width = inverse[0].shape
    straight = cv2.warpAffine(
        canvas,
        np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]]),
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    x, y = (
        part * np.float32(zoom) + np.float32(move)
        for part, move in zip(inverse, shift, strict=True)
    )
    bent = cv2.remap(canvas, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return as_image(straight), as_image(bent)
