"""Checks a warp before a photo is resampled, and replaces an unsafe warp by a weaker one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from warp_train.geometry import (
    IDENTITY_PARAMS,
    SafetyConfig,
    SafetyReport,
    evaluate_safety,
    identity_grid,
    jacobian_determinant,
    percent_to_px,
)
from warp_train.inference.photo_warp import PhotoWarp, frame_points

Mode = Literal["hybrid", "lens", "lens_clamped", "unchanged"]

CONSERVATIVE_BOUNDS = (0.1, 0.04, 0.02, 0.002, 0.002, 0.02, 0.02, 0.05)
"""Largest deviations from the identity of the last lens that is tried. A lens within these bounds
does not fold, whatever their combination."""

_CHECKED_SIDES = (256, 1024)
"""Nodes along the long side at which a warp is checked. The first number is enough if the area
changes so little between neighbouring nodes that it cannot vanish between them."""
_NODES = 33
"""Nodes a side at which the displacement of a warp is measured."""


@dataclass(frozen=True)
class SafeWarp:
    """The first safe warp of the chain, and why those before it were refused."""

    warp: PhotoWarp
    mode: Mode
    report: SafetyReport
    """The safety of `warp`."""
    refused: tuple[str, ...]
    """One line for each refused mode, such as `hybrid: det_min -0.2 is below 0.05`."""


def choose_warp(
    predicted: PhotoWarp,
    height: int,
    width: int,
    limits: SafetyConfig | None = None,
    *,
    lens_only: bool = False,
) -> SafeWarp:
    """The first of hybrid, lens only, conservative lens and identity that is safe for the photo.

    The warp is weakened by `reliable_share` of what it moves and of its expected error, residual
    included: the photo may be straight already. If nothing of it is reliable, the photo stays
    unchanged. With `lens_only`, the lens is the one that it is beside the residual.
    """
    share, unsure = _reliability(predicted, height, width)
    weakened = _weakened(predicted, share)
    if lens_only:
        weakened = replace(weakened, residual=None)
    refused: list[str] = []
    for mode, warp in _chain(weakened):
        if unsure is not None and mode != "unchanged":
            refused.append(f"{mode}: {unsure}")
            continue
        report = check_warp(warp, height, width, limits)
        if report["safe"] or mode == "unchanged":
            break
        refused.append(f"{mode}: {'; '.join(report['reasons'])}")
    return SafeWarp(warp, mode, report, tuple(refused))


def _reliability(predicted: PhotoWarp, height: int, width: int) -> tuple[float, str | None]:
    """The share of a warp to apply, and the reason if that is nothing."""
    if predicted.expected_error_pct is None:
        return 1.0, None
    error = percent_to_px(predicted.expected_error_pct, height, width)
    moved = moved_px(predicted, height, width)
    share = reliable_share(moved, error)
    if share > 0:
        return share, None
    return share, (
        f"expected to be wrong by {error:.2f} px, while it moves pixels by {moved:.2f} px"
    )


def reliable_share(moved: float, error: float) -> float:
    """The share of a displacement `moved` with the expected error `error` that is worth applying.

    A prediction is the true displacement plus an error that is independent of it, so that their
    mean squares add: `moved² = true² + error²`. The multiple of the prediction that is nearest to
    the truth in the mean is `true² / moved² = 1 - error² / moved²` (Wiener's filter), and nothing
    where that is below 0 (the positive part of James and Stein, "Estimation with quadratic loss",
    1961).
    """
    if not error > 0 or not math.isfinite(moved):  # the check of the warp refuses the latter
        return 1.0
    return max(0.0, 1.0 - (error / moved) ** 2) if moved > 0 else 0.0


def _weakened(warp: PhotoWarp, share: float) -> PhotoWarp:
    """A warp that moves pixels by about `share` of what `warp` does."""
    if share == 1:
        return warp
    identity = warp.params.new_tensor(IDENTITY_PARAMS)
    return replace(
        warp,
        params=identity + share * (warp.params - identity),
        residual=None if warp.residual is None else share * warp.residual,
    )


def unchanged(height: int, width: int, reason: str) -> SafeWarp:
    """No warp, for a photo of this size that is left alone for a reason."""
    still = PhotoWarp(torch.tensor(IDENTITY_PARAMS, dtype=torch.float64))
    return SafeWarp(still, "unchanged", check_warp(still, height, width), (reason,))


def moved_px(warp: PhotoWarp, height: int, width: int) -> float:
    """The mean distance by which a warp moves the pixels of a frame."""
    still = PhotoWarp(warp.params.new_tensor(IDENTITY_PARAMS))
    return between_px(warp, still, height, width)


def between_px(one: PhotoWarp, other: PhotoWarp, height: int, width: int) -> float:
    """The mean distance between the positions in a frame that two warps read at."""
    nodes = identity_grid(_NODES, _NODES)
    apart = one.sources(nodes, height, width) - other.sources(nodes, height, width)
    half = nodes.new_tensor(((width - 1) / 2, (height - 1) / 2))
    return float((apart * half).norm(dim=-1).mean())


def check_warp(
    warp: PhotoWarp, height: int, width: int, limits: SafetyConfig | None = None
) -> SafetyReport:
    """The safety of a warp on a photo of `height` × `width`, at up to 1024 nodes a side."""
    limits = limits or SafetyConfig()
    for side in _CHECKED_SIDES:
        scale = min(1.0, side / max(height, width))
        nodes = frame_points(max(2, round(height * scale)), max(2, round(width * scale)))
        grid = warp.sources(nodes, height, width)[None]
        residual = None if warp.residual is None else warp.residual_at(nodes)[None]
        report = evaluate_safety(grid, residual, limits)
        if _is_smooth(grid, limits.min_det):
            break
    return report


def _is_smooth(grid: Tensor, step: float) -> bool:
    """Whether the area `[1, H, W, 2]` takes up changes by less than `step` between neighbours."""
    area = jacobian_determinant(grid)
    return all(bool((area.diff(dim=axis).abs() < step).all()) for axis in (1, 2))


def _chain(predicted: PhotoWarp) -> Iterator[tuple[Mode, PhotoWarp]]:
    params = predicted.params
    if predicted.residual is not None:
        yield "hybrid", predicted
    yield "lens", PhotoWarp(params)
    yield "lens_clamped", PhotoWarp(_conservative(params))
    yield "unchanged", PhotoWarp(params.new_tensor(IDENTITY_PARAMS))


def _conservative(params: Tensor) -> Tensor:
    identity, bounds = params.new_tensor(IDENTITY_PARAMS), params.new_tensor(CONSERVATIVE_BOUNDS)
    deviation = torch.nan_to_num(params - identity, nan=0.0)
    return identity + deviation.clamp(-bounds, bounds)
