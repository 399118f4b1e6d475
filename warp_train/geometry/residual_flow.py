"""The residual flow: small, smooth displacements on a coarse grid of their own."""

import torch.nn.functional as F
from torch import Tensor

from warp_train.geometry.coordinates import full_precision


@full_precision
def upsample_residual_flow(flow: Tensor, height: int, width: int) -> Tensor:
    """Brings a residual flow to full resolution.

    Args:
        flow: `[B, 2, Hr, Wr]` (or `[B, Hr, Wr, 2]`) displacements `(dx, dy)` in pixels of its own
            grid. A shape that fits both is read as channels first.
        height, width: the frame to fill.

    Returns:
        `[B, H, W, 2]` displacements in grid units: `dx · 2/(Wr-1)`, `dy · 2/(Hr-1)`.
    """
    channels_first = flow if flow.shape[1] == 2 else flow.permute(0, 3, 1, 2)
    rows, columns = channels_first.shape[-2:]
    full = F.interpolate(channels_first, (height, width), mode="bilinear", align_corners=True)
    unit = flow.new_tensor((2 / max(columns - 1, 1), 2 / max(rows - 1, 1)))
    return full.permute(0, 2, 3, 1) * unit
