"""The gradient score: whether gradients agree in direction and strength all over the frame."""

import cv2
import numpy as np
from numpy.typing import NDArray

from warp_train.metrics.images import Array, halved, overlap

_BINS = 18
"""Orientation bins of 10°; each value is shared between the two nearest."""


def grad_score(pred: Array, gt: Array, *, cells: int) -> float:
    """Agreement of the block-wise, magnitude-weighted histograms of gradient orientation.

    These are histograms of oriented gradients (N. Dalal and B. Triggs, 2005) without normalisation,
    so that strong gradients have a greater weight than texture. A single histogram of the complete
    frame would not distinguish a distorted photo from a straight one. The pictures are halved
    first, which averages out most of the sensor noise.

    Args:
        pred, gt: luma [H, W] in 0..1.
        cells: blocks along the longer side; the shorter side has as many as make them square.

    Returns:
        0..1, 1 where neither has a gradient; swapping the pictures changes nothing.
    """
    return overlap(*(_histograms(halved(picture), cells) for picture in (pred, gt)))


def _histograms(luma: Array, cells: int) -> NDArray[np.float64]:
    """Gradient magnitude by block and orientation [blocks, _BINS]."""
    x, y = (np.asarray(cv2.Sobel(luma, cv2.CV_32F, *axis)) for axis in ((1, 0), (0, 1)))
    magnitude, degrees = cv2.cartToPolar(x, y, angleInDegrees=True)
    place = np.asarray(degrees, np.float32) * np.float32(_BINS / 180)
    first = place.astype(np.intp)
    upper = (magnitude * (place - first)).ravel()
    # Bins for both directions of an orientation, and two more for 360° and its upper neighbour.
    turn = 2 * _BINS + 2
    block = _block_of(luma.shape, cells)
    where = (block * turn + first).ravel()
    size = (int(block[-1, -1]) + 1) * turn
    total = np.bincount(where, magnitude.ravel() - upper, size).astype(np.float64)
    total[1:] += np.bincount(where, upper, size)[:-1]
    both = total.reshape(-1, turn)
    histograms: NDArray[np.float64] = both[:, :_BINS] + both[:, _BINS : 2 * _BINS]
    histograms[:, :2] += both[:, 2 * _BINS :]
    return histograms


def _block_of(shape: tuple[int, ...], cells: int) -> NDArray[np.intp]:
    """The number of the block that each pixel lies in."""
    height, width = shape
    side = max(height, width) / cells
    rows, columns = max(1, round(height / side)), max(1, round(width / side))
    row = np.arange(height) * rows // height
    column = np.arange(width) * columns // width
    return row[:, None] * columns + column[None]
