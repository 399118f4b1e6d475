"""The compiled code for edges equals its reference, which runs here with twice the digits."""

import shutil
import sysconfig

import pytest
import torch
from data_helpers import textured

from warp_train.models import edges as edges_module
from warp_train.models.edge_points import find
from warp_train.models.edge_strips import trace
from warp_train.models.edges import measure_edges

SIZES = ((96, 144), (61, 203), (2, 90), (33, 3))


def photo(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(textured(height, width, seed)).permute(2, 0, 1)[None] / 255


def found(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    smooth, points = find(image)
    return smooth[:, 1:-1, 1:-1], points.pixel, points.normal


def test_a_compiler_on_this_machine_has_built_it() -> None:
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    built = edges_module._on_cpu() != (find, trace)
    assert built or shutil.which(compiler) is None


@pytest.mark.parametrize("size", [*SIZES, (1, 1), (8, 8), (97, 146)])
def test_the_same_points_are_found(size: tuple[int, int]) -> None:
    image = torch.cat([photo(*size, seed) for seed in range(3)])
    exact_smooth, exact = find(image.double())
    smooth, points = edges_module._on_cpu()[0](image)
    torch.testing.assert_close(smooth, exact_smooth.float(), rtol=0, atol=1e-6)
    same = (points.pixel == exact.pixel).all(-1)
    assert same.float().mean() > 0.995  # neighbouring pixels may be equally clear
    normal, wanted = points.normal[same], exact.normal[same].float()
    clear = points.strength[same] > 1e-3  # elsewhere rounding decides the direction
    torch.testing.assert_close(normal[clear], wanted[clear], rtol=0, atol=1e-4)
    torch.testing.assert_close(points.strength, exact.strength.float(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_it_is_as_exact_as_the_reference(size: tuple[int, int]) -> None:
    inputs = found(torch.cat([photo(*size, seed) for seed in range(3)]))
    exact = trace(*(part.double() for part in inputs))
    errors = []
    for one in (trace(*inputs), edges_module._on_cpu()[1](*inputs)):
        error = ((one.bend - exact.bend).abs() / exact.variance.sqrt()).flatten()
        errors.append(error.sort().values)
        share = len(error) * 99 // 100
        assert error.sort().values[share] < 1e-3  # of an edge's own standard deviation
        for name in ("variance", "support", "slope"):
            values, wanted = getattr(one, name), getattr(exact, name)
            close = torch.isclose(values.double(), wanted, rtol=1e-3, atol=1e-4)
            assert close.float().mean() > 0.99, name
    reference, compiled = errors
    middle = len(compiled) // 2
    assert compiled[middle] < 2 * reference[middle] + 1e-6


def test_threads_and_batches_change_nothing() -> None:
    images = torch.cat([photo(64, 96, seed) for seed in range(5)])
    before, together = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            together.append(measure_edges(images, 200))
    finally:
        torch.set_num_threads(before)
    alone = [measure_edges(image[None], 200) for image in images]
    for name in ("curvature", "variance", "support"):
        one, three = (getattr(edges, name) for edges in together)
        assert torch.equal(one, three)
        assert torch.equal(one, torch.cat([getattr(edges, name) for edges in alone]))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e30])
def test_impossible_pixels_do_no_harm(value: float) -> None:
    image = photo(64, 96)
    image[..., 20:30, 40:50] = value
    edges = measure_edges(image, 100)
    assert edges.curvature.shape == (1, 96, 4)
