"""Panels, the before/after picture and the final table."""

from pathlib import Path

import cv2
import numpy as np
import torch

from warp_train.geometry import build_parametric_grid, identity_grid
from warp_train.training.debug_dump import (
    before_after,
    draw_grid,
    panel,
    save_panels,
    save_picture,
    to_picture,
)
from warp_train.training.report import stages_table


def test_identity_grid_is_drawn_as_straight_lines_on_the_border_and_between() -> None:
    canvas = draw_grid(np.zeros((65, 129, 3), np.uint8), identity_grid(65, 129))
    lines = canvas[..., 0] > 200  # smoothed: a line leaves a pale seam on both sides
    full_rows = np.flatnonzero(lines.all(axis=1))
    full_columns = np.flatnonzero(lines.all(axis=0))
    assert full_rows.tolist() == list(range(0, 65, 8))
    assert full_columns.tolist() == list(range(0, 129, 8))
    assert lines.sum() == 9 * 129 + 17 * 65 - 9 * 17


def test_lines_lie_where_opencv_would_read() -> None:
    height, width = 97, 129
    params = torch.tensor([[-0.35, 0, 0, 0, 0, 0, 0, 1.0]])
    grid = build_parametric_grid(params, height, width)[0]
    diagonal = np.hypot(width - 1, height - 1)
    camera = np.array(
        [[diagonal / 2, 0, (width - 1) / 2], [0, diagonal / 2, (height - 1) / 2], [0, 0, 1.0]]
    )
    straight = np.array([[x, 12.0] for x in range(width)])  # the second line of the drawing
    undistorted = (straight - camera[:2, 2]) / (diagonal / 2)
    bent, _ = cv2.projectPoints(
        np.c_[undistorted, np.ones(width)],
        np.zeros(3),
        np.zeros(3),
        camera,
        np.array([-0.35, 0, 0, 0]),
    )
    lines = draw_grid(np.zeros((height, width, 3), np.uint8), grid)
    for x, y in bent[:, 0]:
        assert lines[round(y), round(x)].max() > 60


def test_a_warp_far_outside_the_picture_is_drawn_without_failing() -> None:
    grid = identity_grid(33, 33) * 1e9
    assert draw_grid(np.zeros((33, 33, 3), np.uint8), grid).shape == (33, 33, 3)


def test_panel_shows_input_prediction_target_side_by_side() -> None:
    red, green, blue = (torch.eye(3)[i][:, None, None].expand(3, 40, 60) for i in range(3))
    shown = panel(red, green, blue, identity_grid(40, 60))
    assert shown.shape == (40 + 22, 3 * 60 + 2 * 4, 3)
    assert shown[22 + 3, 3].tolist() == [255, 0, 0]
    assert shown[22 + 3, 64 + 3].tolist() == [0, 255, 0]
    assert shown[22 + 3, 128 + 3].tolist() == [0, 0, 255]
    assert before_after(red, green, blue)[22, 0].tolist() == [255, 0, 0]


def test_to_picture_rounds_and_clamps() -> None:
    assert to_picture(torch.tensor([-1.0, 0.5, 2.0])[:, None, None]).tolist() == [[[0, 128, 255]]]


def test_saved_pictures_are_bounded_and_the_first_stays(tmp_path: Path) -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:] = (250, 0, 0)
    for step in (10, 200, 3000, 40000):
        save_panels(tmp_path, step, {"a/b c.jpg": picture, "d": picture}, keep_latest=2)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [
        f"step-{step:09d}-{name}.jpg" for step in (10, 3000, 40000) for name in ("a_b_c.jpg", "d")
    ]
    save_picture(tmp_path / "new" / "before_after.png", picture)
    assert (cv2.imread(str(tmp_path / "new" / "before_after.png"))[0, 0] == (0, 0, 250)).all()


def test_the_table_relates_every_row_to_identity_and_fixed_warp() -> None:
    table = stages_table(
        {
            "identity": {"epe_px": 10.0, "loss/total": 0.5, "warp_negative_det_pct": 0.0},
            "fixed_warp": {"epe_px": 8.0, "loss/total": 0.4, "warp_negative_det_pct": 0.0},
            "stage1_param_only": {
                "epe_px": 4.0,
                "loss/total": 0.2,
                "warp_negative_det_pct": 0.125,
            },
        }
    )
    rows = [line.split() for line in table.splitlines()]
    assert rows[2] == ["identity", "10.000", "1.000", "1.250", "0.5000", "0.000"]
    assert rows[3] == ["fixed", "warp", "8.000", "0.800", "1.000", "0.4000", "0.000"]
    assert rows[4] == ["stage1_param_only", "4.000", "0.400", "0.500", "0.2000", "0.125"]
    assert len({len(line) for line in table.splitlines()}) == 1


def test_the_table_without_known_warps_has_dashes() -> None:
    rows = stages_table({"identity": {"loss/total": 0.5}, "s": {"loss/total": 0.2}}).splitlines()
    assert rows[-1].split() == ["s", "–", "–", "–", "0.2000", "–"]
