"""The thresholds of the proxy score."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from warp_train.runtime.errors import WarpTrainError

_RANGES: dict[str, tuple[float, float]] = {
    "edge_scales": (1, 8),
    "edge_tolerance_px": (0, 50),
    "edge_min_ratio": (0, 1),
    "line_min_length": (0, 1),
    "grad_cells": (1, 256),
    "regions": (1, 256),
    "region_max_difference": (0, 1),
}


@dataclasses.dataclass(frozen=True)
class ProxyScoreConfig:
    """Thresholds of `compute_proxy_score`. Scores are comparable only if these are equal."""

    edge_scales: int = 3
    """Number of scales at which edges are compared, each half the size of the last, 1 … 8."""
    edge_tolerance_px: int = 1
    """Largest distance of matching edges, in pixels of each scale, 0 … 50."""
    edge_min_ratio: float = 0.25
    """Hard fail if fewer edge pixels than this share of the ground truth's are found, 0 … 1."""
    line_min_length: float = 0.05
    """Shortest line that counts, as a share of the frame's diagonal, 0 … 1."""
    grad_cells: int = 16
    """Blocks of the gradient histograms along the longer side, 1 … 256."""
    regions: int = 8
    """Regions along each side whose mean colours are compared, 1 … 256."""
    region_max_difference: float = 0.35
    """Hard fail if a region's mean colours differ by more than this share of full scale, 0 … 1."""

    def __post_init__(self) -> None:
        for name, (least, most) in _RANGES.items():
            value, kind = getattr(self, name), type(getattr(ProxyScoreConfig, name))
            fits = isinstance(value, int if kind is int else (int, float))
            if not fits or isinstance(value, bool) or not least <= value <= most:
                wanted = "a whole number" if kind is int else "a number"
                raise WarpTrainError(
                    f"proxy score: {name} {value!r} is not allowed ({wanted}, {least} … {most})"
                )

    @classmethod
    def of(cls, config: ProxyScoreConfig | Mapping[str, Any] | None) -> ProxyScoreConfig:
        """The configuration from a mapping of some of its fields; None gives the defaults.

        Raises:
            WarpTrainError: an unknown key, a wrong type or a value out of range; names the key.
        """
        if isinstance(config, ProxyScoreConfig):
            return config
        given = dict(config or {})
        unknown = sorted(given.keys() - _RANGES.keys())
        if unknown:
            raise WarpTrainError(
                f"proxy score: unknown key {unknown[0]!r}; valid keys are {', '.join(_RANGES)}"
            )
        return cls(**given)
