"""Lines: do both pictures have as many long straight ones, in the same directions?"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from warp_train.metrics.images import LEAST_SIDE, Bytes, overlap

Segments = NDArray[np.float64]

_BINS_PER_DEGREE = 2
_DETECTION_SCALE = 0.5
"""Long lines show at half the size, at half the cost; positions are still the full size's."""
_BLUR_DEG = 1.0
"""Standard deviation of a segment's direction: what the detector is sure of, and no more."""
_CELLS = 3
"""Directions are compared in each cell of a 3 × 3 raster: a bent frame tilts them to the left on
one side and to the right on the other, which leaves no trace in the sum over the whole frame."""


def line_score(pred: Bytes, gt: Bytes, *, min_length: float) -> float:
    """Agreement of the length-weighted distributions of the directions of long segments.

    Segments are those of R. Grompone von Gioi et al., "LSD: a line segment detector", 2012. Lengths
    are not normalised: lines that a bend breaks into pieces too short to count are missing, too.

    Args:
        pred, gt: luma [H, W] in 0..255.
        min_length: shortest segment that counts, as a share of the frame's diagonal.

    Returns:
        0..1, 1 where neither has a long line; swapping the pictures changes nothing.
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
    """Length per cell and direction [cells, cells, 180 · _BINS_PER_DEGREE]."""
    bins = 180 * _BINS_PER_DEGREE
    x1, y1, x2, y2 = segments.T
    degrees = np.degrees(np.arctan2(y2 - y1, x2 - x1)) % 180
    histogram = np.zeros((_CELLS, _CELLS, bins))
    direction = (degrees * _BINS_PER_DEGREE).astype(int) % bins
    lengths = np.hypot(x2 - x1, y2 - y1)
    # Each third of a segment where it lies.
    for part in (1 / 6, 1 / 2, 5 / 6):
        row = np.clip((y1 + (y2 - y1) * part) / shape[0] * _CELLS, 0, _CELLS - 1).astype(int)
        column = np.clip((x1 + (x2 - x1) * part) / shape[1] * _CELLS, 0, _CELLS - 1).astype(int)
        np.add.at(histogram, (row, column, direction), lengths / 3)
    return _blurred(histogram)


def _blurred(histogram: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convolves the last axis, which is a circle, with a Gaussian."""
    bins = histogram.shape[-1]
    away = np.minimum(np.arange(bins), bins - np.arange(bins)) / _BINS_PER_DEGREE
    kernel = np.exp(-0.5 * (away / _BLUR_DEG) ** 2)
    spectrum = np.fft.rfft(histogram) * np.fft.rfft(kernel / kernel.sum())
    return np.maximum(np.fft.irfft(spectrum, bins), 0)
