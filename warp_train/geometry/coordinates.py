"""Coordinate conventions: grids, isotropic units, pixels, and floating-point precision.

A grid is `[..., 2]`, last axis `(x, y)`, in `grid_sample` coordinates with `align_corners=True`:
-1 and 1 are the centres of the outermost pixels. Isotropic units divide pixels from the centre by
half the diagonal, so that a circle stays a circle on any frame and a corner is at radius 1.
"""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")
Length = TypeVar("Length", float, Tensor)


def full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """Runs `function` outside autocast, with half-precision tensor arguments cast to float32.

    In a 2048 px frame a bfloat16 coordinate is off by several pixels. float64 stays float64.
    """

    def widened(value: object) -> object:
        if isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16):
            return value.float()
        return value

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        given = (*args, *kwargs.values())
        device = next((a.device.type for a in given if isinstance(a, Tensor)), "cpu")
        with torch.autocast(device_type=device, enabled=False):
            return function(
                *(widened(a) for a in args),  # type: ignore[arg-type]
                **{k: widened(v) for k, v in kwargs.items()},  # type: ignore[arg-type]
            )

    return wrapper


@functools.lru_cache(maxsize=64)
def identity_grid(
    height: int,
    width: int,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """The grid that reads every pixel at its own position, `[H, W, 2]`. Cached: read only.

    The only pixel of a side of length one is at 0.
    """
    with torch.inference_mode(False), torch.no_grad():
        x, y = (
            torch.linspace(-1, 1, n, device=device, dtype=dtype)
            if n > 1
            else torch.zeros(1, device=device, dtype=dtype)
            for n in (width, height)
        )
        return planes(*torch.meshgrid(x, y, indexing="xy"))


def planes(x: Tensor, y: Tensor) -> Tensor:
    """The grid `[..., H, W, 2]` of `x` and `y`, `[..., H, W]` each.

    In memory all of x comes before all of y. Nearly all code uses one coordinate at a time, and
    then reads contiguous memory.
    """
    return torch.stack((x, y), dim=-3).movedim(-3, -1)


def isotropic_scale(height: int, width: int) -> tuple[float, float]:
    """Factors `((W-1)/D, (H-1)/D)` from grid to isotropic units, `D = sqrt((W-1)² + (H-1)²)`.

    A side of one pixel counts as two, so that no factor is zero.
    """
    across, down = max(width - 1, 1), max(height - 1, 1)
    diagonal = (across**2 + down**2) ** 0.5
    return across / diagonal, down / diagonal


def half_diagonal(height: int, width: int) -> float:
    """Pixels per isotropic unit: half the distance between the centres of opposite corners."""
    return 0.5 * float((max(width - 1, 1) ** 2 + max(height - 1, 1) ** 2) ** 0.5)


@full_precision
def grid_to_pixels(grid: Tensor, height: int, width: int) -> Tensor:
    """Grid coordinates `[..., 2]` as pixel coordinates of a `height` × `width` frame."""
    return (grid + 1) * grid.new_tensor(((width - 1) / 2, (height - 1) / 2))


@full_precision
def end_point_error(grid: Tensor, target: Tensor) -> Tensor:
    """Mean distance between two grids `[B, H, W, 2]`, in pixels of that frame, as `[B]`."""
    height, width = grid.shape[1:3]
    off_x, off_y = (grid - target).unbind(-1)
    off_x, off_y = off_x * ((width - 1) / 2), off_y * ((height - 1) / 2)
    return (off_x.square() + off_y.square()).sqrt().mean(dim=(1, 2))


def end_point_error_percent(grid: Tensor, target: Tensor) -> Tensor:
    """`end_point_error` in % of the half diagonal: the same for a frame of any size."""
    return end_point_error(grid, target) * (100 / half_diagonal(*grid.shape[1:3]))


def percent_to_px(length: Length, height: int, width: int) -> Length:
    """A length in % of the half diagonal as pixels of a `height` × `width` frame."""
    return length * (half_diagonal(height, width) / 100)
