"""No warp touches a photo unchecked: what is refused falls back to something tamer."""

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
    half_diagonal,
    identity_grid,
    jacobian_determinant,
)
from warp_train.inference.photo_warp import PhotoWarp, frame_points

Mode = Literal["hybrid", "lens", "lens_clamped", "unchanged"]

CONSERVATIVE_BOUNDS = (0.1, 0.04, 0.02, 0.002, 0.002, 0.02, 0.02, 0.05)
"""Largest deviations from the identity of the last lens that is tried: what is left of them cannot
fold, whatever their combination."""

_CHECKED_SIDES = (256, 1024)
"""Nodes along the long side that a warp is checked at: the fewer where the area changes so little
from one to the next that it cannot vanish unseen between them."""
_UNSURE = 3.0
"""With an error `e` expected beside a move `m`, doing nothing is off by `√(e² + m²)`: at `e = 3 m`
the warp gains 5 % of `e`."""

_NODES = 33
"""A side, to measure how far a warp moves pixels."""


@dataclass(frozen=True)
class SafeWarp:
    """The first warp of the chain that passed, and why those before it did not."""

    warp: PhotoWarp
    mode: Mode
    report: SafetyReport
    """Of `warp`."""
    refused: tuple[str, ...]
    """One line for each mode that was refused, as `hybrid: det_min -0.2 is below 0.05`."""


def choose_warp(
    said: PhotoWarp, height: int, width: int, limits: SafetyConfig | None = None
) -> SafeWarp:
    """The first of hybrid, lens only, conservative lens and identity that is safe for the photo.

    A photo stays as it is where the model expects to be wrong by over three times what its warp
    moves: that could be expected to mend a twentieth of the error, and may as well do harm.
    """
    unsure = _why_unsure(said, height, width)
    refused: list[str] = []
    for mode, warp in _chain(said):
        if unsure is not None and mode != "unchanged":
            refused.append(f"{mode}: {unsure}")
            continue
        report = check_warp(warp, height, width, limits)
        if report["safe"] or mode == "unchanged":
            break
        refused.append(f"{mode}: {'; '.join(report['reasons'])}")
    return SafeWarp(warp, mode, report, tuple(refused))


def _why_unsure(said: PhotoWarp, height: int, width: int) -> str | None:
    """What speaks against a warp by the model's own doubt; None where nothing does."""
    if said.doubt is None:
        return None
    wrong = expected_error_px(said.doubt, height, width)
    moved = moved_px(said, height, width)
    if not wrong > _UNSURE * moved:
        return None
    return f"expected to be wrong by {wrong:.2f} px, while it moves pixels by {moved:.2f} px"


def expected_error_px(doubt: float, height: int, width: int) -> float:
    """A doubt in % of the half diagonal, as pixels of a frame."""
    return doubt / 100 * half_diagonal(height, width)


def moved_px(warp: PhotoWarp, height: int, width: int) -> float:
    """How far a warp moves pixels of a frame in the mean."""
    nodes = identity_grid(_NODES, _NODES)
    moved = (warp.sources(nodes, height, width) - nodes) * nodes.new_tensor(
        ((width - 1) / 2, (height - 1) / 2)
    )
    return float(moved.norm(dim=-1).mean())


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


def _chain(said: PhotoWarp) -> Iterator[tuple[Mode, PhotoWarp]]:
    if said.residual is not None:
        yield "hybrid", said
    yield "lens", PhotoWarp(said.params)
    yield "lens_clamped", PhotoWarp(_conservative(said.params))
    yield "unchanged", PhotoWarp(said.params.new_tensor(IDENTITY_PARAMS))


def _conservative(params: Tensor) -> Tensor:
    identity, bounds = params.new_tensor(IDENTITY_PARAMS), params.new_tensor(CONSERVATIVE_BOUNDS)
    deviation = torch.nan_to_num(params - identity, nan=0.0)
    return identity + deviation.clamp(-bounds, bounds)
