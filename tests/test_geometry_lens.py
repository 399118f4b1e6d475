"""The lens grid against OpenCV, and its derivatives against finite differences."""

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from warp_train.geometry import (
    apply_lens,
    build_parametric_grid,
    grid_to_pixels,
    half_diagonal,
    identity_grid,
    invert_lens,
    isotropic_scale,
    rescale_params,
)

FRAMES = [(128, 192), (240, 160), (150, 150), (1080, 1920)]
BOUNDS = (0.8, 0.8, 0.5, 0.02, 0.02, 0.08, 0.08, 0.4)


def random_params(count: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Lenses from all over the range that the model's default bounds allow."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(-1, 1, (count, 8)) * BOUNDS
    values[:, 7] += 1
    return torch.tensor(values, dtype=dtype)


def camera(fx: float, fy: float, centre: tuple[float, float]) -> np.ndarray:
    return np.array([[fx, 0, centre[0]], [0, fy, centre[1]], [0, 0, 1]])


def opencv_camera(params: Tensor, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Camera matrix and distortion coefficients of the lens: focal length D/2."""
    k1, k2, k3, p1, p2, dcx, dcy, _ = params.double().tolist()
    focal = np.hypot(width - 1, height - 1) / 2
    centre = (width - 1) / 2 + dcx * focal, (height - 1) / 2 + dcy * focal
    return camera(focal, focal, centre), np.array([k1, k2, p1, p2, k3])


def corrected_camera(lens_camera: np.ndarray, s: float, aspect: float = 1.0) -> np.ndarray:
    """Camera matrix of the corrected frame: focal length s·D/2 about the same centre."""
    focal = lens_camera[0, 0]
    return camera(s * focal, s * aspect * focal, (lens_camera[0, 2], lens_camera[1, 2]))


def opencv_map(params: Tensor, height: int, width: int, aspect: float = 1.0) -> np.ndarray:
    lens, coefficients = opencv_camera(params, height, width)
    corrected = corrected_camera(lens, params[7].item(), aspect)
    x, y = cv2.initUndistortRectifyMap(
        lens, coefficients, None, corrected, (width, height), cv2.CV_32FC1
    )
    return np.stack((x, y), axis=-1)


@pytest.mark.parametrize(("height", "width"), FRAMES)
def test_grid_equals_opencv_to_a_thousandth_of_a_pixel(height: int, width: int) -> None:
    for params in random_params(200 if height < 1000 else 6):
        theirs = opencv_map(params, height, width)
        exact = build_parametric_grid(params[None].double(), height, width)
        ours = grid_to_pixels(exact, height, width)[0].numpy()
        np.testing.assert_allclose(ours, theirs, atol=1e-3, rtol=0)
        # A wild lens reads thousands of pixels away, where float32 has no thousandth to give, and
        # gets the border in any case.
        inside = (theirs >= 0).all(-1) & (theirs <= (width - 1, height - 1)).all(-1)
        single = build_parametric_grid(params[None], height, width)
        ours = grid_to_pixels(single, height, width)[0].numpy()
        np.testing.assert_allclose(ours[inside], theirs[inside], atol=1e-3, rtol=0)


def test_aspect_is_the_vertical_focal_length_of_the_corrected_frame() -> None:
    params = random_params(1)[0]
    nine = torch.cat((params, torch.tensor([1.2])))[None]
    ours = grid_to_pixels(build_parametric_grid(nine, 90, 140), 90, 140)[0].numpy()
    theirs = opencv_map(params, 90, 140, aspect=1.2)
    np.testing.assert_allclose(ours, theirs, atol=1e-3, rtol=0)
    torch.testing.assert_close(
        build_parametric_grid(torch.cat((params, torch.ones(1)))[None], 90, 140),
        build_parametric_grid(params[None], 90, 140),
        atol=0,
        rtol=0,
    )


def test_a_circle_stays_a_circle_on_a_frame_that_is_not_square() -> None:
    height, width = 101, 301
    params = torch.tensor([[-0.3, 0.1, 0.0, 0, 0, 0, 0, 1.0]], dtype=torch.float64)
    angle = torch.linspace(0, 2 * torch.pi, 60, dtype=torch.float64)
    circle = 0.3 * torch.stack((angle.cos(), angle.sin()), dim=-1)
    scale = circle.new_tensor(isotropic_scale(height, width))
    bent = apply_lens((circle / scale)[None], params, height, width)[0] * scale
    radius = bent.norm(dim=-1)
    assert (radius.max() - radius.min()).item() < 1e-12
    assert radius[0].item() == pytest.approx(0.3 * (1 - 0.3 * 0.09 + 0.1 * 0.0081))


def moderate_params(count: int, seed: int) -> Tensor:
    """Lenses without folds, in float64."""
    params = random_params(count, seed, torch.float64) * 0.25
    params[:, 7] += 0.75
    return params


def test_inverse_undoes_the_lens() -> None:
    params = moderate_params(20, seed=0)
    points = identity_grid(17, 25, dtype=torch.float64).expand(20, -1, -1, -1)
    there = apply_lens(points, params, 128, 192)
    torch.testing.assert_close(invert_lens(there, params, 128, 192), points, atol=1e-9, rtol=0)


def test_inverse_equals_opencv() -> None:
    height, width = 128, 192
    nodes = identity_grid(9, 13, dtype=torch.float64).reshape(1, -1, 2)
    stop = (cv2.TERM_CRITERIA_MAX_ITER + cv2.TERM_CRITERIA_EPS, 500, 1e-12)
    for params in moderate_params(20, seed=1):
        lens, coefficients = opencv_camera(params, height, width)
        corrected = corrected_camera(lens, params[7].item())
        photo = apply_lens(nodes, params[None], height, width)  # places that the lens does reach
        pixels = grid_to_pixels(photo, height, width)[0].numpy()
        theirs = cv2.undistortPoints(
            pixels[:, None], lens, coefficients, P=corrected, criteria=stop
        )
        ours = grid_to_pixels(invert_lens(photo, params[None], height, width), height, width)
        np.testing.assert_allclose(ours[0].numpy(), theirs[:, 0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("function", [apply_lens, invert_lens])
def test_lens_gradients(function: object) -> None:
    torch.manual_seed(3)
    params = moderate_params(2, seed=3).requires_grad_()
    points = (torch.rand(2, 5, 2, dtype=torch.float64) * 1.6 - 0.8).requires_grad_()
    assert torch.autograd.gradcheck(lambda q, p: function(q, p, 64, 96), (points, params))  # type: ignore[operator]


def test_parametric_grid_gradient() -> None:
    eight = random_params(2, seed=4, dtype=torch.float64)
    nine = torch.cat((eight, torch.tensor([[0.9], [1.2]])), dim=1)
    for params in (eight, nine):
        assert torch.autograd.gradcheck(
            lambda p: build_parametric_grid(p, 5, 7), (params.requires_grad_(),)
        )


def test_a_crop_keeps_the_lens_in_pixels() -> None:
    height, width, top, left = 121, 201, 20, 30
    params = random_params(1, seed=5, dtype=torch.float64)
    whole = grid_to_pixels(build_parametric_grid(params, height, width), height, width)
    inner_height, inner_width = height - 2 * top, width - 2 * left
    ratio = half_diagonal(inner_height, inner_width) / half_diagonal(height, width)
    inner = build_parametric_grid(rescale_params(params, ratio), inner_height, inner_width)
    pixels = grid_to_pixels(inner, inner_height, inner_width) + torch.tensor([left, top])
    torch.testing.assert_close(pixels, whole[:, top:-top, left:-left], atol=1e-9, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("half_params", [False, True], ids=["float32 lens", "half lens"])
def test_autocast_does_not_round_coordinates(dtype: torch.dtype, half_params: bool) -> None:
    height, width = 1365, 2048
    params = moderate_params(1, seed=6).to(dtype if half_params else torch.float32)
    with torch.autocast("cpu", dtype=dtype):
        grid = build_parametric_grid(params, height, width)
    assert grid.dtype == torch.float32
    exact = build_parametric_grid(params.double(), height, width)
    error = grid_to_pixels(grid.double(), height, width) - grid_to_pixels(exact, height, width)
    assert error.abs().max().item() < 1e-3


def test_identity_grid_made_in_inference_mode_can_be_trained_with() -> None:
    identity_grid.cache_clear()
    with torch.inference_mode():
        identity_grid(6, 7)
    params = torch.tensor([[0.1, 0, 0, 0, 0, 0, 0, 1.0]], requires_grad=True)
    build_parametric_grid(params, 6, 7).sum().backward()
    assert params.grad is not None


def test_a_cached_identity_grid_is_not_an_inference_tensor_of_another_call() -> None:
    identity_grid.cache_clear()
    with torch.inference_mode():
        kept = identity_grid(5, 8)
    assert identity_grid(5, 8) is kept
    assert not kept.is_inference()
    assert kept[0, 0].tolist() == [-1, -1]
    assert kept[-1, -1].tolist() == [1, 1]
    assert kept[2, 0].tolist() == [-1, 0]
    assert identity_grid(1, 1).tolist() == [[[0, 0]]]


@pytest.mark.parametrize("size", [(40, 61), (2, 3), (1, 5), (300, 200)])
def test_a_grid_is_the_lens_at_every_pixel(size: tuple[int, int]) -> None:
    """The grid comes from 8 × 8 points of the lens, which is a polynomial."""
    params = torch.cat((moderate_params(4, seed=5), torch.full((4, 1), 1.1)), dim=1)
    pixels = identity_grid(*size, dtype=torch.float64).expand(4, -1, -1, -1)
    for lens in (params, params[:, :8]):
        expected = apply_lens(pixels, lens, *size)
        torch.testing.assert_close(build_parametric_grid(lens, *size), expected, atol=1e-12, rtol=0)
        single = build_parametric_grid(lens.float(), *size).double()
        torch.testing.assert_close(single, expected, atol=2e-6, rtol=0)
