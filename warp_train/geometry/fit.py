"""The lens that comes nearest to a given warp."""

import torch
from torch import Tensor

from warp_train.geometry.coordinates import isotropic_scale
from warp_train.geometry.lens_grid import IDENTITY_PARAMS, apply_lens

_ITERATIONS = 30
_START_DAMPING = 1e-3
_NUDGE = 1e-6  # step of the central differences; in float64 their error is negligible here
_RIDGE = 1e-9  # keeps the system solvable: without distortion, the centre is undetermined


def fit_lens(points: Tensor, source: Tensor, height: int, width: int) -> Tensor:
    """Least-squares lens that maps corrected `points [N, 2]` to `source [N, 2]`.

    The method is Levenberg-Marquardt (Marquardt, 1963), started at the identity. It minimises the
    squared error in isotropic units.

    Args:
        points, source: positions in grid units.
        height, width: size in pixels of the frame that these units and the lens refer to.

    Returns:
        `[8]` float64 in the order of `PARAM_NAMES`.
    """
    points, source = points.double(), source.double()
    scale = points.new_tensor(isotropic_scale(height, width))

    def error(params: Tensor) -> Tensor:
        return ((apply_lens(points[None], params[None], height, width)[0] - source) * scale).ravel()

    params = points.new_tensor(IDENTITY_PARAMS)
    nudges = _NUDGE * torch.eye(len(params), dtype=params.dtype, device=params.device)
    residual, damping = error(params), _START_DAMPING
    for _ in range(_ITERATIONS):
        slope = torch.stack(
            [(error(params + step) - error(params - step)) / (2 * _NUDGE) for step in nudges], dim=1
        )
        normal = slope.T @ slope
        damped = normal + torch.diag(damping * normal.diagonal() + _RIDGE)
        candidate = params - torch.linalg.solve(damped, slope.T @ residual)
        better = error(candidate)
        if better.square().sum() < residual.square().sum():
            moved = (candidate - params).abs().max()
            params, residual, damping = candidate, better, damping / 10
            if moved < 1e-10:
                break
        else:
            damping *= 10
    return params
