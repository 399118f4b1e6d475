"""The limits of a safe warp. Imports no torch, since every recipe contains them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SafetyConfig:
    """Limits of a safe warp. A warp that exceeds one of them is not applied."""

    max_negative_det_pct: float = 0.0
    """Largest share of folded pixel cells, in percent."""
    min_det: float = 0.05
    """Smallest local area ratio of the backward map; below it, the picture is stretched too far."""
    min_det_p01: float = 0.1
    """Smallest first percentile of the local area ratio."""
    max_oob_ratio: float = 0.25
    """Largest share of pixels read from outside the photo, 0..1."""
    max_border_invalid_ratio: float = 1.0
    """Largest share of the outermost ring of pixels read from outside the photo, 0..1."""
    max_residual_magnitude: float = 0.1
    """Longest residual displacement, as a share of the half diagonal."""
