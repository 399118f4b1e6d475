"""What keeps the residual flow `[B, 2, h, w]`, in pixels of its own grid, small and smooth.

Differences between neighbours that a grid of one row or column does not have count as 0.
"""

from torch import Tensor

from warp_train.geometry import full_precision


@full_precision
def flow_total_variation(flow: Tensor) -> Tensor:
    """Anisotropic total variation: mean `|∂x f|₁` plus mean `|∂y f|₁`, a scalar in px per px.

    Rudin, Osher, Fatemi: "Nonlinear total variation based noise removal algorithms", Physica D
    60, 1992.
    """
    across, down = (_mean(flow.diff(dim=dim).abs().sum(1)) for dim in (-1, -2))
    return across + down


@full_precision
def flow_magnitude(flow: Tensor) -> Tensor:
    """Mean squared length of the flow vectors, a scalar in px²; smooth at zero flow."""
    return _squared_length(flow)


@full_precision
def flow_curvature(flow: Tensor) -> Tensor:
    """Bending energy of a thin plate: mean `|f_xx|² + 2 |f_xy|² + |f_yy|²`, a scalar in px⁻².

    Second differences `[1, -2, 1]` and the mixed one over 2×2 cells; affine flow costs nothing.
    Bookstein: "Principal warps: thin-plate splines and the decomposition of deformations", IEEE
    TPAMI 11(6), 1989.
    """
    dx = flow.diff(dim=-1)
    xx, xy, yy = dx.diff(dim=-1), dx.diff(dim=-2), flow.diff(n=2, dim=-2)
    return _squared_length(xx) + 2 * _squared_length(xy) + _squared_length(yy)


def _squared_length(vectors: Tensor) -> Tensor:
    return _mean(vectors.square().sum(1))


def _mean(values: Tensor) -> Tensor:
    """Mean that is 0, not NaN, over nothing."""
    return values.sum() / max(values.numel(), 1)
