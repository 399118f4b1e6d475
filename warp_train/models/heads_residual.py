"""From features and line residuals to a small, smooth residual flow."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from warp_train.models.line_residuals import LINE_RESIDUAL_CHANNELS

RESIDUAL_STRIDE = 16
"""Input pixels per pixel of the residual's own grid."""

_HIDDEN = 48


class ResidualHead(nn.Module):
    """Predicts `tanh · max_disp` on a grid of 1/16 of the input. Untrained, it predicts zeros."""

    def __init__(self, channels: int, stride: int, max_disp: float) -> None:
        super().__init__()
        self.max_disp = max_disp
        self.join = nn.Conv2d(channels + LINE_RESIDUAL_CHANNELS, _HIDDEN, 1)
        self.near = nn.Conv2d(_HIDDEN, _HIDDEN, 3, padding=1)
        self.wide = nn.Conv2d(_HIDDEN, _HIDDEN, 3, padding=2, dilation=2)
        self.reduce = nn.Conv2d(_HIDDEN, _HIDDEN, 3, RESIDUAL_STRIDE // stride, 1)
        self.around = nn.Conv2d(_HIDDEN, _HIDDEN, 3, padding=1)
        self.flow = nn.Conv2d(_HIDDEN, 2, 3, padding=1)
        nn.init.zeros_(self.flow.weight)
        nn.init.zeros_(self.flow.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor, residuals: Tensor) -> Tensor:
        """`[B, C, h, w]` and `[B, LINE_RESIDUAL_CHANNELS, h, w]` → `[B, 2, Hr, Wr]` `(dx, dy)` in
        pixels of its own grid, float32."""
        with torch.autocast(features.device.type, enabled=False):
            hidden = self.join(torch.cat((features.float(), residuals), dim=1))
            for layer in (self.near, self.wide, self.reduce, self.around):
                hidden = layer(F.silu(hidden))
            return self.max_disp * torch.tanh(self.flow(F.silu(hidden)))


def no_flow(image: Tensor) -> Tensor:
    """The flow of a head that is not run: zeros `[B, 2, Hr, Wr]`."""
    rows, columns = (-(-side // RESIDUAL_STRIDE) for side in image.shape[-2:])
    return torch.zeros(len(image), 2, rows, columns, device=image.device)
