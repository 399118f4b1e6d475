from .composite import CompositeLoss
from .config import LossConfig
from .flow_regularizers import (
    flow_curvature,
    flow_magnitude,
    flow_total_variation,
)
from .gradients import (
    GradientField,
    edge_loss,
    gradient_field,
    gradient_orientation_loss,
    line_orientation_loss,
)
from .grid import grid_loss
from .jacobian import jacobian_loss
from .pixel import charbonnier, l1, pixel_loss
from .scales import pyramid
from .ssim import ssim_loss
from .uncertainty import uncertainty_loss

__all__ = [
    "CompositeLoss",
    "GradientField",
    "LossConfig",
    "charbonnier",
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
    "pixel_loss",
    "pyramid",
    "ssim_loss",
    "uncertainty_loss",
]
