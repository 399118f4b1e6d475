"""Hard fails: defects that make a picture unusable whatever its score, each with its figures."""

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from warp_train.metrics.config import ProxyScoreConfig
from warp_train.metrics.edge import EdgePair
from warp_train.metrics.images import Array

SIZE_MISMATCH = "size mismatch"
"""Start of the reason that is given if the pictures differ in size and cannot be compared."""


def size_reason(pred: Array, gt: Array) -> str | None:
    """The reason why two pictures of different sizes cannot be compared; None for equal sizes."""
    if pred.shape == gt.shape:
        return None
    (h, w), (gt_h, gt_w) = pred.shape[:2], gt.shape[:2]
    return f"{SIZE_MISMATCH}: {w}x{h} px, but the ground truth is {gt_w}x{gt_h}"


def finite_reasons(pred: Array, gt: Array) -> Iterator[str]:
    """A reason for each picture with NaN or infinite values, with their number."""
    for name, image in (("prediction", pred), ("ground truth", gt)):
        broken = image.size - int(np.isfinite(image).sum())
        if broken:
            yield f"non-finite: {broken} of {image.size} values of the {name}"


def region_reasons(pred: Array, gt: Array, config: ProxyScoreConfig) -> Iterator[str]:
    """A reason that names the region whose mean colours differ most, if they differ too much.

    Means are compared, not pixels: a different warp changes nearly every pixel but hardly any mean,
    while a black border or a missing part changes both.
    """
    count = config.regions
    rows, columns = (min(count, side) for side in pred.shape[:2])
    # INTER_AREA computes the mean over each region, with fractions of pixels.
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
    """A reason if most of the ground truth's edges are missing: a blurred or an empty picture."""
    present, expected = (int(found.sum()) for found in edges)
    if present < config.edge_min_ratio * expected:
        yield (
            f"edge collapse: {present} edge pixels, but the ground truth has {expected} "
            f"(at least {config.edge_min_ratio:.0%})"
        )
