"""Line channels: curvature and direction of edges against the closed form of a bent line."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from warp_train.geometry import half_diagonal, identity_grid, invert_lens, isotropic_scale
from warp_train.models.line_channels import (
    CHANNELS_PER_WINDOW,
    NUM_LINE_CHANNELS,
    WINDOWS_PX,
    line_channels,
)


def bent_edge(k1: float, angle: float, distance: float, size: tuple[int, int]) -> Tensor:
    """A straight edge at `distance` half diagonals from the centre, as a lens of `k1` bends it."""
    params = torch.tensor([[k1, 0, 0, 0, 0, 0, 0, 1.0]])
    straight = invert_lens(identity_grid(*size)[None], params, *size)[0]
    position = straight * straight.new_tensor(isotropic_scale(*size))
    normal = position.new_tensor((torch.tensor(angle).cos(), torch.tensor(angle).sin()))
    offset = (position @ normal - distance) * half_diagonal(*size)
    # Where a strong barrel lens shows nothing of the plane there is no point to invert.
    shade = torch.sigmoid(2 * offset).nan_to_num(0.5)
    return shade[None, None].expand(1, 3, -1, -1)


def bent_edge_at(
    k1: float, angle: float, distance: float, along: float
) -> tuple[np.ndarray, np.ndarray]:
    """Position and curvature vector of that edge, `along` it; both in half diagonals.

    The lens carries the straight line `p(t) = distance·n + t·m` to `q = p (1 + k1 |p|²)`.
    """
    normal = np.array([math.cos(angle), math.sin(angle)])
    tangent = np.array([-math.sin(angle), math.cos(angle)])

    def q(t: float) -> np.ndarray:
        p = distance * normal + t * tangent
        return p * (1 + k1 * (p @ p))

    step = 1e-3
    speed = (q(along + step) - q(along - step)) / (2 * step)
    pace = (q(along + step) - 2 * q(along) + q(along - step)) / step**2
    unit = speed / np.hypot(*speed)
    return q(along), (pace - (pace @ unit) * unit) / (speed @ speed)


# The narrower the window, the more the pixel grid shows in it: on straight lines, too.
@pytest.mark.parametrize(
    ("window", "relative", "absolute"), [(2.0, 0.3, 0.01), (4.0, 0.15, 0.001), (8.0, 0.12, 0.001)]
)
@pytest.mark.parametrize(("distance", "along"), [(0.15, 0.0), (0.3, 0.0), (0.3, 0.2), (0.4, -0.15)])
@pytest.mark.parametrize("angle", [0.0, 0.6, 1.57, 2.5, 4.0])
@pytest.mark.parametrize("k1", [-0.25, -0.1, 0.1, 0.25])
def test_lines_curve_as_the_lens_says(
    k1: float,
    angle: float,
    distance: float,
    along: float,
    window: float,
    relative: float,
    absolute: float,
) -> None:
    size = (240, 300)
    place, curvature = bent_edge_at(k1, angle, distance, along)
    if along == 0:
        assert np.hypot(*curvature) == pytest.approx(abs(2 * k1 * distance), rel=0.12)
    column, row = (place * half_diagonal(*size) + ((size[1] - 1) / 2, (size[0] - 1) / 2)) / 2
    here = line_channels(bent_edge(k1, angle, distance, size))[0, :, round(row), round(column)]
    seen = here[WINDOWS_PX.index(window) * CHANNELS_PER_WINDOW :].numpy()
    trust = np.hypot(seen[3], seen[4])  # by which all but strength is faded
    radial = place / np.hypot(*place)
    expected = np.array([curvature @ radial, curvature[1] * radial[0] - curvature[0] * radial[1]])
    measured = seen[:2] / trust * 0.5  # the channels count in halves of 1 / half diagonal
    assert np.hypot(*(measured - expected)) < relative * np.hypot(*curvature) + absolute


@pytest.mark.parametrize(("window", "absolute"), [(2.0, 0.01), (4.0, 0.001), (8.0, 0.001)])
@pytest.mark.parametrize("distance", [0.0, 0.1, 0.25])
@pytest.mark.parametrize("angle", [0.0, 0.6, 1.57, 2.5, 4.0])
def test_straight_lines_have_no_curvature(
    angle: float, distance: float, window: float, absolute: float
) -> None:
    size = (160, 200)
    image = bent_edge(0.0, angle, distance, size)
    on_edge = F.avg_pool2d((image[:, :1] - 0.5).abs(), 2)[0, 0] < 0.45
    on_edge[:20], on_edge[-20:], on_edge[:, :20], on_edge[:, -20:] = False, False, False, False
    channels = line_channels(image)[0].unflatten(0, (-1, CHANNELS_PER_WINDOW))
    seen = channels[WINDOWS_PX.index(window), :2, on_edge]
    assert on_edge.sum() > 20
    assert seen.abs().max().item() * 0.5 < absolute


def test_line_channels_do_not_care_which_side_is_darker() -> None:
    image = bent_edge(-0.2, 0.7, 0.4, (96, 128))
    torch.testing.assert_close(line_channels(1 - image), line_channels(image), atol=2e-3, rtol=0)


def test_a_quarter_turn_turns_the_picture_alone() -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 3, 64, 96)
    turned = line_channels(image.rot90(1, (-2, -1))).rot90(-1, (-2, -1))
    torch.testing.assert_close(turned, line_channels(image), atol=1e-3, rtol=1e-3)


def test_a_mirror_turns_the_channels_across_the_radius() -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 3, 64, 96)
    plain, mirrored = line_channels(image), line_channels(image.flip(-1)).flip(-1)
    signs = torch.ones(NUM_LINE_CHANNELS)
    signs[1::CHANNELS_PER_WINDOW] = -1  # curvature across the radius
    signs[4::CHANNELS_PER_WINDOW] = -1  # sine of twice the angle
    torch.testing.assert_close(mirrored, plain * signs.view(1, -1, 1, 1), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3), (33, 47)])
@pytest.mark.parametrize("fill", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_line_channels_are_finite_and_still_where_nothing_is(
    size: tuple[int, int], fill: float, dtype: torch.dtype
) -> None:
    channels = line_channels(torch.full((1, 3, *size), fill, dtype=dtype))
    assert channels.dtype == torch.float32
    assert channels.shape[-2:] == ((size[0] + 1) // 2, (size[1] + 1) // 2)
    assert torch.isfinite(channels).all()
    still = channels.unflatten(1, (-1, CHANNELS_PER_WINDOW))[:, :, :5]
    assert still.abs().max() < 1e-3
