"""Hard fails: what makes a picture unfit whatever its score, each said in words with figures."""

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from warp_train.metrics.config import ProxyScoreConfig
from warp_train.metrics.edge import EdgePair
from warp_train.metrics.images import Array

SIZE_MISMATCH = "size mismatch"
"""How the reason begins that leaves nothing to compare."""


def size_reason(pred: Array, gt: Array) -> str | None:
    """Why the two cannot be laid over each other, if they cannot."""
    if pred.shape == gt.shape:
        return None
    (h, w), (gt_h, gt_w) = pred.shape[:2], gt.shape[:2]
    return f"{SIZE_MISMATCH}: {w}x{h} px, but the ground truth is {gt_w}x{gt_h}"


def finite_reasons(pred: Array, gt: Array) -> Iterator[str]:
    """Says how many values of either picture are NaN or infinite."""
    for name, image in (("prediction", pred), ("ground truth", gt)):
        broken = image.size - int(np.isfinite(image).sum())
        if broken:
            yield f"non-finite: {broken} of {image.size} values of the {name}"


def region_reasons(pred: Array, gt: Array, config: ProxyScoreConfig) -> Iterator[str]:
    """Names the region whose mean colour is furthest off, if that is too far.

    Means, because a picture that is bent otherwise differs in nearly every pixel and in no mean,
    while a black border or a lost part differs in both.
    """
    count = config.regions
    rows, columns = (min(count, side) for side in pred.shape[:2])
    # INTER_AREA is the mean over each region, fractions of pixels included.
    means = [cv2.resize(i, (columns, rows), interpolation=cv2.INTER_AREA) for i in (pred, gt)]
    off: NDArray[np.float32] = np.abs(means[0] - means[1]).mean(axis=2)
    worst = float(off.max())
    if worst > config.region_max_difference:
        row, column = np.unravel_index(int(off.argmax()), off.shape)
        yield (
            f"regional difference: {worst:.2f} of full scale in row {row + 1}, column {column + 1} "
            f"of {rows}x{columns} regions (at most {config.region_max_difference:g})"
        )


def edge_reasons(edges: EdgePair, config: ProxyScoreConfig) -> Iterator[str]:
    """Says so if hardly any of the ground truth's edges are left: a blurred or an empty picture."""
    left, expected = (int(found.sum()) for found in edges)
    if left < config.edge_min_ratio * expected:
        yield (
            f"edge collapse: {left} edge pixels, where the ground truth has {expected} "
            f"(at least {config.edge_min_ratio:.0%})"
        )
