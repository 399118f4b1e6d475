"""The zoom at which a corrected frame is just filled by the photo."""

import functools

import torch
from torch import Tensor

from warp_train.geometry.coordinates import full_precision, isotropic_scale

_POINTS = 24  # along each side of a quarter of the border; the others mirror it
_STEPS = 14
_STEP_POWER = 0.8  # below 1: reach falls faster than 1 / s where a lens pulls corners in
_NUDGE = 1e-3
_LEAST_FALL = 0.2  # of reach by s; nearly flat curves belong to lenses that nearly fold


@full_precision
def covering_zoom(radial: Tensor, height: int, width: int) -> Tensor:
    """The `s` of a centred radial lens whose frame reads up to the photo's border and no further.

    Differentiable in `radial`, by the implicit function theorem; 1 exactly for the identity.

    Args:
        radial: `[B, 3]`: k1, k2, k3.
        height, width: of the frame, in pixels.

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
    """How far out the frame's border reads, `[B]`; 1 is exactly the photo's border."""
    share, square = border
    k1, k2, k3 = radial.unsqueeze(-1).unbind(1)
    r2 = square / s[:, None].square()
    gain = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    farthest: Tensor = (share * gain / s[:, None]).amax(1)
    return farthest


@functools.lru_cache(maxsize=32)
def _border(height: int, width: int, device: torch.device) -> Tensor:
    """`[2, N]`: how far along its side's normal each border point lies, and its squared radius."""
    with torch.inference_mode(False), torch.no_grad():
        half_x, half_y = isotropic_scale(height, width)
        steps = torch.linspace(0, 1, _POINTS, device=device)
        x = torch.cat((steps * half_x, torch.full_like(steps, half_x)))
        y = torch.cat((torch.full_like(steps, half_y), steps * half_y))
        return torch.stack((torch.maximum(x / half_x, y / half_y), x * x + y * y))
