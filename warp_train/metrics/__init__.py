"""The proxy score and its parts: numpy and OpenCV only, so that a scoring process starts fast."""

from warp_train.metrics.config import ProxyScoreConfig
from warp_train.metrics.score import WEIGHTS, Score, compute_proxy_score

__all__ = ["WEIGHTS", "ProxyScoreConfig", "Score", "compute_proxy_score"]
