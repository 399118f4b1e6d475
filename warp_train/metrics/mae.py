"""The pixel score: the mean absolute error."""

import numpy as np

from warp_train.metrics.images import Array


def mae_score(pred: Array, gt: Array) -> float:
    """1 − mean absolute error of RGB [H, W, 3] in 0..1; swapping the pictures changes nothing."""
    return 1 - float(np.abs(pred - gt).mean(dtype=np.float64))
