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

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from warp_train.geometry import full_precision, half_diagonal
from warp_train.models.coord_channels import coord_channels

WINDOWS_PX = (2.0, 4.0, 8.0)
"""Standard deviations of the windows in which an edge's direction is taken, in pixels."""
CHANNELS_PER_WINDOW = 6
NUM_LINE_CHANNELS = CHANNELS_PER_WINDOW * len(WINDOWS_PX)

_GRADIENT_SCALE_PX = 1.0
_CLEAR_GRADIENT = 0.02  # luma per px, luma in 0..1: from here on an edge is trusted
_LENS_CURVATURE = 0.5  # in 1 / half diagonal: what strong lenses reach; corners bend far more
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


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
    luma = (image * image.new_tensor(_LUMA).view(1, 3, 1, 1)).sum(1)
    l_x, l_y = _central_differences(_gaussian(luma, _GRADIENT_SCALE_PX, margin=1))
    xx, yy = l_x * l_x, l_y * l_y
    tensor = _halve(torch.stack((xx - yy, 2 * l_x * l_y, xx + yy), dim=1))
    position = _halve(coord_channels(height, width, image.device)[:2])
    radial = position / position.norm(dim=0).clamp_min(1e-3)
    unit = half_diagonal(height, width) / 2
    return torch.cat([_channels(tensor, radial, unit, window / 2) for window in WINDOWS_PX], dim=1)


def _halve(field: Tensor) -> Tensor:
    return F.avg_pool2d(field, 2, ceil_mode=True, count_include_pad=False)


def _channels(tensor: Tensor, radial: Tensor, unit: float, window: float) -> Tensor:
    height, width = tensor.shape[-2:]
    smooth = _gaussian(tensor.flatten(0, 1), window, margin=1)
    smooth = smooth.view(*tensor.shape[:2], height + 2, width + 2)
    (re_x, im_x), (re_y, im_y) = (part[:, :2].unbind(1) for part in _central_differences(smooth))
    re, im, energy = smooth[:, :, 1:-1, 1:-1].unbind(1)
    size = (re * re + im * im).sqrt() + 1e-9
    cos_double, sin_double = re / size, im / size
    # The normal from its double angle; which of the two opposite ones does not matter below.
    normal_x = ((1 + cos_double) / 2).clamp_min(0).sqrt()
    normal_y = torch.copysign(((1 - cos_double) / 2).clamp_min(0).sqrt(), sin_double)
    turn = (re * (im_y * normal_x - im_x * normal_y) - im * (re_y * normal_x - re_x * normal_y)) / (
        2 * size * size
    )
    curvature = -unit * turn
    cosine = normal_x * radial[0] + normal_y * radial[1]
    sine = normal_y * radial[0] - normal_x * radial[1]
    strength = energy.clamp_min(0).sqrt()
    trust = size / (energy + 1e-6) * strength / (strength + _CLEAR_GRADIENT)
    lens_like = trust * curvature / (1 + (curvature / (2 * _LENS_CURVATURE)) ** 2) / _LENS_CURVATURE
    return torch.stack(
        (
            lens_like * cosine,
            lens_like * sine,
            trust * torch.asinh(curvature / _LENS_CURVATURE).abs(),
            trust * (cosine**2 - sine**2),
            trust * 2 * cosine * sine,
            0.5 * torch.log(strength + _CLEAR_GRADIENT / 2) + 1.2,
        ),
        dim=1,
    )


def _central_differences(field: Tensor) -> tuple[Tensor, Tensor]:
    """Derivatives along x and y of `[..., H+2, W+2]`, each `[..., H, W]`, per pixel."""
    across = (field[..., 1:-1, 2:] - field[..., 1:-1, :-2]) / 2
    down = (field[..., 2:, 1:-1] - field[..., :-2, 1:-1]) / 2
    return across, down


def _gaussian(field: Tensor, scale: float, margin: int) -> Tensor:
    """Smoothed `field [N, H, W]` with a margin, `[N, H + 2 margin, W + 2 margin]`.

    Sums of shifted slices: on a CPU a quarter of the time of a one-channel convolution.
    """
    radius = math.ceil(3 * scale)
    weights = [math.exp(-(i**2) / (2 * scale**2)) for i in range(radius + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    smooth = F.pad(field.unsqueeze(1), (radius + margin,) * 4, mode="replicate").squeeze(1)
    for dim in (1, 2):
        padded, length = smooth, smooth.shape[dim] - 2 * radius
        smooth = padded.narrow(dim, radius, length) * (weights[0] / total)
        for i in range(1, radius + 1):
            pair = padded.narrow(dim, radius - i, length) + padded.narrow(dim, radius + i, length)
            smooth.add_(pair, alpha=weights[i] / total)
    return smooth
