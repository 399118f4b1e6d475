"""Measures warps on one photo pair: the part of `evaluate` that runs in worker processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypedDict

import numpy as np
import torch
from torch import Tensor

from warp_train.data.decoding import BadSample, decode_pair
from warp_train.data.lenses import Array
from warp_train.data.samples import to_tensor
from warp_train.data.sources.manifest import PairItem
from warp_train.geometry import IDENTITY_PARAMS, end_point_error, jacobian_stats, warp_image
from warp_train.inference.fallback import Mode
from warp_train.inference.photo_warp import PhotoWarp, frame_points
from warp_train.metrics import Score, compute_proxy_score
from warp_train.photos.pixels import Image

RowName = Literal["identity", "fixed_warp", "model", "one_lens", "ceiling"]
ROWS: tuple[RowName, ...] = ("identity", "fixed_warp", "model", "one_lens", "ceiling")


class StraightFigures(TypedDict):
    """What the model does to a photo that is straight already: the target of a pair."""

    epe_px: float
    """Mean distance in pixels by which the applied warp moves it; 0 if it is left alone."""
    mode_used: Mode
    expected_error_px: float | None
    """The mean end-point error that the model expects of its prediction, in pixels."""


class Figures(Score):
    """The proxy score of a photo after one warp, and the figures of the warp itself."""

    epe_px: float | None
    """Mean end-point error in pixels of the photo; None if the exact warp is unknown."""
    negative_det_pct: float
    """Share of folded pixel cells, in percent."""
    oob_ratio: float
    """Share of pixels read from outside the photo, 0..1."""


@dataclass(frozen=True)
class AppliedWarp:
    """A warp that `rectify` would apply, as arrays."""

    params: Array
    residual: Array | None
    mode: Mode
    expected_error_px: float | None = None

    @property
    def warp(self) -> PhotoWarp:
        return _photo_warp(self.params, self.residual)


@dataclass(frozen=True)
class OneLens:
    """A photo and the lens that its shoot agrees on."""

    applied: AppliedWarp
    """By the common lens, or by the photo's own if the photo disagrees."""
    common: Array
    """`[8]`: the common lens in the photo's frame."""
    common_expected_error_px: float
    own_lens_differs_px: float
    """The mean distance, in pixels, between the photo's own lens and the common one."""
    disagrees: bool
    """The photo contradicts the others of its shoot."""


@dataclass(frozen=True)
class Task:
    """A pair and the warp to apply to it, as arrays that can be sent to another process."""

    item: PairItem
    params: Array
    residual: Array | None
    mode: Mode
    refused: tuple[str, ...]
    """Why the modes before `mode` were refused, one line each."""
    expected_error_px: float | None = None
    """The mean end-point error that the model expects of its prediction, in pixels of the photo."""
    target: AppliedWarp | None = None
    """That of the target as a photo of its own; None if it was not shown to the model."""
    one_lens: OneLens | None = None
    """None for a photo without a shoot."""

    @property
    def warp(self) -> PhotoWarp:
        return _photo_warp(self.params, self.residual)


@dataclass(frozen=True)
class PhotoResult:
    """A pair that was measured."""

    task: Task
    size: tuple[int, int]
    """(height, width) of the photo."""
    rows: dict[RowName, Figures | None]
    """None: there is no fixed warp, or the exact one is unknown. `one_lens` is only there for a
    photo with a shoot."""
    straight: StraightFigures | None = None
    """The target as a photo of its own; None if it was not shown to the model."""

    def figures(self, row: Literal["identity", "model"]) -> Figures:
        """The figures of a row that exists for every photo."""
        figures = self.rows[row]
        assert figures is not None
        return figures


class FailedPhoto(TypedDict):
    """A pair that could not be read, and why."""

    image_id: str
    error: str


def failed_photo(item: PairItem, reason: str) -> FailedPhoto:
    """The result of a pair that cannot be used."""
    return {"image_id": item.image_id, "error": printable(reason)}


def printable(text: str) -> str:
    """Text that can be written as UTF-8: file names may contain bytes that are no characters."""
    return text.encode("utf-8", "backslashreplace").decode()


def start_measuring(
    fixed_warp: tuple[float, ...] | None,
) -> Callable[[Task], PhotoResult | FailedPhoto]:
    """What a worker process starts with: the measuring of one task."""
    return partial(_measure_files, None if fixed_warp is None else np.array(fixed_warp))


def _measure_files(fixed_warp: Array | None, task: Task) -> PhotoResult | FailedPhoto:
    try:
        photo, target = read_pair(task.item)
        return measure(task, photo, target, fixed_warp)
    except BadSample as bad:
        return failed_photo(task.item, str(bad))


def read_pair(item: PairItem) -> tuple[Image, Image]:
    """Photo and target, RGB uint8 [H, W, 3] of one size.

    Raises BadSample for a file that cannot be used, or a target of another size.
    """
    photo, target = decode_pair(item.input, item.target)
    return photo.pixels, target.pixels


def measure(task: Task, photo: Image, target: Image, fixed_warp: Array | None) -> PhotoResult:
    """All rows of a pair, at the photo's own resolution and with the same sampling.

    The lenses, `fixed_warp [8]` among them, are in isotropic units and so fit any frame.
    Raises BadSample if the exact lens is known, but leads nowhere.
    """
    height, width = photo.shape[:2]
    known = bool(np.isfinite(task.item.params).all())
    true_grid = _grid(_lens(task.item.params), height, width) if known else None
    if true_grid is not None and not true_grid.isfinite().all():
        raise BadSample(task.item.input, f"its lens {task.item.params.tolist()} is out of range")
    warps: dict[RowName, PhotoWarp | None] = {
        "identity": _lens(np.array(IDENTITY_PARAMS)),
        "fixed_warp": None if fixed_warp is None else _lens(fixed_warp),
        "model": task.warp,
        **({} if task.one_lens is None else {"one_lens": task.one_lens.applied.warp}),
        "ceiling": _lens(task.item.params) if known else None,
    }
    rows = {
        name: None if warp is None else _figures(photo, target, warp, true_grid)
        for name, warp in warps.items()
    }
    straight = None if task.target is None else _straight(task.target, height, width)
    return PhotoResult(task, (height, width), rows, straight)


def apply_warp(photo: Image, grid: Tensor) -> Image:
    """The corrected photo, uint8 [H, W, 3], read bilinearly where `grid [1, H, W, 2]` points.

    Rounded to 8 bits, as the target is, and as a file of it would be.
    """
    warped = warp_image(to_tensor(photo)[None], grid)[0]
    pixels: Image = (warped * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    return np.ascontiguousarray(pixels)


def corrected(task: Task, photo: Image) -> Image:
    """The photo, corrected with the warp of the task."""
    return apply_warp(photo, _grid(task.warp, *photo.shape[:2]))


def _figures(photo: Image, target: Image, warp: PhotoWarp, true_grid: Tensor | None) -> Figures:
    grid = _grid(warp, *photo.shape[:2])
    stats = jacobian_stats(grid)
    return {
        "epe_px": None if true_grid is None else float(end_point_error(grid, true_grid)),
        "negative_det_pct": float(stats["negative_det_pct"]),
        "oob_ratio": float(stats["oob_ratio"]),
        **compute_proxy_score(apply_warp(photo, grid), target),
    }


def _straight(target: AppliedWarp, height: int, width: int) -> StraightFigures:
    """The exact warp of a target is the identity."""
    truth = _grid(_lens(np.array(IDENTITY_PARAMS)), height, width)
    return {
        "epe_px": float(end_point_error(_grid(target.warp, height, width), truth)),
        "mode_used": target.mode,
        "expected_error_px": target.expected_error_px,
    }


def _grid(warp: PhotoWarp, height: int, width: int) -> Tensor:
    return warp.sources(frame_points(height, width), height, width)[None]


def _lens(params: Array) -> PhotoWarp:
    return _photo_warp(params, None)


def _photo_warp(params: Array, residual: Array | None) -> PhotoWarp:
    return PhotoWarp(
        torch.from_numpy(params), None if residual is None else torch.from_numpy(residual)
    )
