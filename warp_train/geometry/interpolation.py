"""Smooth fields from few values: interpolation along both axes as two matrix products."""

import functools

import torch
from torch import Tensor

from warp_train.geometry.coordinates import full_precision


@full_precision
def spread(field: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """`field [B, 2, h, w]` at every pixel, `[B, H, W, 2]`, by `down [H, h]` and `across [W, w]`.

    Few rows become many, so that this is several times faster than a formula or an interpolation
    pixel by pixel, forwards and backwards.
    """
    return (down @ (field @ across.T)).permute(0, 2, 3, 1)


@functools.lru_cache(maxsize=32)
def linear_weights(coarse: int, fine: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Linear interpolation along one axis, end on end, `[fine, coarse]`. Cached: read only."""
    with torch.inference_mode(False), torch.no_grad():
        place = torch.linspace(0, coarse - 1, fine, dtype=torch.float64)[:, None]
        weights = (1 - (place - torch.arange(coarse)).abs()).clamp_min(0)
        return weights.to(device, dtype)


@functools.lru_cache(maxsize=8)
def chebyshev_nodes(count: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Where a polynomial over -1 … 1 is best known, both ends included. Cached: read only."""
    with torch.inference_mode(False), torch.no_grad():
        return _nodes(count).to(device, dtype)


@functools.lru_cache(maxsize=32)
def polynomial_weights(count: int, fine: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """From values at the `count` nodes to `fine` pixels of -1 … 1, `[fine, count]`, by Lagrange.

    Exact for polynomials below degree `count`; rounding grows about twice. Cached: read only.
    """
    with torch.inference_mode(False), torch.no_grad():
        nodes = _nodes(count)
        place = torch.linspace(-1, 1, fine, dtype=torch.float64) if fine > 1 else torch.zeros(1)
        others = [torch.cat((nodes[:j], nodes[j + 1 :])) for j in range(count)]
        columns = [
            ((place[:, None] - rest) / (node - rest)).prod(1)
            for node, rest in zip(nodes, others, strict=True)
        ]
        return torch.stack(columns, dim=1).to(device, dtype)


def _nodes(count: int) -> Tensor:
    return -torch.cos(torch.linspace(0, torch.pi, count, dtype=torch.float64))
