"""The warp of one photo, evaluated at any resolution and at any points."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from warp_train.geometry import IDENTITY_PARAMS, apply_lens, invert_lens

_INVERSION_STEPS = 50
_INVERTED = 1e-9
"""Largest movement, in grid units, of the last step of an inversion."""


@dataclass(frozen=True)
class PhotoWarp:
    """A lens and an optional residual that is added to it, both in the upright photo's frame."""

    params: Tensor
    """`[8]` float64, in the order of `PARAM_NAMES`."""
    residual: Tensor | None = None
    """`[Hr, Wr, 2]` float32 displacements in grid units, spread over the whole frame."""
    expected_error_pct: float | None = None
    """The mean end-point error that the model expects of its prediction, in % of the half diagonal;
    None if it is unknown."""

    @property
    def is_identity(self) -> bool:
        """Whether the warp maps every pixel exactly to itself."""
        still = self.residual is None or not self.residual.any()
        return still and bool((self.params == self.params.new_tensor(IDENTITY_PARAMS)).all())

    def sources(self, points: Tensor, height: int, width: int) -> Tensor:
        """Source positions `[h, w, 2]` of corrected `points [h, w, 2]` in a photo of this size.

        Points and source positions are in grid units of that frame. Points may lie outside it;
        there the residual of the border is used. The result has the dtype of `points`.
        """
        lens = apply_lens(points[None], self.params[None].to(points.dtype), height, width)[0]
        return lens if self.residual is None else lens + self.residual_at(points)

    def targets(self, points: Tensor, height: int, width: int) -> Tensor:
        """The inverse of `sources`: corrected positions of photo points, both `[h, w, 2]`.

        The lens is inverted by Newton's method, the residual by fixed-point iteration around it.
        Both converge for a warp that does not fold.
        """
        params = self.params[None].to(points.dtype)
        at = points
        for _ in range(_INVERSION_STEPS):
            before, lens_only = at, points - self.residual_at(at)
            at = invert_lens(lens_only[None], params, height, width)[0]
            if self.residual is None or (at - before).abs().max() < _INVERTED:
                break
        return at

    def residual_at(self, points: Tensor) -> Tensor:
        """The residual at `points [h, w, 2]`, in grid units; zeros for a warp without residual."""
        if self.residual is None:
            return torch.zeros_like(points)
        field = self.residual.to(points.dtype).permute(2, 0, 1)[None]
        read = F.grid_sample(
            field, points[None], mode="bilinear", padding_mode="border", align_corners=True
        )
        return read[0].permute(1, 2, 0)


def frame_points(
    height: int, width: int, rows: slice = slice(None), dtype: torch.dtype = torch.float32
) -> Tensor:
    """Grid coordinates `[h, W, 2]` of the pixel centres of a frame, or of some of its rows."""
    x = torch.linspace(-1, 1, width, dtype=torch.float64)
    y = torch.linspace(-1, 1, height, dtype=torch.float64)[rows]
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).to(dtype)
