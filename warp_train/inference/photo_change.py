"""What the warp and the crop of a photo mean for the rest of its file: regions and gain maps."""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from warp_train.inference.photo_warp import PhotoWarp
from warp_train.inference.view import View
from warp_train.photos.change import Change
from warp_train.photos.pixels import Pixels

Floats = NDArray[np.float64]


def photo_change(warp: PhotoWarp, view: View) -> Change:
    """The change of a photo by a warp and the view of the corrected frame that is written."""
    return Change(
        move=partial(_moved, warp, view),
        companion=partial(_companion, warp, view),
        corrected=not warp.is_identity,
    )


def _moved(warp: PhotoWarp, view: View, points: Floats) -> Floats:
    """Positions `[n, 2]` of the photo in the result; both have their outer edges at 0 and W."""
    height, width = view.frame
    half = np.array(((width - 1) / 2, (height - 1) / 2))
    grid = torch.from_numpy((points - 0.5 - half) / half)
    corrected: Floats = warp.targets(grid[None], height, width)[0].numpy()
    moved: Floats = corrected * view.zoom * half + half - (view.left, view.top) + 0.5
    return moved


def _companion(warp: PhotoWarp, view: View, picture: Pixels) -> Pixels:
    """A picture `[h, w, C]` of the photo's frame at another size, as the result's view shows it.

    Its scale to the result is that which it had to the photo.
    """
    height, width = view.frame
    scale_x, scale_y = picture.shape[1] / width, picture.shape[0] / height
    across = max(1, round(view.size[1] * scale_x))
    down = max(1, round(view.size[0] * scale_y))
    x = (np.arange(across) + 0.5) * view.size[1] / across - 0.5
    y = (np.arange(down) + 0.5) * view.size[0] / down - 0.5
    points = view.points(*np.meshgrid(x, y))
    at = (warp.sources(points, height, width).numpy() + 1) / 2 * (width - 1, height - 1)
    maps = ((at + 0.5) * (scale_x, scale_y) - 0.5).astype(np.float32)
    read = cv2.remap(
        picture,
        maps,
        None,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,  # type: ignore[call-overload]
    )
    return np.asarray(read).reshape(down, across, -1)
