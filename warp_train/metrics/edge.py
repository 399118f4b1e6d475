"""The edge score: whether both pictures have their edges in the same places."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from warp_train.metrics.images import Bytes, scales

_LOW_TO_HIGH = 0.4
"""Ratio of Canny's low threshold to the high one: J. Canny, 1986, recommends 1:2 to 1:3."""
_FAINTEST = 24.0
"""Smallest high threshold, in Sobel units: a step of 8 grey levels; fainter edges are noise."""

Edges = NDArray[np.uint8]
EdgePair = tuple[Edges, Edges]


def edge_pairs(pred: Bytes, gt: Bytes, scale_count: int) -> list[EdgePair]:
    """Edges of both pictures, luma [H, W] in 0..255, at each scale, the finest first."""
    pairs = zip(scales(pred, scale_count), scales(gt, scale_count), strict=True)
    return [edges_of(*pair) for pair in pairs]


def edge_score(pairs: Sequence[EdgePair], tolerance_px: int) -> float:
    """F1 score of edge pixels that have a counterpart within the tolerance, averaged over scales.

    The tolerance is in pixels of each scale, so that the coarse scales distinguish a small offset
    from a large one. A scale at which neither picture has edges counts as 1, a scale at which only
    one of them has edges as 0.

    Returns:
        0..1; swapping the pictures changes nothing.
    """
    return float(np.mean([_f1(pred, gt, tolerance_px) for pred, gt in pairs]))


def edges_of(one: Bytes, other: Bytes) -> EdgePair:
    """Canny edges (0 or 1) of two pictures, by common thresholds that are computed from both.

    With common thresholds, a picture that has lost its contrast has fewer edges than the other.
    """
    slopes = [_slopes(picture) for picture in (one, other)]
    strength = np.concatenate([np.abs(x) + np.abs(y) for x, y in slopes], axis=None)
    place = int(0.9 * (strength.size - 1))
    # In a regular pattern, over a tenth of the pixels can have the greatest strength. The threshold
    # is therefore at most half of it.
    strong = min(float(np.partition(strength, place)[place]), float(strength.max()) / 2)
    high = max(_FAINTEST, strong)
    found = [cv2.Canny(x, y, _LOW_TO_HIGH * high, high) // 255 for x, y in slopes]
    return np.asarray(found[0], np.uint8), np.asarray(found[1], np.uint8)


def _slopes(picture: Bytes) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    smooth = cv2.GaussianBlur(picture, (5, 5), 1.0)
    x, y = (cv2.Sobel(smooth, cv2.CV_16S, *axis) for axis in ((1, 0), (0, 1)))
    return np.asarray(x, np.int16), np.asarray(y, np.int16)


def _f1(pred: Edges, gt: Edges, tolerance_px: int) -> float:
    pred_count, gt_count = int(pred.sum()), int(gt.sum())
    if not pred_count or not gt_count:
        return float(pred_count == gt_count)
    side = 2 * tolerance_px + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    precision = cv2.countNonZero(cv2.bitwise_and(pred, cv2.dilate(gt, disc))) / pred_count
    recall = cv2.countNonZero(cv2.bitwise_and(gt, cv2.dilate(pred, disc))) / gt_count
    both = precision + recall
    return 2 * precision * recall / both if both else 0.0
