"""The network: one photo in, one warp out."""

from typing import TypedDict

from torch import Tensor, nn

from warp_train.models.backbones import build_backbone
from warp_train.models.config import ModelConfig, TrainedOn
from warp_train.models.edges import measure_edges
from warp_train.models.evidence import RADIAL_TERMS
from warp_train.models.heads_parametric import Observation, ParametricHead
from warp_train.models.heads_residual import ResidualHead, no_flow
from warp_train.models.line_residuals import line_residual_map, line_residuals


class Prediction(TypedDict):
    """The network's output for a batch of photos."""

    params: Tensor
    """`[B, 8]`, in the order of `PARAM_NAMES`, within their bounds."""
    params_raw: Tensor
    """`[B, 8]` before the bound: `params = identity + bound · tanh(params_raw)`."""
    residual_flow: Tensor
    """`[B, 2, Hr, Wr]` in pixels of its own grid; zeros while the residual is off."""
    uncertainty: Tensor
    """`[B]`: the expected mean end-point error of this prediction, in % of the half diagonal. For
    photos outside the training set it must be multiplied by `HybridModel.uncertainty_factor`."""
    debug_stats: dict[str, Tensor]
    """`effective_votes [B, 8]`."""


class HybridModel(nn.Module):
    """A global lens and, when `residual_enabled`, a residual flow on top of it."""

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
        backbone = build_backbone(self.config)
        self.backbone = backbone.module
        self.stride = backbone.stride
        self.parametric_head = ParametricHead(
            backbone.channels,
            backbone.stride,
            self.config.param_bounds,
            level_camera=self.config.level_camera,
        )
        self.residual_head = ResidualHead(
            backbone.channels, backbone.stride, self.config.residual_max_disp
        )

    @property
    def uncertainty_factor(self) -> float:
        """`TrainedOn.uncertainty_factor`; 1 for weights without a record of their training."""
        return self.trained_on.uncertainty_factor if self.trained_on else 1.0

    def forward(self, image: Tensor) -> Prediction:
        """Predicts the warp that straightens `image [B, 3, H, W]` in 0..1, of any size."""
        return self.look(image)[0]

    def look(self, image: Tensor) -> tuple[Prediction, Observation]:
        """The prediction, and what `image` shows of its lens, for photos that share one."""
        height, width = image.shape[-2:]
        edges = measure_edges(image, self.config.edges)
        features = self.backbone(image, edges)
        seen = self.parametric_head.observe(features, edges)
        lens = self.parametric_head.predict(seen, (height, width))
        params, pencils = lens.pop("params"), lens.pop("pencils")
        if self.residual_enabled:
            by_edge = line_residuals(edges, params[:, :RADIAL_TERMS], pencils)
            residuals = line_residual_map(by_edge, edges, self.stride, features.shape[-2:])
            flow = self.residual_head(features, residuals)
        else:
            flow = no_flow(image)
        prediction: Prediction = {
            "params": params,
            "params_raw": lens.pop("params_raw"),
            "residual_flow": flow,
            "uncertainty": lens.pop("uncertainty"),
            "debug_stats": lens,
        }
        return prediction, seen
