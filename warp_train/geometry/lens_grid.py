"""The Brown–Conrady lens: its eight parameters, its backward grid, and its inverse.

With `c = (dcx, dcy)`, `u = (X - c) / s`, `r² = |u|²` and `P = (p2, p1)`:

    source(X) = u · (1 + k1 r² + k2 r⁴ + k3 r⁶)  +  2 (P·u) u + r² P  +  c

in isotropic units. The tangential term is OpenCV's in vector form; `P` and `c` rotate with the
frame. Source: D. C. Brown, "Close-range camera calibration", 1971, in the form of OpenCV's
`initUndistortRectifyMap`, with the focal lengths `D/2` of the photo and `s·D/2` of the corrected
frame, where `D` is the frame's diagonal in pixels.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from warp_train.geometry.coordinates import (
    full_precision,
    identity_grid,
    isotropic_scale,
    planes,
)
from warp_train.geometry.interpolation import chebyshev_nodes, polynomial_weights, spread

PARAM_NAMES = ("k1", "k2", "k3", "p1", "p2", "dcx", "dcy", "s")
IDENTITY_PARAMS = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)

_NODES = 8
"""Points per axis that determine a polynomial of the lens's degree, 7, which is that of `u r⁶`."""


@full_precision
def build_parametric_grid(params: Tensor, height: int, width: int) -> Tensor:
    """The lens as a backward grid: the position in the photo of each corrected pixel.

    The lens is a polynomial of degree 7 in x and y, so 8 × 8 points determine it completely.

    Args:
        params: `[B, 8]` in the order of `PARAM_NAMES`, or `[B, 9]` with `aspect` last: the
            corrected frame's vertical scale relative to its horizontal one.
        height, width: size of the frame in pixels.

    Returns:
        `[B, H, W, 2]` grid; float32, or float64 for float64 `params`.
    """
    like = (params.device, params.dtype)
    nodes = chebyshev_nodes(_NODES, *like)
    points = planes(*torch.meshgrid(nodes, nodes, indexing="xy"))
    # Displacements are interpolated, not positions, so that the identity stays exact.
    shift = apply_lens(points.expand(len(params), -1, -1, -1), params, height, width) - points
    down, across = (polynomial_weights(_NODES, side, *like) for side in (height, width))
    shift = spread(shift.permute(0, 3, 1, 2), down, across)
    return identity_grid(height, width, *like) + shift


@full_precision
def apply_lens(points: Tensor, params: Tensor, height: int, width: int) -> Tensor:
    """Maps corrected points `[B, ..., 2]` to the photo; both in grid units of a `height` × `width`
    frame. `params` as for `build_parametric_grid`."""
    scale_x, scale_y = isotropic_scale(height, width)
    lens = _per_point(params, points.dim())
    x, y = points.unbind(-1)
    u_x = (x * scale_x - lens.dcx) / lens.s_x
    u_y = (y * scale_y - lens.dcy) / lens.s_y
    q_x, q_y = _distort(u_x, u_y, lens)
    return torch.stack(((q_x + lens.dcx) / scale_x, (q_y + lens.dcy) / scale_y), dim=-1)


@full_precision
def invert_lens(
    points: Tensor, params: Tensor, height: int, width: int, iterations: int = 12
) -> Tensor:
    """Maps photo points `[B, ..., 2]` to the corrected frame: the inverse of `apply_lens`.

    Newton's method with the closed-form Jacobian. It converges where the lens does not fold between
    the point and the centre, as is the case for lenses that are well within the limits of
    `evaluate_safety`.
    """
    scale_x, scale_y = isotropic_scale(height, width)
    lens = _per_point(params, points.dim())
    x, y = points.unbind(-1)
    target_x, target_y = x * scale_x - lens.dcx, y * scale_y - lens.dcy
    u_x, u_y = target_x, target_y
    for _ in range(iterations):
        q_x, q_y = _distort(u_x, u_y, lens)
        (a, b), (c, d) = _distort_jacobian(u_x, u_y, lens)
        off_x, off_y = q_x - target_x, q_y - target_y
        determinant = a * d - b * c
        u_x = u_x - (d * off_x - b * off_y) / determinant
        u_y = u_y - (a * off_y - c * off_x) / determinant
    return torch.stack(
        ((u_x * lens.s_x + lens.dcx) / scale_x, (u_y * lens.s_y + lens.dcy) / scale_y), dim=-1
    )


def rescale_params(params: Tensor, ratio: float) -> Tensor:
    """The same lens `[..., 8]` in the units of another frame about the same centre. Exact.

    `ratio` is the new frame's diagonal divided by the old one's: below 1 after a crop, above 1
    after adding a margin.
    """
    powers = params.new_tensor((2, 4, 6, 1, 1, -1, -1, 0))
    return params * params.new_tensor(ratio) ** powers


class _Lens(NamedTuple):
    """Parameters, reshaped to broadcast against the coordinates of points."""

    k1: Tensor
    k2: Tensor
    k3: Tensor
    p1: Tensor
    p2: Tensor
    dcx: Tensor
    dcy: Tensor
    s_x: Tensor
    s_y: Tensor


def _per_point(params: Tensor, dims: int) -> _Lens:
    shape = (len(params), *(1,) * (dims - 2))
    k1, k2, k3, p1, p2, dcx, dcy, s = (p.reshape(shape) for p in params[:, :8].unbind(1))
    s_y = s * params[:, 8].reshape(shape) if params.shape[1] == 9 else s
    return _Lens(k1, k2, k3, p1, p2, dcx, dcy, s, s_y)


def _distort(u_x: Tensor, u_y: Tensor, lens: _Lens) -> tuple[Tensor, Tensor]:
    """`u · radial + 2 (P·u) u + r² P`."""
    r2 = u_x * u_x + u_y * u_y
    radial = 1 + r2 * (lens.k1 + r2 * (lens.k2 + r2 * lens.k3))
    factor = radial + 2 * (lens.p2 * u_x + lens.p1 * u_y)
    return u_x * factor + r2 * lens.p2, u_y * factor + r2 * lens.p1


def _distort_jacobian(
    u_x: Tensor, u_y: Tensor, lens: _Lens
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The rows of `(radial + 2 P·u) I + 2 u (radial' u + P)ᵀ + 2 P uᵀ`; `radial'` is the
    derivative by `r²`."""
    r2 = u_x * u_x + u_y * u_y
    radial = 1 + r2 * (lens.k1 + r2 * (lens.k2 + r2 * lens.k3))
    slope = lens.k1 + r2 * (2 * lens.k2 + r2 * 3 * lens.k3)
    factor = radial + 2 * (lens.p2 * u_x + lens.p1 * u_y)
    v_x, v_y = slope * u_x + lens.p2, slope * u_y + lens.p1
    return (
        (factor + 2 * (u_x * v_x + lens.p2 * u_x), 2 * (u_x * v_y + lens.p2 * u_y)),
        (2 * (u_y * v_x + lens.p1 * u_x), factor + 2 * (u_y * v_y + lens.p1 * u_y)),
    )
