"""One lens for many photos: the joint solution, and which photos share a lens."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from export_helpers import CAMERA
from lens_helpers import SIZE, as_if_trained, seen_through
from numpy.typing import NDArray

from warp_train.geometry import (
    build_parametric_grid,
    covering_zoom,
    end_point_error,
    percent_to_px,
)
from warp_train.inference.by_value import packed, unpacked
from warp_train.inference.shoot import (
    CommonLens,
    Shoot,
    common_lens,
    solve_alone,
)
from warp_train.inference.shoot_keys import Frame, shoots
from warp_train.inference.zooms import along_zoom
from warp_train.models import HybridModel
from warp_train.models.heads_parametric import Observation

LENS = (-0.2, 0.08, -0.01)
COUNT = 6


def drawing(seed: int, lines: int = 14) -> NDArray[np.uint8]:
    """Few straight lines and many curved ones: a photo of it shows little of its lens."""
    rng = np.random.default_rng(seed)
    height, width = SIZE[0] * 2, SIZE[1] * 2
    canvas = np.full((height, width), 90, np.uint8)
    for _ in range(lines):
        ends = rng.uniform(-0.1, 1.1, (2, 2)) * (width, height)
        start, end = (tuple(map(int, point)) for point in ends)
        cv2.line(canvas, start, end, int(rng.integers(140, 250)), 6, cv2.LINE_AA)
    for _ in range(3):
        at = tuple(map(int, rng.uniform(0, 1, 2) * (width, height)))
        axes = tuple(map(int, rng.uniform(20, 120, 2)))
        cv2.ellipse(canvas, at, axes, rng.uniform(0, 180), 0, 360, 30, 4, cv2.LINE_AA)
    return canvas


@pytest.fixture(scope="module")
def model() -> HybridModel:
    return as_if_trained()


def seen(model: HybridModel, lens: tuple[float, ...], seed: int) -> tuple[Observation, float]:
    """What a photo shows, and the error of its own lens in px."""
    with torch.no_grad():
        prediction, observation = model.look(seen_through(lens, drawing(seed)))
    return observation, error(prediction["params"], lens)


def error(params: torch.Tensor, lens: tuple[float, ...]) -> float:
    zoom = covering_zoom(torch.tensor([lens]), *SIZE).tolist()
    truth = build_parametric_grid(torch.tensor([[*lens, 0, 0, 0, 0, *zoom]]), *SIZE)
    return end_point_error(build_parametric_grid(params, *SIZE), truth).item()


def solve(model: HybridModel, photos: Sequence[Observation]) -> CommonLens:
    return common_lens(model.parametric_head, photos)


@pytest.mark.parametrize("lens", [LENS, (0.12, -0.03, 0.0)])
def test_together_photos_find_their_lens_better_than_alone(
    model: HybridModel, lens: tuple[float, ...]
) -> None:
    photos = [seen(model, lens, seed) for seed in range(COUNT)]
    alone = [own for _, own in photos]
    common = solve(model, [observation for observation, _ in photos])
    together = error(common.params(model.parametric_head, SIZE)[None], lens)
    assert together < 0.6 * np.mean(alone), (together, alone)
    few = solve(model, [observation for observation, _ in photos[:2]])
    assert common.expected_error(model.parametric_head, SIZE) < few.expected_error(
        model.parametric_head, SIZE
    )


def test_one_photo_is_no_evidence_that_photos_agree(model: HybridModel) -> None:
    # Its lens has no other to differ from, but it is wrong as often as another photo's.
    photos = [seen(model, LENS, seed) for seed in range(COUNT)]
    head = model.parametric_head
    alone = [solve(model, [observation]) for observation, _ in photos]
    errors = [error(lens.params(head, SIZE)[None], LENS) for lens in alone]
    expected = [percent_to_px(lens.expected_error(head, SIZE), *SIZE) for lens in alone]
    assert np.mean(expected) > 0.7 * np.mean(errors)


def test_neither_order_nor_company_of_a_photo_changes_the_lens(model: HybridModel) -> None:
    photos = [seen(model, LENS, seed)[0] for seed in range(3)]
    forwards, backwards = solve(model, photos), solve(model, photos[::-1])
    torch.testing.assert_close(forwards.modes, backwards.modes, atol=1e-4, rtol=1e-4)
    assert torch.equal(solve(model, photos).modes, forwards.modes)
    # A photo with fewer edges is filled up with some of no weight.
    first = photos[0].weighed
    keep = slice(0, first.hidden.shape[1] - 100)
    weights = first.weights._replace(
        bend=first.weights.bend.clone(), direction=first.weights.direction.clone()
    )
    weights.bend[:, keep.stop :] = 0
    weights.direction[..., keep.stop :] = 0
    short = first._replace(
        edges=type(first.edges)(*(part[:, keep] for part in first.edges)),
        weights=type(weights)(first.weights.bend[:, keep], first.weights.direction[..., keep]),
        hidden=first.hidden[:, keep],
    )
    padded = solve(model, [photos[0]._replace(weighed=short), photos[1]])
    emptied = solve(model, [photos[0]._replace(weighed=first._replace(weights=weights)), photos[1]])
    torch.testing.assert_close(padded.modes, emptied.modes, atol=1e-3, rtol=1e-3)


def test_a_photo_through_another_lens_neither_votes_nor_is_taken_along(model: HybridModel) -> None:
    photos = [seen(model, LENS, seed)[0] for seed in range(COUNT)]
    other = seen(model, (0.25, -0.05, 0.0), 50)[0]
    head = model.parametric_head
    without, together = solve(model, photos), solve(model, [*photos, other])
    errors = [error(lens.params(head, SIZE)[None], LENS) for lens in (without, together)]
    assert errors[1] < errors[0] + 0.15
    assert solve_alone(head, other).contradicts(together)
    assert not any(solve_alone(head, photo).contradicts(together) for photo in photos)


def test_the_photos_that_show_most_decide(
    model: HybridModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("warp_train.inference.shoot.MOST_PHOTOS", 2)
    rich = [seen(model, LENS, seed)[0] for seed in range(2)]
    with torch.no_grad():
        empty = [model.look(torch.full((1, 3, *SIZE), 0.5))[1] for _ in range(3)]
    shoot = Shoot(model.parametric_head)
    for photo in (empty[0], rich[0], empty[1], rich[1], empty[2]):
        shoot.add(photo)
    found = shoot.solve()
    assert found is not None
    assert shoot.photos == 5
    torch.testing.assert_close(found.modes, solve(model, rich).modes, atol=1e-5, rtol=0)


def test_the_lens_of_a_shoot_does_not_depend_on_the_order_of_its_photos(model: HybridModel) -> None:
    photos = [seen(model, LENS, seed)[0] for seed in range(4)]
    with torch.no_grad():  # two photos without any edge, which have the same information
        photos += [model.look(torch.full((1, 3, *SIZE), grey))[1] for grey in (0.2, 0.8)]
    lenses = []
    for order in (photos, photos[::-1], photos[2:] + photos[:2]):
        shoot = Shoot(model.parametric_head)
        for photo in order:
            shoot.add(photo)
        lenses.append(shoot.solve())
    first = lenses[0]
    assert first is not None
    for other in lenses[1:]:
        assert other is not None
        assert all(map(torch.equal, first, other))  # to the last bit


def test_photos_without_a_line_have_no_lens(model: HybridModel) -> None:
    shoot = Shoot(model.parametric_head)
    assert shoot.solve() is None
    with torch.no_grad():
        for _ in range(2):
            shoot.add(model.look(torch.full((1, 3, *SIZE), 0.5))[1])
    found = shoot.solve()
    assert found is not None
    params = found.params(model.parametric_head, SIZE)
    torch.testing.assert_close(params, torch.tensor([0.0] * 7 + [1.0]), atol=1e-3, rtol=0)


def test_what_crosses_processes_is_plain_numbers(model: HybridModel) -> None:
    # A tensor would be shared memory: an open file for each, until there are too many.
    photos = [seen(model, LENS, seed)[0] for seed in range(2)]
    arrays = [packed(photo) for photo in photos]
    found = solve(model, photos)
    assert all(type(part) is np.ndarray for part in (*arrays[0], *found.packed()))
    again = solve(model, [unpacked(part) for part in arrays])
    assert torch.equal(again.modes, found.modes)
    assert all(map(torch.equal, CommonLens.unpacked(found.packed()), found))


def frame(name: str, height: int = 2000, width: int = 3000, **camera: object) -> Frame:
    return Frame(Path(name), height, width, replace(CAMERA, **camera))  # type: ignore[arg-type]


FRAMES = (
    frame("a/1"),
    frame("a/2", focal=24.1),
    frame("b/3", 3000, 2000),  # portrait
    frame("a/4", 667, 1000),  # a small copy
    frame("a/5", focal=28),
    frame("a/6", crop_factor=1.6),
    frame("a/7", 2000, 2667),  # cropped to 4:3
    frame("a/8", lens="Another lens"),
    frame("a/9", digital_zoom=1.5),
    Frame(Path("a/10"), 2000, 3000, None),
)


@pytest.mark.parametrize(
    ("grouping", "expected"),
    [
        ("auto", [{"a/1", "a/2", "b/3", "a/4"}, {"a/5"}]),  # the same zoom at 28 mm
        ("exif", [{"a/1", "a/2", "b/3", "a/4"}, {"a/5"}]),
        ("folder", [{"a/1", "a/2", "a/4", "a/5", "a/6", "a/8", "a/9", "a/10"}]),
        ("off", []),
    ],
)
def test_photos_that_share_a_lens(grouping: str, expected: list[set[str]]) -> None:
    found = shoots(FRAMES, grouping)  # type: ignore[arg-type]
    assert [{str(frame.path) for frame in group} for group in found] == expected


def at_focal(modes: Sequence[float], variance: float) -> CommonLens:
    return CommonLens(
        torch.tensor(modes, dtype=torch.float32),
        torch.zeros(1, 8),
        variance * torch.eye(3),
    )


def test_a_focal_length_with_few_photos_borrows_from_its_neighbours() -> None:
    lenses = [at_focal((1, 0, 0), 0.01), at_focal((-1, 0.5, 0), 1.0), at_focal((0.6, 0, 0), 0.01)]
    near = along_zoom(lenses, [16.0, 24.0, 35.0])
    # Between its neighbours instead of far from them; the neighbours keep their own lens.
    assert 0.5 < near[1].modes[0] < 0.9
    assert near[1].covariance[0, 0] < 0.1
    for before, after in ((lenses[0], near[0]), (lenses[2], near[2])):
        torch.testing.assert_close(after.modes, before.modes, atol=0.05, rtol=0)
    (alone,) = along_zoom(lenses[1:2], [24.0])
    torch.testing.assert_close(alone.modes, lenses[1].modes, atol=0.05, rtol=0.05)
    far = along_zoom(lenses[:2], [16.0, 400.0])
    assert far[1].modes[0] < near[1].modes[0] - 0.3


def test_borrowing_is_right_in_the_mean_and_as_sure_as_it_says() -> None:
    rng = np.random.default_rng(0)
    focals = np.array([16, 18, 21, 24, 28, 35, 50, 70.0])
    variances = np.array([0.01, 0.5, 0.02, 0.5, 0.5, 0.01, 0.5, 0.02])
    steps = np.sqrt(np.diff(np.log(focals), prepend=np.log(15))[:, None] * (0.2, 0.2, 0.4))
    squares = []
    for _ in range(300):
        truth = rng.normal(0, 1, 3) + np.cumsum(steps * rng.normal(size=(8, 3)), 0)
        seen = truth + np.sqrt(variances)[:, None] * rng.normal(size=(8, 3))
        lenses = [at_focal(m.tolist(), v) for m, v in zip(seen, variances, strict=True)]
        near = along_zoom(lenses, focals.tolist())
        error = np.stack([lens.modes.numpy() for lens in near]) - truth
        sure = np.stack([lens.covariance.diagonal().numpy() for lens in near])
        squares.append((error**2, sure))
    error, sure = (np.mean(part, 0) for part in zip(*squares, strict=True))
    assert (error < 0.4 * variances[:, None])[[1, 3, 4]].all()
    np.testing.assert_allclose(error, sure, rtol=0.3)
