"""The warp of one photo, at whatever resolution and wherever it is asked for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from warp_train.geometry import IDENTITY_PARAMS, apply_lens


@dataclass(frozen=True)
class PhotoWarp:
    """A lens and, perhaps, a residual on top of it, both in units of the upright photo's frame."""

    params: Tensor
    """`[8]` float64, in the order of `PARAM_NAMES`."""
    residual: Tensor | None = None
    """`[Hr, Wr, 2]` float32 displacements in grid units, spread over the whole frame."""
    doubt: float | None = None
    """The mean end-point error that the model expects of it, in % of the half diagonal; None where
    nobody said."""

    @property
    def is_identity(self) -> bool:
        """Whether it leaves every pixel where it is, exactly."""
        still = self.residual is None or not self.residual.any()
        return still and bool((self.params == self.params.new_tensor(IDENTITY_PARAMS)).all())

    def sources(self, points: Tensor, height: int, width: int) -> Tensor:
        """Where corrected `points [h, w, 2]` are read in a photo of `height` × `width`.

        Points and result are in grid units of that frame; points may lie outside it, where the
        residual is that of the border. The dtype is that of `points`.
        """
        lens = apply_lens(points[None], self.params[None].to(points.dtype), height, width)[0]
        return lens if self.residual is None else lens + self.residual_at(points)

    def residual_at(self, points: Tensor) -> Tensor:
        """The residual at `points [h, w, 2]`, in grid units; zeros where there is none."""
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
    """Grid coordinates of some rows of pixel centres of a frame, `[h, W, 2]`."""
    x = torch.linspace(-1, 1, width, dtype=torch.float64)
    y = torch.linspace(-1, 1, height, dtype=torch.float64)[rows]
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).to(dtype)
