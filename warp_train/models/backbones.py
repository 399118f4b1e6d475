"""Feature extractors. To add one: a function here, a name in `ModelConfig.backbone`."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from warp_train.errors import WarpTrainError
from warp_train.models.config import ModelConfig


@dataclass(frozen=True)
class Backbone:
    """A module `(photo [B, P, H, W], lines [B, L, H/2, W/2]) → [B, channels, H/stride, …]`."""

    module: nn.Module
    channels: int
    stride: int


def build_backbone(config: ModelConfig, photo_channels: int, line_channels: int) -> Backbone:
    """The backbone that a recipe names; the first three photo channels are RGB."""
    return _BUILDERS[config.backbone](config, photo_channels, line_channels)


class TwoInputs(nn.Module):
    """A first layer for the photo, one for its lines at half the resolution, and what follows."""

    def __init__(self, photo: nn.Conv2d, lines: nn.Conv2d, body: nn.Sequential) -> None:
        super().__init__()
        self.photo = photo
        self.lines = lines
        self.body = body

    def forward(self, photo: Tensor, lines: Tensor) -> Tensor:
        out: Tensor = self.body(self.photo(photo) + self.lines(lines))
        return out


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut (He et al., 2016, pre-activation)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv2(F.relu(self.norm(self.conv1(F.relu(x)))))
        return out


def _tiny(config: ModelConfig, photo_channels: int, line_channels: int) -> Backbone:
    # Group norm looks at one sample at a time: the result does not depend on how a batch is split.
    del config
    body = nn.Sequential(
        nn.ReLU(),
        *(nn.Conv2d(48, 64, 3, 2, 1), nn.GroupNorm(8, 64), nn.ReLU()),
        *(nn.Conv2d(64, 96, 3, 2, 1), nn.GroupNorm(8, 96), nn.ReLU()),
        *(ResidualBlock(96), nn.ReLU()),
    )
    photo, lines = nn.Conv2d(photo_channels, 48, 3, 2, 1), nn.Conv2d(line_channels, 48, 3, 1, 1)
    return Backbone(TwoInputs(photo, lines, body), 96, 8)


def _resnet(name: str, channels: int) -> Callable[[ModelConfig, int, int], Backbone]:
    def build(config: ModelConfig, photo_channels: int, line_channels: int) -> Backbone:
        resnet = _torchvision_resnet(name, config.pretrained)
        # Without the last stage: at its stride of 32 few locations are left to vote.
        body = nn.Sequential(
            resnet.bn1,
            resnet.relu,
            resnet.maxpool,
            resnet.layer1,
            resnet.layer2,
            resnet.layer3,
        )
        lines = nn.Conv2d(line_channels, resnet.conv1.out_channels, 3, 1, 1, bias=False)
        return Backbone(TwoInputs(_widen(resnet.conv1, photo_channels), lines, body), channels, 16)

    return build


def _torchvision_resnet(name: str, pretrained: bool) -> torchvision.models.ResNet:
    build = getattr(torchvision.models, name)
    if not pretrained:
        return build(weights=None)
    weights = torchvision.models.get_model_weights(name).DEFAULT
    try:
        return build(weights=weights)
    except (OSError, RuntimeError) as error:  # URLError is an OSError; a bad hash a RuntimeError
        raise WarpTrainError(
            f"model.pretrained: torchvision's weights for {name} are not on this machine and could "
            f"not be downloaded ({error}); set model.pretrained=false, or download {weights.url} "
            f"into {torch.hub.get_dir()}/checkpoints"
        ) from error


def _widen(conv: nn.Conv2d, in_channels: int) -> nn.Conv2d:
    """The first layer with room for further channels; they start small beside RGB."""
    wide = nn.Conv2d(in_channels, conv.out_channels, 7, 2, 3, bias=False)
    with torch.no_grad():
        wide.weight[:, 3:] *= 0.1
        wide.weight[:, :3] = conv.weight
    return wide


_BUILDERS: dict[str, Callable[[ModelConfig, int, int], Backbone]] = {
    "tiny": _tiny,
    "resnet34": _resnet("resnet34", 256),
    "resnet50": _resnet("resnet50", 1024),
}
