"""Image terms against closed forms, OpenCV and the papers' own formulas."""

import math
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from warp_train.geometry import build_parametric_grid, luma, warp_image
from warp_train.losses import (
    LossConfig,
    charbonnier,
    edge_loss,
    gradient_field,
    gradient_orientation_loss,
    l1,
    line_orientation_loss,
    pyramid,
    ssim_loss,
)
from warp_train.losses.composite import CompositeLoss
from warp_train.losses.scales import halve, patch_mean

IMAGE_TERMS = ("pixel", "ssim", "edge", "line", "grad_orient")


def ramp(degrees: float, slope: float, height: int = 24, width: int = 32) -> Tensor:
    """A plane whose gradient is `slope` in the given direction, everywhere."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float64),
        torch.arange(width, dtype=torch.float64),
        indexing="ij",
    )
    angle = math.radians(degrees)
    return (slope * (x * math.cos(angle) + y * math.sin(angle)))[None, None]


def stripes(degrees: float, period: float = 24) -> Tensor:
    return 0.5 + 0.4 * torch.sin(ramp(degrees, 2 * math.pi / period, 96, 96))


def checkerboard(height: int = 128, width: int = 192, cell: int = 32) -> Tensor:
    rows, columns = np.indices((height, width)) // cell
    board = cv2.GaussianBlur(((rows + columns) % 2).astype(np.float32), (0, 0), 1.0)
    return torch.from_numpy(board).expand(1, 3, -1, -1).contiguous()


def image_terms(prediction: Tensor, target: Tensor) -> dict[str, float]:
    _, terms = CompositeLoss(LossConfig())(prediction, target, final_grid=None)
    return {name: float(value) for name, value in terms.items()}


def test_sobel_equals_opencv() -> None:
    image = np.random.default_rng(0).random((23, 30))
    field = gradient_field(torch.from_numpy(image)[None, None])
    for ours, (dx, dy) in ((field.gx, (1, 0)), (field.gy, (0, 1))):
        theirs = cv2.Sobel(image, cv2.CV_64F, dx, dy, ksize=3, scale=1 / 8)[1:-1, 1:-1]
        np.testing.assert_allclose(ours[0, 0].numpy(), theirs, atol=1e-14)


def test_luma_equals_opencv() -> None:
    image = np.random.default_rng(1).random((9, 7, 3), dtype=np.float32)
    ours = luma(torch.from_numpy(image).permute(2, 0, 1)[None])
    np.testing.assert_allclose(ours[0, 0], cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), atol=1e-6)


def test_pyramid_halves_by_averages_and_stops_at_small_sides() -> None:
    image = torch.rand(2, 1, 64, 48)
    levels = pyramid(image, 8)
    assert [tuple(level.shape[-2:]) for level in levels] == [(64, 48), (32, 24)]
    area = cv2.resize(image[1, 0].numpy(), (24, 32), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(levels[1][1, 0], area, atol=1e-6)
    assert len(pyramid(torch.rand(1, 1, 1, 500), 3)) == 1


def test_pixel_closed_forms() -> None:
    difference = torch.tensor([-3e-3, 3e-3], dtype=torch.float64)
    assert float(l1(difference)) == pytest.approx(3e-3)
    # A 3-4-5 triangle: sqrt(3² + 4²) - 4.
    assert float(charbonnier(difference, epsilon=4e-3)) == pytest.approx(1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_raised_before_anything_is_added_up(dtype: torch.dtype) -> None:
    image = torch.rand(1, 1, 40, 40).to(dtype)
    for term in (l1, charbonnier, lambda x: ssim_loss(x, x.flip(-1), 8)):
        assert torch.equal(term(image), term(image.float()))
    field, exact = gradient_field(image), gradient_field(image.float())
    assert torch.equal(field.gx, exact.gx)
    assert torch.equal(field.gy, exact.gy)


def ssim_of_patch(x: np.ndarray, y: np.ndarray) -> float:
    """Wang et al. 2004, eq. 13."""
    c1, c2 = 0.01**2, 0.03**2
    covariance = np.mean((x - x.mean()) * (y - y.mean()))
    return float(
        (2 * x.mean() * y.mean() + c1)
        * (2 * covariance + c2)
        / ((x.mean() ** 2 + y.mean() ** 2 + c1) * (x.var() + y.var() + c2))
    )


@pytest.mark.parametrize("window", [2, 8, 12])
def test_ssim_equals_the_papers_formula_patch_by_patch(window: int) -> None:
    rng = np.random.default_rng(2)
    x, y = rng.random((2, 24, 36)), rng.random((2, 24, 36))
    y = 0.6 * x + 0.4 * y
    scores = [
        ssim_of_patch(
            x[n, top : top + window, left : left + window],
            y[n, top : top + window, left : left + window],
        )
        for n in range(2)
        for top in range(0, 24 - window + 1, window // 2)
        for left in range(0, 36 - window + 1, window // 2)
    ]
    loss = ssim_loss(torch.from_numpy(x)[:, None], torch.from_numpy(y)[:, None], window)
    assert float(loss) == pytest.approx(1 - np.mean(scores), abs=1e-12)


def test_ssim_of_a_frame_smaller_than_a_patch_is_that_of_the_frame() -> None:
    x, y = np.random.default_rng(3).random((2, 5, 3))
    loss = ssim_loss(torch.from_numpy(x)[None, None], torch.from_numpy(y)[None, None], 16)
    assert float(loss) == pytest.approx(1 - ssim_of_patch(x, y), abs=1e-12)


def test_edge_loss_is_the_difference_of_slopes_whatever_the_direction() -> None:
    fields = gradient_field(ramp(20, 30.0)), gradient_field(ramp(75, 50.0))
    assert float(edge_loss(*fields)) == pytest.approx(20, abs=1e-6)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (10, 40), (30, 75), (0, 90), (20, 200)])
def test_orientation_losses_of_planes_are_the_squared_sine(first: float, second: float) -> None:
    # Steep planes, so that the floors, which are absolute, do not count.
    x, y = (gradient_field(ramp(angle, 1000.0)) for angle in (first, second))
    expected = math.sin(math.radians(first - second)) ** 2
    assert float(gradient_orientation_loss(x, y)) == pytest.approx(expected, abs=2e-6)
    assert float(line_orientation_loss(x, y, 8)) == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("angle", [0, 17, 45, 90])
def test_orientation_losses_do_not_see_a_change_of_contrast_sign(angle: float) -> None:
    x, flipped = gradient_field(stripes(angle)), gradient_field(1 - stripes(angle))
    assert float(gradient_orientation_loss(flipped, x)) == pytest.approx(0, abs=1e-9)
    assert float(line_orientation_loss(flipped, x, 8)) == pytest.approx(0, abs=1e-9)


def test_line_loss_grows_with_the_angle_between_stripes() -> None:
    target = gradient_field(stripes(20))
    losses = [
        float(line_orientation_loss(gradient_field(stripes(20 + turn)), target, 8))
        for turn in (0, 5, 15, 30, 60, 90)
    ]
    assert losses[0] == 0
    assert losses == sorted(losses)
    assert len(set(losses)) == len(losses)


def test_line_loss_listens_to_lines_rather_than_to_noise() -> None:
    """Beside equally strong noise, turned stripes cost nearly what they cost alone."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(1, 1, 96, 96, generator=generator, dtype=torch.float64)
    strength = gradient_field(stripes(0)).energy.mean() / gradient_field(noise).energy.mean()
    noise = noise * strength.sqrt()

    def loss_of_turning(beside: list[Tensor]) -> float:
        turned, target = (torch.cat([stripes(angle), *beside], -1) for angle in (60, 0))
        return float(line_orientation_loss(gradient_field(turned), gradient_field(target), 16))

    assert loss_of_turning([noise]) > 0.75 * loss_of_turning([])


@pytest.mark.parametrize("sign", [-1, 1])
def test_every_image_term_grows_with_the_distortion(sign: int) -> None:
    board = checkerboard()
    series = []
    for k1 in (0.0, 0.01, 0.02, 0.04, 0.08):
        params = torch.tensor([[sign * k1, 0, 0, 0, 0, 0, 0, 1.0]])
        bent = warp_image(board, build_parametric_grid(params, 128, 192))
        series.append(image_terms(bent, board))
    for term in IMAGE_TERMS:
        values = [terms[term] for terms in series]
        assert values[0] == pytest.approx(0, abs=2e-5), term
        assert all(a < b for a, b in pairwise(values)), (term, values)


def test_identical_images_cost_nothing() -> None:
    image = torch.rand(2, 3, 70, 90)
    assert image_terms(image, image) == pytest.approx(dict.fromkeys(IMAGE_TERMS, 0.0), abs=1e-6)


@pytest.mark.parametrize("size", [(8, 10), (9, 7), (2, 3)])
def test_halving_is_torchs_pooling(size: tuple[int, int]) -> None:
    image = torch.rand(2, 3, *size, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(halve(image), F.avg_pool2d(image, 2))
    assert torch.autograd.gradcheck(halve, (image,))


@pytest.mark.parametrize("size", [(16, 24), (17, 23), (3, 30), (2, 2)])
def test_patches_are_averaged_and_overlap_by_half(size: tuple[int, int]) -> None:
    image = torch.rand(2, 1, *size, dtype=torch.float64, requires_grad=True)
    means = patch_mean(image, 8)
    rows, columns = size[0] // 4 - 1, size[1] // 4 - 1
    if rows > 0 and columns > 0:  # the patches that are whole
        whole = F.avg_pool2d(image, 8, stride=4)
        torch.testing.assert_close(means[..., :rows, :columns], whole)
    else:
        torch.testing.assert_close(means[..., :1, :1], image[..., :8, :8].mean((2, 3), True))
    assert torch.autograd.gradcheck(lambda x: patch_mean(x, 8), (image,))


def test_gradients_of_what_the_orientations_are_made_of() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.rand(2, 2, 1, 6, 7, generator=generator, dtype=torch.float64)
    first.requires_grad_()
    target = gradient_field(second)

    def parts(image: Tensor) -> tuple[Tensor, ...]:
        field = gradient_field(image)
        return field.gx, field.gy, *field.double_angle

    assert torch.autograd.gradcheck(parts, (first,))
    for loss in (edge_loss, gradient_orientation_loss):
        assert torch.autograd.gradcheck(lambda x, f=loss: f(gradient_field(x), target), (first,))
