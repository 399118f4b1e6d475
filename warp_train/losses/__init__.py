"""What a training minimises: image terms, regularisers of the warp, and their composite."""

from warp_train.losses.composite import CompositeLoss
from warp_train.losses.config import LossConfig
from warp_train.losses.flow_regularizers import (
    flow_curvature,
    flow_magnitude,
    flow_total_variation,
)
from warp_train.losses.gradients import (
    GradientField,
    edge_loss,
    gradient_field,
    gradient_orientation_loss,
    line_orientation_loss,
)
from warp_train.losses.grid import grid_loss
from warp_train.losses.jacobian import jacobian_loss
from warp_train.losses.pixel import charbonnier, l1, pixel_loss
from warp_train.losses.scales import luma, pyramid
from warp_train.losses.ssim import ssim_loss
from warp_train.losses.uncertainty import doubt_loss

__all__ = [
    "CompositeLoss",
    "GradientField",
    "LossConfig",
    "charbonnier",
    "doubt_loss",
    "edge_loss",
    "flow_curvature",
    "flow_magnitude",
    "flow_total_variation",
    "gradient_field",
    "gradient_orientation_loss",
    "grid_loss",
    "jacobian_loss",
    "l1",
    "line_orientation_loss",
    "luma",
    "pixel_loss",
    "pyramid",
    "ssim_loss",
]
