"""The residual flow: small, smooth displacements on a coarse grid."""

from torch import Tensor

from warp_train.geometry.coordinates import full_precision
from warp_train.geometry.interpolation import linear_weights, spread


@full_precision
def upsample_residual_flow(flow: Tensor, height: int, width: int) -> Tensor:
    """Brings a residual flow to full resolution.

    Args:
        flow: `[B, 2, Hr, Wr]` (or `[B, Hr, Wr, 2]`) displacements `(dx, dy)` in pixels of the
            coarse grid. A shape that fits both is read as channels first.
        height, width: size of the full frame in pixels.

    Returns:
        `[B, H, W, 2]` displacements in grid units: `dx · 2/(Wr-1)`, `dy · 2/(Hr-1)`.
    """
    channels_first = flow if flow.shape[1] == 2 else flow.permute(0, 3, 1, 2)
    rows, columns = channels_first.shape[-2:]
    down = linear_weights(rows, height, flow.device, flow.dtype)
    across = linear_weights(columns, width, flow.device, flow.dtype)
    unit = flow.new_tensor((2 / max(columns - 1, 1), 2 / max(rows - 1, 1))).view(2, 1, 1)
    return spread(channels_first * unit, down, across)
