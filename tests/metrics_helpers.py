"""Pictures to score, and a distortion of known strength that is OpenCV's own."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from warp_train.data import LensConfig, SampleKey
from warp_train.data.lenses import AnalyticLenses
from warp_train.data.sources.scenes import Scenes

PHOTOS = Path(__file__).resolve().parent.parent.parent / "shared/data/pairs/val"
Picture = NDArray[np.uint8]


def drawn(count: int, seed: int = 0, size: tuple[int, int] = (160, 240)) -> list[Picture]:
    """Straight scenes, RGB uint8."""
    scenes = Scenes(count, size, AnalyticLenses(LensConfig()), seed=seed, split="val")
    frames = [scenes[SampleKey(0, index)]["target_image"] for index in range(count)]
    return [(frame.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8) for frame in frames]


def photos(count: int) -> list[Picture]:
    """Straight photos at half size, RGB uint8; drawn scenes where the photos are not at hand."""
    files = sorted(PHOTOS.glob("*_generated.jpg"))[:count]
    if not files:
        return drawn(count, seed=1)
    return [cv2.imread(str(f), cv2.IMREAD_REDUCED_COLOR_2)[..., ::-1].copy() for f in files]


def bend(picture: NDArray[Any], k1: float) -> NDArray[Any]:
    """The picture through a lens of this `k1`, by OpenCV alone."""
    height, width = picture.shape[:2]
    half = float(np.hypot(width - 1, height - 1)) / 2
    camera = np.array([[half, 0, (width - 1) / 2], [0, half, (height - 1) / 2], [0, 0, 1]])
    terms = np.array([k1, 0.0, 0.0, 0.0, 0.0])
    size = (width, height)
    maps = cv2.initUndistortRectifyMap(camera, terms, None, camera, size, cv2.CV_32FC1)
    bent = cv2.remap(picture, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(bent, picture.dtype)
