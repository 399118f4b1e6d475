"""`warp-train straightness`: boards whose corners are known, bent by a known lens."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from data_helpers import save
from evaluate_helpers import OTHER, save_model

from warp_train import cli
from warp_train.data.lenses import solve_scale
from warp_train.evaluation.boards_table import boards_json, straightness_table
from warp_train.evaluation.straightness import Board, corrected, deviation
from warp_train.geometry import IDENTITY_PARAMS
from warp_train.inference.photo_warp import PhotoWarp

SIZE = (320, 480)
LENS = tuple(solve_scale(np.array([-0.16, 0.05, -0.01, 0, 0, 0, 0, 1.0]), *SIZE).tolist())


def on_board(x, y, turn, tilt, shift):
    """Places on a board, in squares from its middle, seen in perspective by a lens without
    distortion: pixels of the corrected frame, `[..., 2]`."""
    x, y = x * 34.0, y * 34.0
    depth = 1 + tilt * x / 400
    plane = np.stack([np.cos(turn) * x - np.sin(turn) * y, np.sin(turn) * x + np.cos(turn) * y], -1)
    return plane / depth[..., None] + np.array([SIZE[1] / 2, SIZE[0] / 2]) + shift


def flat_corners(*pose):
    """Inner corners, `[6, 9, 2]`."""
    y, x = np.mgrid[-2.5:3:1, -4:5:1]
    return on_board(x, y, *pose)


def seen_by_opencv(places):
    """Where OpenCV's camera with the lens sees places of the corrected frame."""
    (height, width), (k1, k2, k3, *_, zoom) = SIZE, LENS
    half, middle = (
        np.hypot(width - 1, height - 1) / 2,
        np.array([(width - 1) / 2, (height - 1) / 2]),
    )
    camera = np.array([[half, 0, middle[0]], [0, half, middle[1]], [0, 0, 1.0]])
    flat = ((places - middle) / (half * zoom)).reshape(-1, 2)
    rays = np.concatenate([flat, np.ones((len(flat), 1))], 1)
    still, terms = np.zeros(3), np.array([k1, k2, 0, 0, k3])
    return cv2.projectPoints(rays, still, still, camera, terms)[0].reshape(places.shape)


def photo_of_board(*pose):
    """`[H, W, 3]`: each dark square as the polygon that OpenCV's camera sees."""
    times, shift = 6, 6
    canvas = np.full((SIZE[0] * times, SIZE[1] * times), 225, np.uint8)
    side = np.linspace(0, 1, 17)
    x = np.concatenate([side, np.ones(17), side[::-1], np.zeros(17)])
    y = np.concatenate([np.zeros(17), side, np.ones(17), side[::-1]])
    for row, column in np.ndindex(7, 10):
        if (row + column) % 2 == 0:
            outline = seen_by_opencv(on_board(column - 5 + x, row - 3.5 + y, *pose))
            fixed = np.rint(((outline + 0.5) * times - 0.5) * 2**shift).astype(np.int32)
            cv2.fillPoly(canvas, [fixed], 30, cv2.LINE_AA, shift)
    canvas = cv2.GaussianBlur(canvas, (0, 0), 0.7 * times)  # as sharp as a photo is
    seen = cv2.resize(canvas, SIZE[::-1], interpolation=cv2.INTER_AREA)
    return np.repeat(seen[..., None], 3, 2)


POSES = [(0.05, 0.1, (20, -10)), (-0.3, -0.2, (-30, 12)), (0.5, 0.3, (5, 20)), (-0.45, 0, (0, 0))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("boards")
    for i, pose in enumerate(POSES):
        save(folder / f"{i}.png", photo_of_board(*pose))
    return folder


def straightness(*arguments):
    return cli.main(["straightness", *map(str, arguments), "--device", "cpu"])


def test_corners_go_where_opencv_saw_them_from():
    for pose in POSES:
        flat = flat_corners(*pose)
        assert deviation(flat) < 1e-9
        found = corrected(seen_by_opencv(flat), PhotoWarp(torch.tensor(LENS).double()), *SIZE)
        np.testing.assert_allclose(found, flat, atol=0.01)


def test_corners_follow_the_residual_too():
    residual = torch.zeros(20, 30, 2)
    residual[..., 0] = 2 * 3.0 / (SIZE[1] - 1)  # what is corrected is read 3 px farther right
    warp = PhotoWarp(torch.tensor(IDENTITY_PARAMS, dtype=torch.float64), residual)
    corners = flat_corners(*POSES[0])
    np.testing.assert_allclose(corrected(corners, warp, *SIZE), corners - (3, 0), atol=0.01)


def test_deviation_is_that_of_a_bent_board_by_hand():
    grid = np.stack(np.meshgrid(np.arange(3.0), np.arange(3.0)), -1)
    assert deviation(grid) < 1e-12
    grid[1, 1, 1] += 0.3
    # Of the four triples that hold it, the middle row alone is bent: residuals 0.1, 0.2, 0.1 · 1,
    # and the middle column's point only slides along its line.
    expected = 1000 * np.sqrt((0.1**2 + 0.2**2 + 0.1**2) / 18) / np.hypot(2, 2)
    assert deviation(grid) == pytest.approx(expected, rel=1e-6)


def test_the_table_and_the_json(folder, tmp_path, capsys):
    model = save_model(tmp_path / "model", LENS, OTHER)
    assert straightness(model, folder, "--json", tmp_path / "out.json") == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("boards in 4 of 4 photos")
    assert [line.split()[0] for line in printed[2:]] == ["as", "model", "one", "calibration"]
    boards = json.loads((tmp_path / "out.json").read_text())["boards"]
    for board, pose in zip(boards, POSES, strict=True):
        bent = deviation(seen_by_opencv(flat_corners(*pose)))
        assert board["as_it_is"] == pytest.approx(bent, rel=0.05)
        assert board["model"] < 0.1 * bent
        # A network whose every location votes for the lens: so do all photos together.
        assert board["one_lens"] < 0.1 * bent
        assert board["calibration"] < 0.1 * bent


def test_a_model_that_does_nothing_straightens_nothing(folder, tmp_path):
    model = save_model(tmp_path / "model", IDENTITY_PARAMS, OTHER)
    assert straightness(model, folder, "--json", tmp_path / "out.json") == 0
    for board in json.loads((tmp_path / "out.json").read_text())["boards"]:
        assert board["model"] == pytest.approx(board["as_it_is"], rel=1e-6)


def test_photos_without_a_board_are_named_and_left_out(folder, tmp_path, capsys):
    model = save_model(tmp_path / "model", LENS, OTHER)
    mixed = tmp_path / "mixed"
    save(mixed / "board.png", photo_of_board(*POSES[0]))
    save(mixed / "wall.png", np.full((200, 300, 3), 90, np.uint8))
    (mixed / "broken.jpg").write_bytes(b"no photo")
    assert straightness(model, mixed) == 1
    told = capsys.readouterr()
    assert "wall.png: no board of 9x6 corners found" in told.err
    assert "error: " in told.err
    assert "broken.jpg" in told.err
    assert "boards in 1 of 3 photos" in told.out
    assert told.out.splitlines()[-1].split() == ["calibration", "0", "–", "–", "–"]
    (mixed / "board.png").unlink()
    assert straightness(model, mixed) == 1
    assert "no board was found in 2 photos" in capsys.readouterr().err


@pytest.mark.parametrize("corners", ["9", "9x", "2x6", "axb", "9x-6"])
def test_corners_that_make_no_board_are_a_usage_error(folder, corners, capsys):
    with pytest.raises(SystemExit) as stopped:
        straightness("model", folder, "--corners", corners)
    assert stopped.value.code == 2
    assert "must be like 9x6" in capsys.readouterr().err


def test_the_table_has_mean_median_and_worst_of_every_board():
    bent = np.stack(np.meshgrid(np.arange(3.0), np.arange(3.0)), -1)
    boards = [Board(Path(f"{i}.jpg"), (9, 9), bent, model) for i, model in enumerate((1, 2, 6))]
    boards[0] = replace(boards[0], one_lens=3.0, calibration=0.5)
    boards[1] = replace(boards[1], one_lens=1.0)
    assert straightness_table(boards, 4).splitlines() == [
        "boards in 3 of 4 photos; off straight, in ‰ of their diagonal",
        "             boards  mean  median  worst",
        "as it is          3  0.00    0.00   0.00",
        "model             3  3.00    2.00   6.00",
        "one lens          2  2.00    2.00   3.00",
        "calibration       1  0.50    0.50   0.50",
    ]
    assert boards_json(boards, "abc")["boards"][1]["calibration"] is None
