"""The network: one photo in, one warp out."""

from typing import TypedDict

import torch
from torch import Tensor, nn

from warp_train.models.backbones import build_backbone
from warp_train.models.config import ModelConfig, TrainedOn
from warp_train.models.coord_channels import NUM_COORD_CHANNELS, coord_channels
from warp_train.models.heads_parametric import ParametricHead
from warp_train.models.heads_residual import ResidualHead, no_flow
from warp_train.models.line_channels import NUM_LINE_CHANNELS, line_channels

_RGB_MEAN = (0.485, 0.456, 0.406)  # ImageNet's, which pretrained ResNets expect
_RGB_STD = (0.229, 0.224, 0.225)


class Prediction(TypedDict):
    """What the network says of a batch of photos."""

    params: Tensor
    """`[B, 8]`, in the order of `PARAM_NAMES`, within their bounds."""
    params_raw: Tensor
    """`[B, 8]` before the bound: `params = identity + bound · tanh(params_raw)`."""
    residual_flow: Tensor
    """`[B, 2, Hr, Wr]` in pixels of its own grid; zeros while the residual is off."""
    debug_stats: dict[str, Tensor]
    """`effective_votes [B, 8]`."""


class HybridModel(nn.Module):
    """A global lens and, when `residual_enabled`, a residual flow on top of it."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        config: ModelConfig | None = None,
        *,
        residual_enabled: bool = True,
        trained_on: TrainedOn | None = None,
    ) -> None:
        super().__init__()
        self.config = config or ModelConfig()
        self.residual_enabled = residual_enabled
        self.trained_on = trained_on
        backbone = build_backbone(self.config, 3 + NUM_COORD_CHANNELS, NUM_LINE_CHANNELS)
        self.backbone = backbone.module
        self.parametric_head = ParametricHead(backbone.channels, self.config.param_bounds)
        self.residual_head = ResidualHead(
            backbone.channels, backbone.stride, self.config.residual_max_disp
        )
        for name, value in (("mean", _RGB_MEAN), ("std", _RGB_STD)):
            self.register_buffer(name, torch.tensor(value).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Prediction:
        """Predicts the warp that straightens `image [B, 3, H, W]` in 0..1, of any size."""
        features = self.backbone(self._photo_channels(image), line_channels(image))
        lens = self.parametric_head(features)
        flow = self.residual_head(features) if self.residual_enabled else no_flow(image)
        return {
            "params": lens["params"],
            "params_raw": lens["params_raw"],
            "residual_flow": flow,
            "debug_stats": {"effective_votes": lens["effective_votes"]},
        }

    def _photo_channels(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        position = coord_channels(height, width, image.device)
        colour = (image.float() - self.mean) / self.std
        return torch.cat((colour, position.expand(len(image), -1, -1, -1)), dim=1)
