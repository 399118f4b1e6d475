"""`edge_points.find` and `edge_strips.trace` in C, for CPUs, where a compiler built them."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from warp_train.geometry import half_diagonal
from warp_train.models import _edge_kernel
from warp_train.models.edge_points import CELL_PX, Points
from warp_train.models.edge_strips import (
    CUT,
    FAINT,
    FAR_STRETCHES,
    FIRST_WINDOW_PX,
    JUMP_PX,
    LEAST_SPREAD_PX2,
    NEAR_STRETCHES,
    RIDGE,
    SHARE_OF_INDEPENDENT,
    STEPS,
    STRETCHES,
    TURNED,
    WINDOW_PX,
    Traces,
)

_FOUND = 13
_ROOM = 40
"""Samples along a strip as in `_edge_kernel.h`; those behind the last one have no weight."""


def find_on_cpu(image: Tensor) -> tuple[Tensor, Points]:
    """`edge_points.find`, photo by photo, with as many threads as torch has."""
    smooth, *points = _find(image)
    return smooth, Points(*points)


def trace_on_cpu(smooth: Tensor, pixel: Tensor, normal: Tensor) -> Traces:
    """`edge_strips.trace`, photo by photo, with as many threads as torch has."""
    found: Tensor = _trace(smooth, pixel, normal)
    bend, variance, support = found[..., :12].unflatten(-1, (4, 3)).unbind(-1)  # type: ignore[no-untyped-call]
    return Traces(bend, variance, support, found[..., 12])


# Operators, so that `train.compile` keeps the network in one graph.
@torch.library.custom_op("warp_train::find_edges", mutates_args=(), device_types="cpu")
def _find(image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    height, width = image.shape[-2:]
    found: tuple[Tensor, Tensor, Tensor, Tensor] = _empty(image)
    photos = zip(*(part.numpy() for part in (image.contiguous(), *found)), strict=True)
    _run([partial(_edge_kernel.find, *photo, height, width) for photo in photos])
    return found


@_find.register_fake
def _empty(image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    count, _, height, width = image.shape
    cells = math.ceil(height / CELL_PX) * math.ceil(width / CELL_PX)
    smooth = image.new_empty(count, height + 2, width + 2)
    pixel, normal = image.new_empty(count, cells, 2), image.new_empty(count, cells, 2)
    return smooth, pixel, normal, image.new_empty(count, cells)


@torch.library.custom_op("warp_train::trace_edges", mutates_args=(), device_types="cpu")
def _trace(smooth: Tensor, pixel: Tensor, normal: Tensor) -> Tensor:
    """`[B, N, 13]`: bend, variance and support of each stretch, and a slope, as `Traces`."""
    height, width = smooth.shape[-2:]
    found = np.empty((*pixel.shape[:2], _FOUND), np.float32)
    arrays = (smooth.contiguous().numpy(), pixel.contiguous().numpy(), normal.contiguous().numpy())
    unit = half_diagonal(height, width)
    calls = [
        partial(_edge_kernel.trace, *photo, _numbers(), out, height, width, unit)
        for *photo, out in zip(*arrays, found, strict=True)
    ]
    _run(calls)
    return torch.from_numpy(found)


@_trace.register_fake
def _(smooth: Tensor, pixel: Tensor, normal: Tensor) -> Tensor:
    del smooth, normal
    return pixel.new_empty(*pixel.shape[:2], _FOUND)


def _run(calls: Sequence[Callable[[], None]]) -> None:
    threads = min(torch.get_num_threads(), len(calls))
    if threads > 1:
        list(_threads(threads).map(lambda call: call(), calls))
        return
    for call in calls:
        call()


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="edges")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.cache_clear)  # threads do not survive a fork


@cache
def _numbers() -> NDArray[np.float32]:
    """The constants of `edge_strips` in the order of the kernel's struct `Numbers`."""
    gauss = np.zeros((len(NEAR_STRETCHES) + len(FAR_STRETCHES), _ROOM))
    steps = np.arange(-STEPS, STEPS + 1) * (CUT / STEPS)
    for row, stretch in zip(gauss, (*NEAR_STRETCHES, *FAR_STRETCHES), strict=True):
        longest = STRETCHES[3] if stretch in FAR_STRETCHES else STRETCHES[2]
        row[: len(steps)] = np.exp(-((steps * longest / stretch) ** 2) / 2)
    first = (CUT / STEPS, FIRST_WINDOW_PX, WINDOW_PX, JUMP_PX, TURNED, FAINT, *RIDGE)
    rest = (LEAST_SPREAD_PX2, SHARE_OF_INDEPENDENT, STRETCHES[2], STRETCHES[3])
    return np.array((*first, *rest, *gauss.ravel()), np.float32)
