"""Whether a warp is safe to apply to a photo."""

import math
from typing import TypedDict

import torch
from torch import Tensor

from warp_train.geometry.coordinates import isotropic_scale
from warp_train.geometry.jacobian import jacobian_stats, out_of_bounds
from warp_train.geometry.safety_config import SafetyConfig


class SafetyReport(TypedDict):
    """The result of `evaluate_safety`."""

    safe: bool
    reasons: list[str]
    """One phrase for each limit that is exceeded; empty for a safe warp."""
    metrics: dict[str, float]
    """The measured values, each of the worst sample in the batch; NaN for a warp that is not
    finite."""


def evaluate_safety(
    grid: Tensor, residual: Tensor | None = None, config: SafetyConfig | None = None
) -> SafetyReport:
    """Checks a warp against the limits of `config`.

    Copies results to the host, which stalls a GPU: not for the training step.

    Args:
        grid: `[B, H, W, 2]` final backward grid. A batch is safe if every sample is.
        residual: `[B, H, W, 2]` residual displacements in grid units; None without a residual.
        config: the limits; None: the defaults of `SafetyConfig`.
    """
    limits = config or SafetyConfig()
    if not all(torch.isfinite(field).all() for field in (grid, residual) if field is not None):
        unknown = dict.fromkeys(_metrics(torch.zeros_like(grid), None), math.nan)
        return {"safe": False, "reasons": ["the warp is not finite"], "metrics": unknown}
    metrics = _metrics(grid, residual)
    checks = (
        ("jacobian_negative_det_pct", "above", limits.max_negative_det_pct),
        ("det_min", "below", limits.min_det),
        ("det_p01", "below", limits.min_det_p01),
        ("oob_ratio", "above", limits.max_oob_ratio),
        ("border_invalid_ratio", "above", limits.max_border_invalid_ratio),
        ("residual_magnitude", "above", limits.max_residual_magnitude),
    )
    reasons = [
        f"{name} {metrics[name]:.4g} is {side} {limit:.4g}"
        for name, side, limit in checks
        if (metrics[name] > limit if side == "above" else metrics[name] < limit)
    ]
    return {"safe": not reasons, "reasons": reasons, "metrics": metrics}


def _metrics(grid: Tensor, residual: Tensor | None) -> dict[str, float]:
    stats = jacobian_stats(grid)
    outside = out_of_bounds(grid).float()
    ring = torch.ones_like(outside[0], dtype=torch.bool)
    ring[1:-1, 1:-1] = False
    magnitude = 0.0
    if residual is not None:
        scale = residual.new_tensor(isotropic_scale(*residual.shape[1:3]))
        magnitude = float((residual * scale).norm(dim=-1).max())
    return {
        "oob_ratio": float(stats["oob_ratio"].max()),
        "border_invalid_ratio": float(outside[:, ring].mean(1).max()),
        "jacobian_negative_det_pct": float(stats["negative_det_pct"].max()),
        "det_min": float(stats["det_min"].min()),
        "det_p01": float(stats["det_p01"].min()),
        "residual_magnitude": magnitude,
    }
