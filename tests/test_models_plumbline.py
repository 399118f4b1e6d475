"""The plumb line: how much edges and lenses bend, and the lens that is found from it."""

import math

import cv2
import numpy as np
import pytest
import torch
from lens_helpers import SIZE, as_if_trained, error_and_bend, seen_through

from warp_train.data.lenses import solve_scale
from warp_train.geometry import (
    covering_zoom,
    half_diagonal,
    straight_lines,
)
from warp_train.models import HybridModel, ModelConfig
from warp_train.models.edge_points import CELL_PX
from warp_train.models.edge_weights import edge_map, features_at
from warp_train.models.edges import Edges, measure_edges

MOST = 1024
LENSES = ((-0.30, 0.15, -0.05), (0.2, -0.1, 0.02), (-0.08, 0.0, 0.0))


@pytest.mark.parametrize("lens", LENSES)
def test_a_straight_line_bends_as_its_second_differences_say(lens: tuple[float, ...]) -> None:
    rng = np.random.default_rng(0)
    points, normals, expected = [], [], []
    for _ in range(50):
        angle, distance, middle = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.7), rng.normal() / 3
        along = np.array([-np.sin(angle), np.cos(angle)])
        steps = np.array([-1e-3, 0.0, 1e-3])[:, None] + middle
        line = distance * np.array([np.cos(angle), np.sin(angle)]) + steps * along
        r2 = (line * line).sum(1, keepdims=True)
        seen = line * (1 + r2 * (lens[0] + r2 * (lens[1] + r2 * lens[2])))
        first, second = (seen[2] - seen[0]) / 2e-3, (seen[2] - 2 * seen[1] + seen[0]) / 1e-6
        normal = np.array([first[1], -first[0]]) / np.hypot(*first)
        points.append(seen[1]), normals.append(normal)
        expected.append(second @ normal / (first @ first))
    got = straight_lines(
        *(torch.tensor(np.array(part))[None] for part in (points, normals)),
        torch.tensor([lens], dtype=torch.float64),
    )
    np.testing.assert_allclose(got.curvature[0].numpy(), expected, atol=2e-5)


FOLDS = ((-0.5, 0.0, 0.0), (-0.45, 0.1, 0.0), (0.2, -0.6, 0.0), (-0.3, 0.15, -0.05))


@pytest.mark.parametrize("lens", FOLDS)
def test_where_a_lens_folds_nothing_runs_wild(lens: tuple[float, ...]) -> None:
    # On its way to a lens the solver tries such ones. A curvature that jumps there would let the
    # rounding of one edge decide where all of them lead.
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(1, 4000, 2, generator=generator, dtype=torch.float64) * 2 - 1
    points = points[:, points[0].norm(dim=1) < 1]
    angle = torch.rand(points.shape[:2], generator=generator, dtype=torch.float64) * 2 * math.pi
    normals = torch.stack((angle.cos(), angle.sin()), -1)
    radial = torch.tensor([lens], dtype=torch.float64)
    curvature = straight_lines(points, normals, radial).curvature
    assert curvature.abs().max() <= 3
    nudged = straight_lines(points, normals, radial + 1e-7).curvature
    assert (nudged - curvature).abs().max() < 1e-7 * 5000


@pytest.mark.parametrize("size", [(256, 384), (384, 256), (300, 300)])
def test_the_covering_zoom_is_the_one_that_training_photos_are_made_with(
    size: tuple[int, int],
) -> None:
    expected = [solve_scale(np.array([*lens, 0, 0, 0, 0, 1.0]), *size) for lens in LENSES]
    got = covering_zoom(torch.tensor(LENSES, dtype=torch.float64), *size)
    for zoom, lens in zip(got.tolist(), expected, strict=True):
        assert lens is not None
        assert zoom == pytest.approx(lens[7], abs=2e-3)
    assert covering_zoom(torch.zeros(1, 3), *size).item() == 1.0


def test_the_covering_zoom_has_the_slope_of_its_differences() -> None:
    radial = torch.tensor(LENSES, dtype=torch.float64, requires_grad=True)
    covering_zoom(radial, *SIZE).sum().backward()
    assert radial.grad is not None
    for term in range(3):
        nudge = torch.zeros(3, dtype=torch.float64)
        nudge[term] = 1e-4
        with torch.no_grad():
            ends = [covering_zoom(radial + sign * nudge, *SIZE) for sign in (1, -1)]
        slope = (ends[0] - ends[1]) / 2e-4
        torch.testing.assert_close(radial.grad[:, term], slope, atol=2e-2, rtol=2e-2)


def disc(radius: float, size: tuple[int, int] = SIZE, shift: float = 0.3) -> torch.Tensor:
    """A bright disc whose border runs through the middle of the frame, smoothly drawn."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    x, y = columns - (size[1] / 2 + radius), rows - (size[0] / 2 + shift)
    inside = np.clip(radius - np.hypot(x, y) + 0.5, 0, 1)
    return torch.tensor(0.2 + 0.6 * inside, dtype=torch.float32).expand(1, 3, -1, -1)


def near_middle(edges: Edges, size: tuple[int, int] = SIZE, reach: float = 0.15) -> torch.Tensor:
    return (edges.position[0].norm(dim=-1) < reach) & (edges.strength[0] > 0.05)


@pytest.mark.parametrize("radius", [400.0, 600.0, 2000.0, -1.0])
def test_edges_bend_by_one_over_their_radius(radius: float) -> None:
    straight = radius < 0
    image = disc(1e7 if straight else radius)
    edges = measure_edges(image, MOST)
    chosen = near_middle(edges)
    assert chosen.sum() >= 4
    # The normal points to the bright inside, and so does the bend.
    expected = 0.0 if straight else half_diagonal(*SIZE) / radius
    for stretch, tolerance in ((1, 0.04), (2, 0.02), (3, 0.01)):
        got = edges.curvature[0, chosen, stretch]
        torch.testing.assert_close(got, torch.full_like(got, expected), atol=tolerance, rtol=0.06)
    assert (edges.support[0, chosen, :2] > 0.6).all()


def test_an_edge_goes_on_where_the_brighter_side_changes() -> None:
    # A board, whose squares are too short to show how much a line bends; its lines are not.
    lens, side = (-0.2, 0.05, 0.0), 26 * 4
    board = np.indices((-(-SIZE[0] * 4 // side), -(-SIZE[1] * 4 // side))).sum(0) % 2
    canvas = np.kron(board, np.ones((side, side)))[: SIZE[0] * 4, : SIZE[1] * 4] * 150 + 50
    edges = measure_edges(seen_through(lens, canvas.astype(np.uint8)), MOST)
    seen = edges.support[..., 3] > 0.5
    assert seen.float().mean() > 0.6
    expected = straight_lines(edges.position, edges.normal, torch.tensor([lens]))
    off = (edges.curvature[..., 3] - expected.curvature)[seen].abs()
    assert off.median() < 0.15 * expected.curvature[seen].abs().median()


def test_where_nothing_is_nothing_is_said() -> None:
    for image in (torch.zeros(2, 3, 40, 56), torch.ones(1, 3, 1, 1), torch.full((1, 3, 9, 2), 0.5)):
        edges = measure_edges(image, MOST)
        assert all(part.isfinite().all() for part in edges[:-1])
        assert (edges.support < 0.01).all()
        assert edge_map(edges, *image.shape[-2:]).isfinite().all()


def test_each_edge_is_told_what_lies_at_its_cell() -> None:
    torch.manual_seed(0)
    edges = measure_edges(torch.rand(1, 3, 100, 150), MOST)
    rows, columns = math.ceil(100 / CELL_PX), math.ceil(150 / CELL_PX)
    names = torch.arange(rows * columns).view(1, 1, rows, columns).float()
    told = features_at(names, CELL_PX, edges)[0, :, 0]
    cell = edges.cell[0]
    assert told.tolist() == (cell[:, 0] * columns + cell[:, 1]).float().tolist()
    x = edges.position[0, :, 0] * half_diagonal(100, 150) + 149 / 2
    assert torch.equal((x.round() // CELL_PX).long(), cell[:, 1])


def bent_lattice(lens: tuple[float, ...]) -> torch.Tensor:
    """Straight bars, as OpenCV shows them through a lens."""
    height, width = SIZE
    canvas = np.full((height * 2, width * 2), 60, np.uint8)
    for k in range(-20, 40):
        cv2.line(canvas, (40 * k, 0), (40 * k + 160, height * 2), 200, 12, cv2.LINE_AA)
        cv2.line(canvas, (0, 36 * k), (width * 2, 36 * k - 120), 140, 8, cv2.LINE_AA)
    return seen_through(lens, canvas)


@pytest.mark.parametrize("lens", [(-0.2, 0.05, 0.0), (0.1, -0.03, 0.0), (0.0, 0.0, 0.0)])
def test_a_head_that_trusts_every_edge_finds_the_lens_of_a_lattice(lens: tuple[float, ...]) -> None:
    error, bend = error_and_bend(as_if_trained(), bent_lattice(lens), lens)
    assert error < max(0.4, 0.15 * bend)


def test_of_many_edges_the_strongest_are_followed() -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 3, 100, 150)
    every, few = measure_edges(image, MOST), measure_edges(image, 40)
    assert every.strength.shape[1] == math.ceil(100 / CELL_PX) * math.ceil(150 / CELL_PX)
    assert few.strength.shape[1] == 40
    assert few.strength.min() >= every.strength[:, 40:].max()
    assert torch.equal(few.cell, every.cell[:, :40])


def test_a_model_follows_as_many_edges_as_its_configuration_says() -> None:
    model, told = HybridModel(ModelConfig(edges=70)), []
    model.backbone.register_forward_pre_hook(lambda _, given: told.append(given[1].strength.shape))
    with torch.no_grad():
        model(torch.rand(2, 3, 100, 150))
    assert told == [(2, 70)]
