"""The two built-in warp backends: the real warp, and one that returns its input."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from torch import Tensor

from warp_train.geometry import (
    build_parametric_grid,
    fuse_grids,
    identity_grid,
    jacobian_stats,
    upsample_residual_flow,
    warp_image,
)
from warp_train.recipe.sections import WarpConfig
from warp_train.training.protocols import BackendOutput, WarpBackend


class _GridStats(Mapping[str, Tensor]):
    """`jacobian_stats` of a grid, computed at the first access: few steps are logged."""

    def __init__(self, grid: Tensor) -> None:
        self._grid = grid

    @cached_property
    def _stats(self) -> dict[str, Tensor]:
        return jacobian_stats(self._grid)

    def __getitem__(self, name: str) -> Tensor:
        return self._stats[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._stats)

    def __len__(self) -> int:
        return len(self._stats)


@dataclass(frozen=True)
class GeometryBackend:
    """Lens grid plus residual, fused, and the photo resampled once; fp32 under autocast."""

    mode: Literal["bilinear", "bicubic"]
    padding_mode: Literal["border", "zeros", "reflection"]

    def warp(self, image: Tensor, params: Tensor, residual_flow: Tensor | None) -> BackendOutput:
        height, width = image.shape[-2:]
        param_grid = build_parametric_grid(params, height, width)
        out: BackendOutput = {
            "pred_image": image,
            "warp_stats": {},
            "final_grid": param_grid,
            "param_grid": param_grid,
        }
        if residual_flow is not None:
            residual = upsample_residual_flow(residual_flow, height, width)
            out["residual_flow_fullres_norm"] = residual
            out["final_grid"] = fuse_grids(param_grid, residual)
        out["pred_image"] = warp_image(image, out["final_grid"], self.mode, self.padding_mode)
        out["warp_stats"] = _GridStats(out["final_grid"].detach())
        return out


@dataclass(frozen=True)
class MockBackend:
    """Returns the photo unchanged, to test everything around the warp.

    The outputs depend on the network's with a factor of 0, so that a backward pass works.
    """

    def warp(self, image: Tensor, params: Tensor, residual_flow: Tensor | None) -> BackendOutput:
        nothing = 0.0 * params.float().sum()
        if residual_flow is not None:
            nothing = nothing + 0.0 * residual_flow.float().sum()
        identity = identity_grid(*image.shape[-2:], image.device)
        grid = identity.expand(len(image), -1, -1, -1) + nothing
        return {
            "pred_image": image.float() + nothing,
            "warp_stats": _GridStats(grid.detach()),
            "final_grid": grid,
        }


def get_backend(warp: WarpConfig) -> WarpBackend:
    """The backend that the `warp` section of a recipe names."""
    if warp.backend == "mock":
        return MockBackend()
    return GeometryBackend(warp.mode, warp.padding_mode)
