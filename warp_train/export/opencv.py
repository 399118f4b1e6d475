"""Converts a photo's lens to OpenCV's camera matrices and coefficients."""

from __future__ import annotations

import math
from typing import TypedDict

from torch import Tensor


class OpenCVLens(TypedDict):
    """Arguments of `cv2.undistort(photo, camera_matrix, dist_coeffs, None, new_camera_matrix)`."""

    image_width: int
    image_height: int
    camera_matrix: list[list[float]]
    """3 × 3. Its focal length is half the diagonal: the model's unit, not a measured value."""
    dist_coeffs: list[float]
    """`[k1, k2, p1, p2, k3]`, OpenCV's order."""
    new_camera_matrix: list[list[float]]
    """3 × 3, of the corrected photo: its focal length includes the zoom `s`."""


def opencv_lens(params: Tensor, height: int, width: int) -> OpenCVLens:
    """The lens `params [8]` of an upright photo of `height` × `width` px, in OpenCV's model.

    Both models are the same (see `warp_train.geometry.lens_grid`). With `D` the diagonal between
    the outermost pixel centres, the focal length is `D/2` for the photo and `s·D/2` for the
    corrected photo, and the principal point is `(W-1)/2 + dcx·D/2`, `(H-1)/2 + dcy·D/2`.
    """
    k1, k2, k3, p1, p2, dcx, dcy, s = params.tolist()
    half = math.hypot(width - 1, height - 1) / 2
    centre = (width - 1) / 2 + dcx * half, (height - 1) / 2 + dcy * half
    return {
        "image_width": width,
        "image_height": height,
        "camera_matrix": _camera_matrix(half, centre),
        "dist_coeffs": [k1, k2, p1, p2, k3],
        "new_camera_matrix": _camera_matrix(s * half, centre),
    }


def _camera_matrix(focal: float, centre: tuple[float, float]) -> list[list[float]]:
    return [[focal, 0.0, centre[0]], [0.0, focal, centre[1]], [0.0, 0.0, 1.0]]
