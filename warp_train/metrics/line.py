"""The line score: whether both pictures have as many long straight lines, in equal directions."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from warp_train.metrics.images import LEAST_SIDE, Bytes, overlap

Segments = NDArray[np.float64]

_BINS_PER_DEGREE = 2
_DETECTION_SCALE = 0.5
"""Scale of the picture in which lines are detected, for half the cost: long lines remain visible.
Positions are returned in pixels of the full size."""
_BLUR_DEG = 1.0
"""Standard deviation of a segment's direction, from the precision of the detector."""
_CELLS = 3
"""Directions are compared in each cell of a 3 × 3 raster: distortion tilts lines to the left on one
side and to the right on the other, which cancels out in a histogram of the complete frame."""


def line_score(pred: Bytes, gt: Bytes, *, min_length: float) -> float:
    """Agreement of the length-weighted distributions of the directions of long segments.

    Segments are detected by R. Grompone von Gioi et al., "LSD: a line segment detector", 2012.
    Lengths are not normalised: distortion breaks lines into pieces that are too short to count, and
    these missing lengths lower the score.

    Args:
        pred, gt: luma [H, W] in 0..255.
        min_length: shortest segment that counts, as a share of the frame's diagonal.

    Returns:
        0..1, 1 if neither has a long line; swapping the pictures changes nothing.
    """
    shortest = min_length * math.hypot(*gt.shape)
    histograms = [
        _directions(long_segments(picture, shortest), picture.shape) for picture in (pred, gt)
    ]
    return overlap(*histograms)


def long_segments(picture: Bytes, shortest: float) -> Segments:
    """Segments [N, 4] as (x1, y1, x2, y2), in pixels, of at least that length."""
    found = None
    if min(picture.shape) >= LEAST_SIDE:
        found = cv2.createLineSegmentDetector(cv2.LSD_REFINE_STD, _DETECTION_SCALE).detect(picture)[
            0
        ]
    segments = np.zeros((0, 4)) if found is None else found.reshape(-1, 4).astype(np.float64)
    lengths = np.hypot(segments[:, 2] - segments[:, 0], segments[:, 3] - segments[:, 1])
    return segments[lengths >= shortest]


def _directions(segments: Segments, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Total length by cell and direction, [_CELLS, _CELLS, 180 · _BINS_PER_DEGREE], blurred."""
    bins = 180 * _BINS_PER_DEGREE
    x1, y1, x2, y2 = segments.T
    degrees = np.degrees(np.arctan2(y2 - y1, x2 - x1)) % 180
    histogram = np.zeros((_CELLS, _CELLS, bins))
    direction = (degrees * _BINS_PER_DEGREE).astype(int) % bins
    lengths = np.hypot(x2 - x1, y2 - y1)
    # Each third of a segment counts in the cell that contains its middle.
    for part in (1 / 6, 1 / 2, 5 / 6):
        row = np.clip((y1 + (y2 - y1) * part) / shape[0] * _CELLS, 0, _CELLS - 1).astype(int)
        column = np.clip((x1 + (x2 - x1) * part) / shape[1] * _CELLS, 0, _CELLS - 1).astype(int)
        np.add.at(histogram, (row, column, direction), lengths / 3)
    return _blurred(histogram)


def _blurred(histogram: NDArray[np.float64]) -> NDArray[np.float64]:
    """The histogram convolved along its last axis, which is circular, with a Gaussian."""
    bins = histogram.shape[-1]
    away = np.minimum(np.arange(bins), bins - np.arange(bins)) / _BINS_PER_DEGREE
    kernel = np.exp(-0.5 * (away / _BLUR_DEG) ** 2)
    spectrum = np.fft.rfft(histogram) * np.fft.rfft(kernel / kernel.sum())
    return np.maximum(np.fft.irfft(spectrum, bins), 0)
