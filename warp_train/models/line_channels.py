"""How edges bend, seen from the centre: what a lens does to straight lines, as channels.

A lens bends a straight edge by an amount that depends on its distance from the centre, its angle to
the radius and the lens alone: to first order in `k1`, an edge at signed distance `d` from the
centre gets the curvature `2 k1 d` along its normal. That is a turn of a degree over the length of a
hand's breadth in the picture; these channels hand it to the network at every pixel.

The edges' direction is the structure tensor's in double angle, `z = Σ (L_x + i L_y)²` over a
Gaussian window (Bigün and Granlund, 1987), and their curvature is how fast that direction turns
along the edge, `½ arg z` differentiated along the tangent. Beside the isophote curvature, which is
made of second derivatives at one point, this averages along the edge before it compares.
"""

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from warp_train.geometry import full_precision, half_diagonal, luma
from warp_train.models.coord_channels import coord_channels

WINDOWS_PX = (2.0, 4.0, 8.0)
"""Standard deviations of the windows in which an edge's direction is taken, in pixels."""
CHANNELS_PER_WINDOW = 6
NUM_LINE_CHANNELS = CHANNELS_PER_WINDOW * len(WINDOWS_PX)

_GRADIENT_SCALE_PX = 1.0
_CLEAR_GRADIENT = 0.02  # luma per px, luma in 0..1: from here on an edge is trusted
_LENS_CURVATURE = 0.5  # in 1 / half diagonal: what strong lenses reach; corners bend far more


@torch.no_grad()
@full_precision
def line_channels(image: Tensor) -> Tensor:
    """Bending, direction and strength of the edges of a photo `[B, 3, H, W]` in 0..1.

    For each window of `WINDOWS_PX` six channels, `[B, 18, ⌈H/2⌉, ⌈W/2⌉]` float32 in all, at half
    the photo's resolution, since the windows blur anyway: the edge's curvature along the radius and
    across it (in 1 / half diagonal, faded out beyond what lenses do, signed so that it points to
    the inside of the bend whichever side is darker), the curvature's size on a logarithmic scale,
    cosine and sine of twice the angle between the edge's normal and the radius, and the logarithm
    of the edge's strength. The first five fade where there is no edge, or more than one.
    """
    height, width = image.shape[-2:]
    brightness = luma(image).squeeze(1)
    l_x, l_y = central_differences(gaussian(brightness, (_GRADIENT_SCALE_PX,), margin=1).squeeze(1))
    xx, yy = l_x * l_x, l_y * l_y
    tensor = _halve(torch.stack((xx - yy, 2 * l_x * l_y, xx + yy), dim=1))
    unit = half_diagonal(height, width) / 2
    # All windows at once, `[B, 3, windows, h, w]`: these are many small operations, whose number
    # costs more than their arithmetic.
    windows = tuple(window / 2 for window in WINDOWS_PX)
    smooth = gaussian(tensor.flatten(0, 1), windows, margin=1)
    smooth = smooth.view(*tensor.shape[:2], *smooth.shape[1:])
    radial = _radial(height, width, image.device)
    return _channels(smooth, radial, unit).transpose(1, 2).flatten(1, 2)


def _halve(field: Tensor) -> Tensor:
    return F.avg_pool2d(field, 2, ceil_mode=True, count_include_pad=False)


@functools.lru_cache(maxsize=32)
def _radial(height: int, width: int, device: torch.device) -> Tensor:
    """Unit vectors away from the centre at half the resolution, `[2, h, w]`."""
    position = _halve(coord_channels(height, width, device)[:2])
    away: Tensor = position / position.norm(dim=0).clamp_min(1e-3)
    return away


def _channels(smooth: Tensor, radial: Tensor, unit: float) -> Tensor:
    """`[B, 6, windows, h, w]` of the windowed tensor `[B, 3, windows, h + 2, w + 2]`.

    The edge's normal `n` has twice the angle of `z`, so that `n nᵀ` is linear in
    `(cos 2θ, sin 2θ) = z / |z|`; the direction turns by `(a n_x - b n_y) / 2` a pixel along the
    edge, where `a` and `b` are the derivatives of `arg z` along y and x. Which of the two opposite
    normals is meant never matters.
    """
    (re_x, im_x), (re_y, im_y) = (part.unbind(1) for part in central_differences(smooth[:, :2]))
    re, im, energy = smooth[..., 1:-1, 1:-1].unbind(1)
    r_x, r_y = radial
    size = torch.hypot(re, im) + 1e-9
    cos_double, sin_double = re / size, im / size
    a = (cos_double * im_y - sin_double * re_y) / size
    b = (cos_double * im_x - sin_double * re_x) / size
    # Twice `n nᵀ`, times the radius and the direction across it.
    n_xx, n_yy = 1 + cos_double, 1 - cos_double
    along = a * (r_x * n_xx + r_y * sin_double) - b * (r_x * sin_double + r_y * n_yy)
    across = a * (r_x * sin_double - r_y * n_xx) - b * (r_x * n_yy - r_y * sin_double)
    along, across = along * (-unit / 4), across * (-unit / 4)
    curvature = torch.hypot(along, across)
    strength = energy.clamp_min(0).sqrt()
    trust = size / (energy + 1e-6) * strength / (strength + _CLEAR_GRADIENT)
    lens_like = trust / (_LENS_CURVATURE + curvature.square() / (4 * _LENS_CURVATURE))
    return torch.stack(
        (
            lens_like * along,
            lens_like * across,
            trust * torch.asinh(curvature / _LENS_CURVATURE),
            trust * (cos_double * (r_x**2 - r_y**2) + sin_double * (2 * r_x * r_y)),
            trust * (sin_double * (r_x**2 - r_y**2) - cos_double * (2 * r_x * r_y)),
            0.5 * torch.log(strength + _CLEAR_GRADIENT / 2) + 1.2,
        ),
        dim=1,
    )


def central_differences(field: Tensor) -> tuple[Tensor, Tensor]:
    """Derivatives along x and y of `[..., H+2, W+2]`, each `[..., H, W]`, per pixel."""
    across = (field[..., 1:-1, 2:] - field[..., 1:-1, :-2]) / 2
    down = (field[..., 2:, 1:-1] - field[..., :-2, 1:-1]) / 2
    return across, down


def gaussian(field: Tensor, scales: tuple[float, ...], margin: int) -> Tensor:
    """`field [N, H, W]` smoothed at each scale, `[N, scales, H + 2 margin, W + 2 margin]`.

    As two matrix products: at the input sizes of networks, several times faster on a CPU than a
    one-channel convolution or a sum of shifted copies.
    """
    like = (field.device, field.dtype)
    across = torch.stack([_smoothing(field.shape[2], scale, margin, *like) for scale in scales])
    down = torch.stack([_smoothing(field.shape[1], scale, margin, *like) for scale in scales])
    return down @ (field.unsqueeze(1) @ across.transpose(1, 2))


@functools.lru_cache(maxsize=32)
def _smoothing(
    length: int, scale: float, margin: int, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """A Gaussian along one axis, `[length + 2 margin, length]`; the ends are repeated outside."""
    taps = torch.arange(-math.ceil(3 * scale), math.ceil(3 * scale) + 1)
    weights = torch.exp(-(taps.double() ** 2) / (2 * scale**2))
    sources = (torch.arange(-margin, length + margin)[:, None] + taps).clamp(0, length - 1)
    matrix = torch.zeros(len(sources), length, dtype=torch.float64)
    matrix.scatter_add_(1, sources, (weights / weights.sum()).expand(sources.shape))
    return matrix.to(device, dtype)
