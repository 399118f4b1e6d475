"""Measures how straight a model makes photos of chessboards. No ground truth is needed.

The inner corners of a flat board lie on straight lines in a photo from any position; only a lens
bends these lines. Corners are found in the original photo and then moved by the warp. The result
therefore does not depend on how well a corner can be found in a resampled photo.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from warp_train.data.decoding import decode_image
from warp_train.geometry import grid_to_pixels
from warp_train.inference.look import SeenPhoto
from warp_train.inference.photo_warp import PhotoWarp
from warp_train.inference.shoot import CommonLens, Shoot
from warp_train.inference.straightener import Straightener
from warp_train.photos.pixels import Image

Corners = NDArray[np.float64]
"""`[rows, columns, 2]`: x and y in pixels."""

_WINDOW = 0.3  # of the shortest distance between corners
_LEAST_TO_CALIBRATE = 3


@dataclass(frozen=True)
class Board:
    """One photo of a board. Deviations are in ‰ of the board's diagonal."""

    photo: Path
    size: tuple[int, int]
    corners: Corners
    model: float
    one_lens: float | None = None
    """By the lens that all boards of this size agree on; None for the only one of its size."""
    calibration: float | None = None
    """None if there are too few boards of this size to calibrate a camera."""

    @property
    def as_it_is(self) -> float:
        return deviation(self.corners)


class Boards:
    """Measures the photos of a folder, each read and shown to the network once.

    Boards of one size were seen by one camera, so their photos are a shoot.
    """

    def __init__(self, straightener: Straightener, columns: int, rows: int) -> None:
        """`columns` and `rows`: inner corners of the board."""
        self._straightener = straightener
        self._grid = columns, rows
        self._shoots: dict[tuple[int, int], Shoot] = {}
        self._found: list[tuple[Board, SeenPhoto]] = []

    def add(self, path: Path) -> bool:
        """Whether a board is found in the photo. Raises BadSample if it cannot be read."""
        photo = decode_image(path).pixels
        corners = find_corners(photo, *self._grid)
        if corners is None:
            return False
        size = photo.shape[0], photo.shape[1]
        shoot = self._shoots.setdefault(size, Shoot(self._straightener.head))
        seen = self._straightener.see(photo, shoot)
        left = deviation(corrected(corners, self._warp(seen, None), *size))
        self._found.append((Board(path, size, corners, left), seen))
        return True

    def measured(self) -> list[Board]:
        """All boards, as they are and after the warps that `rectify` would apply, also by the lens
        that the boards of one size agree on, and after OpenCV's calibration."""
        lenses = {size: shoot.solve() for size, shoot in self._shoots.items()}
        return calibrated([self._by_one_lens(*found, lenses) for found in self._found])

    def _by_one_lens(
        self, board: Board, seen: SeenPhoto, lenses: Mapping[tuple[int, int], CommonLens | None]
    ) -> Board:
        common = lenses[board.size]
        if common is None:
            return board
        left = deviation(corrected(board.corners, self._warp(seen, common), *board.size))
        return replace(board, one_lens=left)

    def _warp(self, seen: SeenPhoto, common: CommonLens | None) -> PhotoWarp:
        return seen.look(common, self._straightener.head).chosen.warp


def find_corners(photo: Image, columns: int, rows: int) -> Corners | None:
    """The inner corners of a board in an RGB photo, by OpenCV; None if it finds no board."""
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    found, rough = cv2.findChessboardCorners(grey, (columns, rows))
    if not found:
        return None
    grid = rough.reshape(rows, columns, 2)
    steps = (np.linalg.norm(np.diff(grid, axis=axis), axis=2).min() for axis in (0, 1))
    reach = max(2, round(_WINDOW * min(steps)))  # the window must contain no neighbouring corner
    until = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 100, 1e-4)
    exact = cv2.cornerSubPix(grey, rough, (reach, reach), (-1, -1), until)
    return exact.reshape(rows, columns, 2).astype(np.float64)


def deviation(corners: Corners) -> float:
    """Root mean square distance of the corners from the lines through their rows and columns.

    The lines are fitted by least squares (total: across the line), and the distance is in ‰ of the
    diagonal from the first corner to the last.
    """
    off = [_off_line(line) for line in (*corners, *corners.transpose(1, 0, 2))]
    diagonal = np.linalg.norm(corners[-1, -1] - corners[0, 0])
    return float(1000 * np.sqrt(np.square(np.concatenate(off)).mean()) / diagonal)


def _off_line(points: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = points - points.mean(0)
    off: NDArray[np.float64] = centred @ np.linalg.svd(centred)[2][1]
    return off


def corrected(corners: Corners, warp: PhotoWarp, height: int, width: int) -> Corners:
    """The positions of a photo's corners in the corrected photo."""
    half = torch.tensor([(width - 1) / 2, (height - 1) / 2], dtype=torch.float64)
    seen = torch.from_numpy(corners) / half - 1
    moved: Corners = grid_to_pixels(warp.targets(seen, height, width), height, width).numpy()
    return moved


def calibrated(boards: Sequence[Board]) -> list[Board]:
    """The boards with `calibration`, from OpenCV's calibration of all boards of one size together.

    It uses the known shape of the boards and all photos at once, so it is a bound for a model,
    which has one photo of unknown contents.
    """
    by_size = defaultdict(list)
    for board in boards:
        by_size[board.size, board.corners.shape].append(board)
    straightened = {
        board.photo: value
        for group in by_size.values()
        if len(group) >= _LEAST_TO_CALIBRATE
        for board, value in zip(group, _calibrate(group), strict=True)
    }
    return [replace(board, calibration=straightened.get(board.photo)) for board in boards]


def _calibrate(boards: Sequence[Board]) -> list[float]:
    """The deviations that are left by the one lens that OpenCV finds."""
    (height, width), (rows, columns, _) = boards[0].size, boards[0].corners.shape
    flat = np.zeros((rows * columns, 3), np.float32)
    flat[:, :2] = np.mgrid[:columns, :rows].T.reshape(-1, 2)
    seen = [board.corners.reshape(-1, 1, 2).astype(np.float32) for board in boards]
    _, camera, terms, _, _ = cv2.calibrateCamera(
        [flat] * len(boards),
        seen,
        (width, height),
        None,
        None,
    )
    ideal = (cv2.undistortPoints(points, camera, terms, P=camera) for points in seen)
    return [deviation(points.reshape(rows, columns, 2).astype(np.float64)) for points in ideal]
