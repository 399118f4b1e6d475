"""Checks a warp before a photo is resampled, and replaces an unsafe warp by a weaker one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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
_STRAIGHT = 1 - 0.5**0.5
"""The share of straight photos at which applying a warp neither gains nor loses if its expected
error equals its displacement: 29 %. `largest_expected_error` derives the rule.

Measured with the quickstart's network on real photos, the limit of 1 that follows is about the
smallest that costs real and strong lenses less than 2 % of their error; it saves straight photos a
tenth of the harm. No limit halves the harm at that price, because on real photos the expected
errors of that network are half to two thirds of the true ones, and no larger for straight photos
than for bent ones. `.github/RESULTS.md` has the figures."""

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
    predicted: PhotoWarp, height: int, width: int, limits: SafetyConfig | None = None
) -> SafeWarp:
    """The first of hybrid, lens only, conservative lens and identity that is safe for the photo.

    A photo stays unchanged if the expected error of the warp, residual included, is larger than the
    mean distance by which it moves pixels: the photo may be straight already, and the expected gain
    is then smaller than the expected harm. `largest_expected_error` derives this.
    """
    unsure = _why_unsure(predicted, height, width)
    refused: list[str] = []
    for mode, warp in _chain(predicted):
        if unsure is not None and mode != "unchanged":
            refused.append(f"{mode}: {unsure}")
            continue
        report = check_warp(warp, height, width, limits)
        if report["safe"] or mode == "unchanged":
            break
        refused.append(f"{mode}: {'; '.join(report['reasons'])}")
    return SafeWarp(warp, mode, report, tuple(refused))


def _why_unsure(predicted: PhotoWarp, height: int, width: int) -> str | None:
    """The reason to refuse a warp because of its expected error; None if there is none."""
    if predicted.expected_error_pct is None:
        return None
    error = percent_to_px(predicted.expected_error_pct, height, width)
    moved = moved_px(predicted, height, width)
    if not error > largest_expected_error(_STRAIGHT) * moved:
        return None
    return f"expected to be wrong by {error:.2f} px, while it moves pixels by {moved:.2f} px"


def unchanged(height: int, width: int, reason: str) -> SafeWarp:
    """No warp, for a photo of this size that is left alone for a reason."""
    still = PhotoWarp(torch.tensor(IDENTITY_PARAMS, dtype=torch.float64))
    return SafeWarp(still, "unchanged", check_warp(still, height, width), (reason,))


def moved_px(warp: PhotoWarp, height: int, width: int) -> float:
    """The mean distance by which a warp moves the pixels of a frame."""
    nodes = identity_grid(_NODES, _NODES)
    moved = (warp.sources(nodes, height, width) - nodes) * nodes.new_tensor(
        ((width - 1) / 2, (height - 1) / 2)
    )
    return float(moved.norm(dim=-1).mean())


def largest_expected_error(straight: float) -> float:
    """The expected error, per pixel of displacement, up to which a warp should be applied.

    A warp moves pixels by `m` and is expected to be wrong by `e`. There are two cases:

    - The photo is bent as training photos are. The prediction is then the mean of the warps that
      are possible, and its error is independent of it. The unchanged photo is off by `√(m² + e²)`,
      and applying the warp gains `√(m² + e²) - e`.
    - The photo is straight already. Applying the warp loses `m`.

    With a share `q` of straight photos, applying it pays if
    `(1 - q) (√(m² + e²) - e) > q m`. With the odds `o = q / (1 - q)` this is `e < t m`, where
    `t = (1 - o²) / (2 o)`.

    Args:
        straight: `q`, above 0, up to 0.5, at which no warp pays. It is the share among photos with
            warps at the limit: warps that move much farther belong to bent photos.
    """
    odds = straight / (1 - straight)
    return (1 - odds**2) / (2 * odds)


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
