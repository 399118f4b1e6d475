"""Small photos and independent checks that the data tests share."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from warp_train.data.samples import Sample
from warp_train.geometry import PARAM_NAMES


def textured(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """A photo-like picture: smooth patches, edges and a little grain, nowhere flat."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(20, 235, (height // 16 + 2, width // 16 + 2, 3)).astype(np.float32)
    picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    picture[:, ::23] *= 0.5
    picture[::19] *= 0.6
    return np.clip(picture, 0, 255).astype(np.uint8)


def save(path: Path, picture: NDArray[Any], **options: Any) -> Path:
    """Writes a picture and returns its path; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, **options)
    return path


def opencv_maps(params: Any, height: int, width: int) -> tuple[Any, Any]:
    """The backward map (x, y) of a lens in pixels, by OpenCV's own undistortion."""
    camera, terms, corrected = _opencv_lens(params, height, width)
    size = (width, height)
    return cv2.initUndistortRectifyMap(camera, terms, None, corrected, size, cv2.CV_32FC1)


def _opencv_lens(params: Any, height: int, width: int) -> tuple[Any, Any, Any]:
    """Camera matrix, distortion terms and corrected camera matrix: focal lengths D/2 and s·D/2."""
    k1, k2, k3, p1, p2, dcx, dcy, s = (float(value) for value in params)
    half = float(np.hypot(width - 1, height - 1)) / 2
    cx, cy = (width - 1) / 2 + dcx * half, (height - 1) / 2 + dcy * half
    camera = np.array([[half, 0, cx], [0, half, cy], [0, 0, 1]])
    corrected = np.array([[s * half, 0, cx], [0, s * half, cy], [0, 0, 1]])
    return camera, np.array([k1, k2, p1, p2, k3]), corrected


def opencv_project(params: Any, points: tuple[Any, Any]) -> tuple[Any, Any]:
    """Where OpenCV's camera sees corrected pixel positions (x, y), each [H, W], in the input."""
    height, width = points[0].shape
    camera, terms, corrected = _opencv_lens(params, height, width)
    x = (points[0] - corrected[0, 2]) / corrected[0, 0]
    y = (points[1] - corrected[1, 2]) / corrected[1, 1]
    rays = np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3).astype(np.float64)
    seen, _ = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), camera, terms)
    return seen[:, 0, 0].reshape(height, width), seen[:, 0, 1].reshape(height, width)


def opencv_correct(sample: Sample) -> NDArray[np.float32]:
    """The sample's input, corrected by OpenCV with the sample's lens: [H, W, 3] in 0..1."""
    picture = sample["input_image"].permute(1, 2, 0).numpy()
    maps = opencv_maps(sample["target_params"], *picture.shape[:2])
    return cv2.remap(picture, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def as_picture(image: torch.Tensor) -> NDArray[np.float32]:
    return image.permute(1, 2, 0).numpy()


def shift_between(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Length of the translation between two pictures in px, by phase correlation."""
    grey = [np.float32(picture.mean(2) - picture.mean()) for picture in (first, second)]
    window = cv2.createHanningWindow(grey[0].shape[::-1], cv2.CV_32F)
    (dx, dy), _ = cv2.phaseCorrelate(grey[0], grey[1], window)
    return float(np.hypot(dx, dy))


LENS_COLUMNS = ",".join(PARAM_NAMES)
