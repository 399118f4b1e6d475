"""Residual, fusion, resampling and folds."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from warp_train.geometry import (
    build_parametric_grid,
    end_point_error,
    fuse_grids,
    identity_grid,
    invert_lens,
    isotropic_scale,
    jacobian_determinant,
    jacobian_stats,
    upsample_residual_flow,
    warp_image,
)

IDENTITY = torch.tensor([[0.0, 0, 0, 0, 0, 0, 0, 1]])


@pytest.mark.parametrize("size", [(64, 96), (333, 777), (1, 1), (1, 9), (7, 1), (2, 2)])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("padding_mode", ["border", "zeros", "reflection"])
def test_identity_returns_the_image_bit_for_bit(
    size: tuple[int, int], mode: str, padding_mode: str
) -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 3, *size) ** 12  # nearly black beside white: where a sum would round
    grid = build_parametric_grid(IDENTITY, *size)
    assert torch.equal(warp_image(image, grid, mode, padding_mode), image)


def test_warp_equals_opencv_remap() -> None:
    rng = np.random.default_rng(0)
    height, width = 60, 90
    image = rng.random((height, width), dtype=np.float32)
    # OpenCV may place its samples on a grid of 1/32 px, so ask for such places; some lie outside.
    x = (rng.integers(-10 * 32, (width + 10) * 32, (height, width)) / 32).astype(np.float32)
    y = (rng.integers(-10 * 32, (height + 10) * 32, (height, width)) / 32).astype(np.float32)
    theirs = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    grid = np.stack((x * 2 / (width - 1) - 1, y * 2 / (height - 1) - 1), axis=-1)
    ours = warp_image(torch.from_numpy(image)[None, None], torch.from_numpy(grid)[None])
    np.testing.assert_allclose(ours[0, 0].numpy(), theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_precision_image_is_warped_in_float32(dtype: torch.dtype) -> None:
    image = torch.rand(1, 3, 20, 30).to(dtype)
    grid = 0.9 * identity_grid(20, 30)[None]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        warped = warp_image(image, grid)
    assert warped.dtype == torch.float32
    assert torch.equal(warped, warp_image(image.float(), grid))


def test_warp_gradients() -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 2, 6, 7, dtype=torch.float64, requires_grad=True)
    grid = (identity_grid(6, 7, dtype=torch.float64) * 0.83 + 0.013)[None].requires_grad_()
    assert torch.autograd.gradcheck(warp_image, (image, grid))


def test_unmoved_pixels_keep_the_gradient_of_the_interpolation() -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    grid = identity_grid(4, 5, dtype=torch.float64)[None].clone().requires_grad_()
    weight = torch.rand(1, 2, 4, 5, dtype=torch.float64)
    (weight * warp_image(image, grid)).sum().backward()
    torch.testing.assert_close(image.grad, weight)
    # The slope towards the next pixel on the right; the outermost ones stand still at the border.
    slope = (weight[..., 1:-1] * (image[..., 2:] - image[..., 1:-1])).sum(1).detach()
    assert grid.grad is not None
    torch.testing.assert_close(grid.grad[0, :, 1:-1, 0], slope[0] * (5 - 1) / 2)


def test_one_pixel_of_the_residuals_own_grid() -> None:
    flow = torch.zeros(1, 2, 5, 9)
    flow[:, 0], flow[:, 1] = 1.0, -0.5
    full = upsample_residual_flow(flow, 40, 70)
    assert full.shape == (1, 40, 70, 2)
    torch.testing.assert_close(full[..., 0], torch.full((1, 40, 70), 2 / 8))
    torch.testing.assert_close(full[..., 1], torch.full((1, 40, 70), -0.5 * 2 / 4))
    torch.testing.assert_close(upsample_residual_flow(flow.permute(0, 2, 3, 1), 40, 70), full)


def test_residual_and_fusion_gradients() -> None:
    flow = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f: upsample_residual_flow(f, 6, 7), (flow,))
    grid = torch.randn(1, 3, 4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(fuse_grids, (grid, grid.detach().clone().requires_grad_()))
    assert torch.autograd.gradcheck(jacobian_determinant, (grid,))


def test_end_point_error_of_a_shift_is_its_length_in_pixels() -> None:
    grid = identity_grid(31, 61)[None]
    shift = torch.tensor([3 * 2 / 60, 4 * 2 / 30])
    torch.testing.assert_close(end_point_error(grid + shift, grid), torch.tensor([5.0]))


def test_jacobian_of_zoom_shear_and_fold() -> None:
    grid = identity_grid(20, 30)[None]
    torch.testing.assert_close(jacobian_determinant(grid), torch.ones(1, 19, 29))
    torch.testing.assert_close(jacobian_determinant(0.5 * grid), torch.full((1, 19, 29), 0.25))
    sheared = grid.clone()
    sheared[..., 0] += 0.3 * grid[..., 1]
    torch.testing.assert_close(jacobian_determinant(sheared), torch.ones(1, 19, 29))
    mirrored = grid * torch.tensor([-1.0, 1.0])
    stats = jacobian_stats(mirrored)
    assert stats["negative_det_pct"].item() == 100
    assert stats["det_mean"].item() == pytest.approx(-1, abs=1e-4)


def test_share_of_folded_cells_and_of_pixels_from_outside() -> None:
    grid = identity_grid(11, 21)[None].clone()
    grid[:, :, 10:] = grid[:, :, 10:].flip(2)  # the right half runs backwards
    stats = jacobian_stats(grid)
    # Ten of twenty columns of cells run backwards; the step between the halves stretches.
    assert stats["negative_det_pct"].item() == pytest.approx(50)
    outside = jacobian_stats(identity_grid(11, 21)[None] + torch.tensor([2 * 5 / 20, 0]))
    assert outside["oob_ratio"].item() == pytest.approx(5 / 21)


def test_percentile_is_numpys_lower_one() -> None:
    torch.manual_seed(0)
    grid = identity_grid(40, 50)[None] + 0.02 * torch.randn(1, 40, 50, 2)
    det = jacobian_determinant(grid).flatten().numpy()
    expected = np.percentile(det, 1, method="inverted_cdf")
    assert jacobian_stats(grid)["det_p01"].item() == pytest.approx(expected, rel=1e-3)


def test_determinant_of_a_radial_lens_is_its_closed_form() -> None:
    height, width = 201, 301
    k1, k2, s = -0.2, 0.05, 0.9
    params = torch.tensor([[k1, k2, 0, 0, 0, 0, 0, s]], dtype=torch.float64)
    det = jacobian_determinant(build_parametric_grid(params, height, width))[0]
    scale = torch.tensor(isotropic_scale(height, width), dtype=torch.float64)
    corners = identity_grid(height, width, dtype=torch.float64) * scale
    middle = (corners[:-1, :-1] + corners[1:, 1:]) / 2
    r2 = (middle / s).square().sum(-1)
    stretch = (1 + k1 * r2 + k2 * r2**2) * (1 + 3 * k1 * r2 + 5 * k2 * r2**2) / s**2
    # Differences are taken on two sides of a cell, half a pixel from its middle.
    torch.testing.assert_close(det, stretch, atol=5e-3, rtol=0)


def test_a_training_step_copies_nothing_to_the_host() -> None:
    image = torch.rand(2, 3, 24, 36)
    params = IDENTITY.repeat(2, 1).requires_grad_()
    flow = torch.zeros(2, 2, 3, 4, requires_grad=True)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        residual = upsample_residual_flow(flow, 24, 36)
        grid = fuse_grids(build_parametric_grid(params, 24, 36), residual)
        stats = jacobian_stats(grid.detach())
        error = end_point_error(grid, invert_lens(grid, params, 24, 36))
        (warp_image(image, grid).mean() + error.mean() + stats["det_min"].sum()).backward()
    names = {event.key for event in profile.key_averages()}
    assert "aten::grid_sampler_2d" in names
    assert not names & {"aten::item", "aten::_local_scalar_dense", "aten::nonzero"}


@pytest.mark.parametrize("size", [(5, 9), (32, 47), (1, 6)])
def test_residual_is_interpolated_as_torch_does(size: tuple[int, int]) -> None:
    flow = torch.randn(2, 2, 4, 6, generator=torch.Generator().manual_seed(0))
    theirs = F.interpolate(flow, size, mode="bilinear", align_corners=True)
    unit = torch.tensor((2 / 5, 2 / 3))
    ours = upsample_residual_flow(flow, *size)
    torch.testing.assert_close(ours, theirs.permute(0, 2, 3, 1) * unit, atol=1e-6, rtol=0)


@pytest.mark.parametrize("padding_mode", ["border", "zeros", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest"])
def test_warp_is_torchs_grid_sample(mode: str, padding_mode: str) -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, 9, 11, generator=generator)
    grid = (2.6 * torch.rand(2, 7, 8, 2, generator=generator) - 1.3).requires_grad_()
    expected = F.grid_sample(image, grid, mode, padding_mode, align_corners=True)
    (slope,) = torch.autograd.grad(expected.square().sum(), grid)
    warped = warp_image(image, grid, mode, padding_mode)
    assert torch.equal(warped, expected)
    assert torch.equal(torch.autograd.grad(warped.square().sum(), grid)[0], slope)


def test_a_grid_that_is_not_finite_spoils_its_own_pixels_alone() -> None:
    image = torch.rand(1, 3, 8, 9, generator=torch.Generator().manual_seed(0))
    grid = (0.9 * identity_grid(8, 9))[None].clone()
    exact = warp_image(image, grid)
    for pixel, value in enumerate((torch.nan, torch.inf, -torch.inf)):
        grid[0, 2, pixel, pixel % 2] = value
    grid.requires_grad_()
    warped = warp_image(image, grid)
    spoilt = warped.isnan().all(1)[0]
    assert spoilt.nonzero().tolist() == [[2, 0], [2, 1], [2, 2]]
    assert torch.equal(warped[..., ~spoilt], exact[..., ~spoilt])
    warped[..., ~spoilt].sum().backward()
    assert grid.grad is not None
    assert grid.grad.isfinite().all()
