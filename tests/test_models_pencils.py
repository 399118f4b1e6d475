"""Pencils: where upright and level lines point, and what that says about a lens."""

import cv2
import numpy as np
import pytest
import torch
from lens_helpers import SIZE, as_if_trained, error_and_bend, seen_through

from warp_train.geometry import StraightLines, straight_lines
from warp_train.models.config import ModelConfig
from warp_train.models.pencils import eliminate, off_pencils


def lines_through(meet: tuple[float, float], count: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions `[count, 2]` and unit directions of lines that meet in one place, near or far."""
    generator = torch.Generator().manual_seed(0)
    position = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 1.6 - 0.8
    direction = torch.tensor(meet, dtype=torch.float64) - position
    return position, direction / direction.norm(dim=-1, keepdim=True)


def as_lines(position: torch.Tensor, direction: torch.Tensor) -> StraightLines:
    bend = torch.zeros(1, 1, len(position))
    return StraightLines(bend, position[None, None], direction[None, None])


@pytest.mark.parametrize("meet", [(0.3, 6.0), (-2.0, -40.0), (0.1, 1e6)])
def test_lines_that_meet_are_on_their_pencil(meet: tuple[float, float]) -> None:
    x, y = meet
    position, direction = lines_through(meet)
    flipped = torch.where(torch.arange(len(position))[:, None] % 2 == 0, direction, -direction)
    upright = torch.tensor([[[x / y, 1 / y], [0.0, 0.0]]], dtype=torch.float64)
    off = off_pencils(as_lines(position, flipped), upright)
    assert off.sine[0, 0].abs().max() < 1e-12
    assert off.near[0, 0].all()
    # Mirrored at the diagonal, the same lines are level.
    off = off_pencils(as_lines(position.flip(-1), flipped.flip(-1)), upright.flip(1))
    assert off.sine[0, 1].abs().max() < 1e-12


def test_a_line_off_its_pencil_is_off_by_the_sine_of_the_angle() -> None:
    position = torch.zeros(3, 2, dtype=torch.float64)
    angles = torch.tensor([0.02, -0.2, 1.2], dtype=torch.float64)
    direction = torch.stack((angles.sin(), angles.cos()), -1)
    off = off_pencils(as_lines(position, direction), torch.zeros(1, 2, 2, dtype=torch.float64))
    assert off.sine[0, 0, 0].tolist() == pytest.approx(angles.sin().tolist())
    assert off.near[0, 0, 0].tolist() == [1, 1, 0]
    assert off.near[0, 1, 0].tolist() == [0, 0, 1]


@pytest.mark.parametrize("pencil", [0, 1])
def test_the_slopes_by_a_pencils_terms_are_those_of_its_differences(pencil: int) -> None:
    position, direction = lines_through((0.4, 9.0))
    swap = slice(None) if pencil == 0 else [1, 0]
    lines = as_lines(position[:, swap], direction[:, swap])
    # On the pencil: farther off, the length of `d` would come in, which steps may neglect.
    at = torch.tensor([[[0.4 / 9, 1 / 9]] * 2], dtype=torch.float64)
    found = off_pencils(lines, at).by_pencil[0, pencil, 0]
    for term in range(2):
        nudge = torch.zeros_like(at)
        nudge[0, pencil, term] = 1e-6
        ends = [off_pencils(lines, at + sign * nudge).sine[0, pencil, 0] for sign in (1, -1)]
        torch.testing.assert_close(found[:, term], (ends[0] - ends[1]) / 2e-6, atol=1e-7, rtol=1e-6)


def test_eliminating_the_pencils_leaves_the_solution_of_the_whole_system() -> None:
    torch.manual_seed(0)
    n, prior = 30, torch.tensor([3.0, 7.0], dtype=torch.float64)
    weight, sine = (torch.rand(1, 2, n, dtype=torch.float64) for _ in range(2))
    by_lens = torch.randn(1, 2, n, 3, dtype=torch.float64)
    by_pencil, at = (torch.randn(1, 2, *s, dtype=torch.float64) for s in ((n, 2), (2,)))
    # All unknowns at once: three of the lens, then two of each pencil, and rows for the priors.
    rows = torch.zeros(2 * n + 4, 7, dtype=torch.float64)
    right = torch.zeros(2 * n + 4, dtype=torch.float64)
    for p in range(2):
        at_rows, root = slice(p * n, (p + 1) * n), weight[0, p].sqrt()
        rows[at_rows, :3] = root[:, None] * by_lens[0, p]
        rows[at_rows, 3 + 2 * p : 5 + 2 * p] = root[:, None] * by_pencil[0, p]
        right[at_rows] = -root * sine[0, p]
        for term in range(2):
            rows[2 * n + 2 * p + term, 3 + 2 * p + term] = prior[term].sqrt()
            right[2 * n + 2 * p + term] = -prior[term].sqrt() * at[0, p, term]
    whole = torch.linalg.lstsq(rows, right[:, None], driver="gelsd").solution[:, 0]
    found = eliminate(weight, sine, by_lens, by_pencil, at, prior)
    lens = torch.linalg.solve(found.information, found.pull[..., None])[..., 0]
    torch.testing.assert_close(lens[0], whole[:3])
    torch.testing.assert_close(found.step(lens)[0].flatten(), whole[3:])


def test_a_lens_is_undone_for_positions_and_directions() -> None:
    lens = (-0.25, 0.1, -0.03)
    position, direction = lines_through((0.2, 3.0))
    step = 1e-5 * direction

    def seen(u: torch.Tensor) -> torch.Tensor:
        r2 = u.square().sum(-1, keepdim=True)
        return u * (1 + r2 * (lens[0] + r2 * (lens[1] + r2 * lens[2])))

    tangent = seen(position + step) - seen(position - step)
    tangent = tangent / tangent.norm(dim=-1, keepdim=True)
    normal = torch.stack((tangent[:, 1], -tangent[:, 0]), -1)
    radial = torch.tensor([lens], dtype=torch.float64)
    found = straight_lines(seen(position)[None], normal[None], radial)
    torch.testing.assert_close(found.position[0], position, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.direction[0], direction, atol=1e-5, rtol=0)


def facade(lens: tuple[float, ...], degrees: float) -> torch.Tensor:
    """Rows of small windows, a little turned, as OpenCV shows them through a lens."""
    height, width = SIZE
    canvas = np.full((height * 4, width * 4), 90, np.uint8)
    for row in range(-2, 24):
        for column in range(-2, 36):
            corner = (64 * column, 68 * row)
            cv2.rectangle(canvas, corner, (corner[0] + 30, corner[1] + 36), 200, -1)
    turned = cv2.getRotationMatrix2D((width * 2.0, height * 2.0), degrees, 1)
    canvas = cv2.warpAffine(canvas, turned, (width * 4, height * 4), borderValue=90)
    return seen_through(lens, np.asarray(cv2.GaussianBlur(canvas, (0, 0), 1.5), np.uint8))


@pytest.mark.parametrize("lens", [(-0.12, 0.02, 0.0), (0.06, 0.0, 0.0)])
@pytest.mark.parametrize("degrees", [0.0, 2.5])
def test_windows_too_small_to_show_a_bend_show_the_lens(
    lens: tuple[float, ...], degrees: float
) -> None:
    image = facade(lens, degrees)
    with_pencils, without = (
        error_and_bend(as_if_trained(ModelConfig(level_camera=level)), image, lens)[0]
        for level in (True, False)
    )
    assert with_pencils < 0.25
    assert with_pencils < 0.25 * without
