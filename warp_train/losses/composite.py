"""The weighted sum that a stage minimises."""

import torch
from torch import Tensor

from warp_train.geometry import full_precision, luma
from warp_train.losses.config import LossConfig
from warp_train.losses.flow_regularizers import (
    flow_curvature,
    flow_magnitude,
    flow_total_variation,
)
from warp_train.losses.gradients import (
    edge_loss,
    gradient_field,
    gradient_orientation_loss,
    line_orientation_loss,
)
from warp_train.losses.grid import grid_loss
from warp_train.losses.jacobian import jacobian_loss
from warp_train.losses.pixel import pixel_loss
from warp_train.losses.scales import pyramid
from warp_train.losses.ssim import ssim_loss
from warp_train.runtime.errors import WarpTrainError

Terms = dict[str, Tensor]

_GRADIENT_TERMS = {"edge", "line", "grad_orient"}
"""The components that share one Sobel per image and level."""


class CompositeLoss:
    """Computes the components whose weight is above 0, and their weighted sum.

    Everything is computed in float32 (float64 stays) outside autocast, finite for any finite
    input of any size, and nothing is copied to the host. Every component is a mean of per-sample
    values, so its mean over processes with equal batches is that of the global batch.
    """

    def __init__(self, config: LossConfig) -> None:
        self.config = config
        self.weights = config.weights

    @full_precision
    def __call__(
        self,
        pred_image: Tensor,
        target_image: Tensor,
        *,
        final_grid: Tensor | None,
        target_grid: Tensor | None = None,
        residual_flow: Tensor | None = None,
    ) -> tuple[Tensor, Terms]:
        """Total and unweighted components, scalars with gradients with respect to predictions.

        Args:
            pred_image: `[B, 3, H, W]` in 0..1.
            target_image: the same shape; it gets no gradient.
            final_grid: `[B, H, W, 2]`, the warp that made `pred_image`.
            target_grid: the same shape, the true warp; not finite in samples where it is unknown.
            residual_flow: `[B, 2, h, w]` in pixels of its own grid.

        Raises:
            WarpTrainError: an input that a weighted component needs is None, or shapes differ.
        """
        _require_same_shape("target_image", target_image, "pred_image", pred_image)
        terms = self._geometric_terms(final_grid, target_grid, residual_flow)
        terms |= self._image_terms(pred_image, target_image.detach())
        total = torch.stack([weight * terms[name] for name, weight in self.weights.items()]).sum()
        return total, {name: terms[name] for name in self.weights}

    def _image_terms(self, prediction: Tensor, target: Tensor) -> Terms:
        terms: Terms = {}
        levels = self.config.pyramid_levels
        if "pixel" in self.weights:
            differences = pyramid(prediction - target, levels)
            terms["pixel"] = _mean([pixel_loss(d, self.config.pixel_kind) for d in differences])
        if self.weights.keys() & {"ssim", *_GRADIENT_TERMS}:
            pairs = list(
                zip(pyramid(luma(prediction), levels), pyramid(luma(target), levels), strict=True)
            )
            terms |= self._luma_terms(pairs)
        return terms

    def _luma_terms(self, pairs: list[tuple[Tensor, Tensor]]) -> Terms:
        terms: Terms = {}
        if "ssim" in self.weights:
            window = self.config.ssim_window
            terms["ssim"] = _mean([ssim_loss(x, y, window) for x, y in pairs])
        if self.weights.keys() & _GRADIENT_TERMS:
            fields = [(gradient_field(x), gradient_field(y)) for x, y in pairs]
            if "edge" in self.weights:
                terms["edge"] = _mean([edge_loss(x, y) for x, y in fields])
            if "line" in self.weights:
                window = self.config.line_window
                terms["line"] = _mean([line_orientation_loss(x, y, window) for x, y in fields])
            if "grad_orient" in self.weights:
                terms["grad_orient"] = _mean([gradient_orientation_loss(x, y) for x, y in fields])
        return terms

    def _geometric_terms(
        self, final_grid: Tensor | None, target_grid: Tensor | None, flow: Tensor | None
    ) -> Terms:
        terms: Terms = {}
        if "grid" in self.weights:
            grid = self._given("grid", "final_grid", final_grid)
            truth = self._given("grid", "target_grid", target_grid)
            _require_same_shape("target_grid", truth, "final_grid", grid)
            terms["grid"] = grid_loss(grid, truth, self.config.grid_kind)
        if "flow_tv" in self.weights:
            terms["flow_tv"] = flow_total_variation(self._given("flow_tv", "residual_flow", flow))
        if "flow_mag" in self.weights:
            terms["flow_mag"] = flow_magnitude(self._given("flow_mag", "residual_flow", flow))
        if "flow_curv" in self.weights:
            terms["flow_curv"] = flow_curvature(self._given("flow_curv", "residual_flow", flow))
        if "jacobian" in self.weights:
            grid = self._given("jacobian", "final_grid", final_grid)
            terms["jacobian"] = jacobian_loss(grid, self.config.jacobian_margin)
        return terms

    def _given(self, component: str, name: str, value: Tensor | None) -> Tensor:
        if value is None:
            raise WarpTrainError(
                f"loss.{component}_weight is {self.weights[component]:g}, but there is no {name} "
                "to compute it from: set it to 0, or use a stage and data that provide it"
            )
        return value


def _mean(levels: list[Tensor]) -> Tensor:
    return torch.stack(levels).mean()


def _require_same_shape(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    if tensor.shape != other.shape:
        raise WarpTrainError(
            f"{name} has shape {list(tensor.shape)}, but {other_name} has {list(other.shape)}"
        )
