"""Images of straight lines through a radial lens: the plumb-line constraint at single points.

A straight line `u(t)` of the corrected frame appears in the photo at `q = u R(|u|²)`, with
`R(ρ) = 1 + k1 ρ + k2 ρ² + k3 ρ³`. Its direction in the corrected frame is `v = du/dt = J⁻¹ dq/dt`,
with `J = dq/du`, and the second derivative of its image is

    q'' = 4 R' (u·v) v + u (2 R' |v|² + 4 R'' (u·v)²)

The component of `q''` along the unit normal is the image's curvature where `|q'| = 1`. So each edge
gives one equation for the lens, whichever line the edge belongs to. D. C. Brown, "Close-range
camera calibration", 1971, calibrated lenses from plumb lines in the same way. Radii are those of
`(X - c) / s`, so the zoom cancels.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from warp_train.geometry.coordinates import full_precision

_INVERSION_STEPS = 4
_LEAST_SLOPE = 0.3  # of the radial curve; with a smaller one, near a fold, Newton's method diverges
_LARGEST_STEP = 0.1  # of the corrected radius, in half diagonals; bounds Newton without a root
_FARTHEST = 2.0  # corrected radius, in half diagonals
_LEAST_STRETCH = 0.2
_MOST_CURVATURE = 3.0  # larger curvatures occur only where the lens folds


class StraightLines(NamedTuple):
    """Straight lines whose images pass through given points of the photo in given directions."""

    curvature: Tensor
    """`[B, N]`: curvature of the images, in 1 / half diagonal; positive where an image bends
    towards its normal. Clamped to -3 … 3, which is exceeded only where the lens folds."""
    position: Tensor
    """`[B, N, 2]`: the points in the corrected frame, in half diagonals from the centre."""
    direction: Tensor
    """`[B, N, 2]`: unit vectors along the lines in the corrected frame."""


@full_precision
def straight_lines(points: Tensor, normals: Tensor, radial: Tensor) -> StraightLines:
    """The straight lines whose images pass through `points` at right angles to `normals`.

    Args:
        points: `[B, N, 2]` positions in the photo relative to the lens's centre, in half diagonals.
        normals: `[B, N, 2]` unit normals of the lines' images at these points.
        radial: `[B, 3]`: k1, k2, k3.

    With `points` and `normals` as `[B, 1, N, 2]` and `radial` as `[B, T, 3]`, the lines are
    computed for `T` lenses per sample; `N` becomes `T, N` in the results' shapes.
    """
    k1, k2, k3 = (k.unsqueeze(-1) for k in radial.unbind(-1))
    x, y = points.unbind(-1)
    n_x, n_y = normals.unbind(-1)
    seen = torch.hypot(x, y).clamp_min(1e-6)
    r = _corrected_radius(seen, k1, k2, k3)
    u_x, u_y, r2 = x / seen * r, y / seen * r, r * r
    gain = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))).clamp_min(_LEAST_STRETCH)
    first, second = k1 + r2 * (2 * k2 + r2 * 3 * k3), 2 * k2 + 6 * k3 * r2
    # `v = J⁻¹ τ` with `J = R I + 2 R' u uᵀ` and the tangent `τ = (-n_y, n_x)`.
    along = u_y * n_x - u_x * n_y
    stretch = (gain + 2 * first * r2).clamp_min(_LEAST_STRETCH)
    pull = 2 * first * along / stretch
    v_x, v_y = (-n_y - pull * u_x) / gain, (n_x - pull * u_y) / gain
    u_v, v_v = u_x * v_x + u_y * v_y, v_x * v_x + v_y * v_y
    outwards = 2 * first * v_v + 4 * second * u_v * u_v
    curvature = 4 * first * u_v * (v_x * n_x + v_y * n_y) + outwards * (u_x * n_x + u_y * n_y)
    return StraightLines(
        curvature.clamp(-_MOST_CURVATURE, _MOST_CURVATURE),
        torch.stack((u_x, u_y), -1),
        torch.stack((v_x, v_y), -1) * v_v.rsqrt()[..., None],
    )


def _corrected_radius(seen: Tensor, k1: Tensor, k2: Tensor, k3: Tensor) -> Tensor:
    """The radius that the lens maps to `seen`, by Newton's method."""
    r = seen
    for _ in range(_INVERSION_STEPS):
        r2 = r * r
        off = r * (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) - seen
        slope = 1 + r2 * (3 * k1 + r2 * (5 * k2 + r2 * 7 * k3))
        step = (off / slope.clamp_min(_LEAST_SLOPE)).clamp(-_LARGEST_STEP, _LARGEST_STEP)
        r = (r - step).clamp(1e-6, _FARTHEST)
    return r
