"""The zoom at which the photo just covers the corrected frame."""

import functools

import torch
from torch import Tensor

from warp_train.geometry.coordinates import full_precision, isotropic_scale

_POINTS = 24  # along each side of one quarter of the border; the other quarters are symmetric
_STEPS = 14
_STEP_POWER = 0.8  # below 1: the reach falls faster than 1 / s where `gain` grows with the radius
_NUDGE = 1e-3
_LEAST_FALL = 0.2  # of the reach per unit of s; only lenses that nearly fold have a smaller one


@full_precision
def covering_zoom(radial: Tensor, height: int, width: int) -> Tensor:
    """The `s` at which a centred radial lens reads up to the photo's border and no further.

    Differentiable in `radial`, by the implicit function theorem; exactly 1 for the identity.

    Args:
        radial: `[B, 3]`: k1, k2, k3.
        height, width: size of the frame in pixels.

    Returns:
        `[B]`, 0.4 … 2.5.
    """
    border = _border(height, width, radial.device).to(radial.dtype)
    with torch.no_grad():
        s = torch.ones_like(radial[:, 0])
        for _ in range(_STEPS):
            s = (s * _reach(s, radial, border).clamp(0.5, 2) ** _STEP_POWER).clamp(0.4, 2.5)
        higher, lower = (_reach(s + step, radial, border) for step in (_NUDGE, -_NUDGE))
        fall = ((higher - lower) / (2 * _NUDGE)).clamp_max(-_LEAST_FALL)
    return (s - (_reach(s, radial, border) - 1) / fall).clamp(0.4, 2.5)


def _reach(s: Tensor, radial: Tensor, border: Tensor) -> Tensor:
    """`[B]`: the farthest position that the frame's border is read at; 1 is the photo's border."""
    share, square = border
    k1, k2, k3 = radial.unsqueeze(-1).unbind(1)
    r2 = square / s[:, None].square()
    gain = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    farthest: Tensor = (share * gain / s[:, None]).amax(1)
    return farthest


@functools.lru_cache(maxsize=32)
def _border(height: int, width: int, device: torch.device) -> Tensor:
    """`[2, N]`: the larger grid coordinate of each border point, and its squared radius."""
    with torch.inference_mode(False), torch.no_grad():
        half_x, half_y = isotropic_scale(height, width)
        steps = torch.linspace(0, 1, _POINTS, device=device)
        x = torch.cat((steps * half_x, torch.full_like(steps, half_x)))
        y = torch.cat((torch.full_like(steps, half_y), steps * half_y))
        return torch.stack((torch.maximum(x / half_x, y / half_y), x * x + y * y))
