"""Smooth fields from few values: interpolation along both axes as two matrix products."""

import functools

import torch
from torch import Tensor

from warp_train.geometry.coordinates import full_precision


@full_precision
def spread(field: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Interpolates `field [B, 2, h, w]` to every pixel, `[B, H, W, 2]`.

    The field is small, so two matrix products are several times faster, forwards and backwards,
    than evaluating a formula or interpolating at every pixel.

    Args:
        field: `[B, 2, h, w]`, x before y.
        down: `[H, h]` weights along the columns.
        across: `[W, w]` weights along the rows.
    """
    return (down @ (field @ across.T)).permute(0, 2, 3, 1)


@functools.lru_cache(maxsize=32)
def linear_weights(coarse: int, fine: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Weights of linear interpolation along one axis, `[fine, coarse]`. Cached: read only.

    The outermost values of both sides coincide.
    """
    with torch.inference_mode(False), torch.no_grad():
        place = torch.linspace(0, coarse - 1, fine, dtype=torch.float64)[:, None]
        weights = (1 - (place - torch.arange(coarse)).abs()).clamp_min(0)
        return weights.to(device, dtype)


@functools.lru_cache(maxsize=8)
def chebyshev_nodes(count: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """`[count]` Chebyshev points of the second kind on -1 … 1, ends included. Cached: read only.

    Polynomial interpolation from values at these points is well conditioned.
    """
    with torch.inference_mode(False), torch.no_grad():
        return _nodes(count).to(device, dtype)


@functools.lru_cache(maxsize=32)
def polynomial_weights(count: int, fine: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Weights from the `count` Chebyshev nodes to `fine` pixels on -1 … 1, `[fine, count]`.

    Lagrange interpolation: exact for polynomials below degree `count`. Rounding errors about
    double. Cached: read only.
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
