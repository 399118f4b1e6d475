"""Feature extractors. To add one: a function here, a name in `ModelConfig.backbone`."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from warp_train.models.config import ModelConfig
from warp_train.models.coord_channels import NUM_COORD_CHANNELS, coord_channels
from warp_train.models.edge_points import CELL_PX
from warp_train.models.edge_weights import EDGE_FEATURES, edge_map
from warp_train.models.edges import Edges
from warp_train.models.line_channels import NUM_LINE_CHANNELS, line_channels
from warp_train.runtime.errors import WarpTrainError

TINY_CHANNELS = 64

_PHOTO_CHANNELS = 3 + NUM_COORD_CHANNELS
_RGB_MEAN = (0.485, 0.456, 0.406)  # ImageNet's, which pretrained ResNets expect
_RGB_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Backbone:
    """A module `(image [B, 3, H, W] in 0..1, edges) → [B, channels, ⌈H/stride⌉, ⌈W/stride⌉]`."""

    module: nn.Module
    channels: int
    stride: int


def build_backbone(config: ModelConfig) -> Backbone:
    """The backbone that a recipe names."""
    return _BUILDERS[config.backbone](config)


class ColourAndPlace(nn.Module):
    """A photo normalised as pretrained ResNets expect it, with its coordinate channels."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, value in (("mean", _RGB_MEAN), ("std", _RGB_STD)):
            self.register_buffer(name, torch.tensor(value).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """`[B, 3, H, W]` in 0..1 → `[B, 6, H, W]`."""
        place = coord_channels(*image.shape[-2:], image.device)
        colour = (image.float() - self.mean) / self.std
        return torch.cat((colour, place.expand(len(image), -1, -1, -1)), dim=1)


class Tiny(nn.Module):
    """Few features of the photo at half its resolution, joined with its edges where these lie."""

    def __init__(self) -> None:
        super().__init__()
        self.input = ColourAndPlace()
        # Group norm looks at one sample at a time: the result does not depend on how a batch is
        # split. SiLU, since the jumps of ReLU's slope would turn rounding into another training.
        self.photo = nn.Sequential(
            *(nn.Conv2d(_PHOTO_CHANNELS, 24, 3, 2, 1), nn.SiLU()),
            *(nn.Conv2d(24, 48, 3, 2, 1), nn.GroupNorm(8, 48), nn.SiLU()),
            nn.Conv2d(48, TINY_CHANNELS, 1),
        )
        self.edges = nn.Conv2d(EDGE_FEATURES, TINY_CHANNELS, 1)
        self.body = nn.Sequential(
            ResidualBlock(TINY_CHANNELS), ResidualBlock(TINY_CHANNELS, dilation=2), nn.SiLU()
        )

    def forward(self, image: Tensor, edges: Edges) -> Tensor:
        half = F.avg_pool2d(image, 2, ceil_mode=True, count_include_pad=False)
        photo = self.photo(self.input(half))
        out: Tensor = self.body(photo + self.edges(edge_map(edges, *image.shape[-2:])))
        return out


class LineResNet(nn.Module):
    """A ResNet without its last stage, whose input is the photo and line channels."""

    def __init__(self, photo: nn.Conv2d, lines: nn.Conv2d, body: nn.Sequential) -> None:
        super().__init__()
        self.input = ColourAndPlace()
        self.photo = photo
        self.lines = lines
        self.body = body

    def forward(self, image: Tensor, edges: Edges) -> Tensor:
        del edges  # weighed by the head; here they would be too sparse for 7 × 7 filters
        out: Tensor = self.body(self.photo(self.input(image)) + self.lines(line_channels(image)))
        return out


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut (He et al., 2016, pre-activation)."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv2(F.silu(self.norm(self.conv1(F.silu(x)))))
        return out


def _tiny(config: ModelConfig) -> Backbone:
    del config
    return Backbone(Tiny(), TINY_CHANNELS, CELL_PX)


def _resnet(name: str, channels: int) -> Callable[[ModelConfig], Backbone]:
    def build(config: ModelConfig) -> Backbone:
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
        lines = nn.Conv2d(NUM_LINE_CHANNELS, resnet.conv1.out_channels, 3, 1, 1, bias=False)
        return Backbone(
            LineResNet(_widen(resnet.conv1, _PHOTO_CHANNELS), lines, body), channels, 16
        )

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


_BUILDERS: dict[str, Callable[[ModelConfig], Backbone]] = {
    "tiny": _tiny,
    "resnet34": _resnet("resnet34", 256),
    "resnet50": _resnet("resnet50", 1024),
}
