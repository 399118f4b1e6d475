"""The weighted sum that a stage minimises."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from warp_train.geometry import end_point_error_percent, full_precision, luma
from warp_train.losses.config import UNCERTAINTY, LossConfig
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
from warp_train.losses.pixel import pixel_loss
from warp_train.losses.scales import pyramid
from warp_train.losses.ssim import ssim_loss
from warp_train.losses.uncertainty import uncertainty_loss
from warp_train.runtime.errors import WarpTrainError

Terms = dict[str, Tensor]


class _MissingInputError(Exception):
    """An input that a term needs is None; the message is its name."""


@dataclass(frozen=True)
class _Inputs:
    """What the terms are computed from. Whatever several of them need is computed once."""

    config: LossConfig
    prediction: Tensor
    target: Tensor
    geometric: Mapping[str, Tensor | None]

    def given(self, name: str) -> Tensor:
        value = self.geometric[name]
        if value is None:
            raise _MissingInputError(name)
        return value

    @cached_property
    def grids(self) -> tuple[Tensor, Tensor]:
        """The final grid and the true one."""
        final, target = self.given("final_grid"), self.given("target_grid")
        _require_same_shape("target_grid", target, "final_grid", final)
        return final, target

    @property
    def error(self) -> Tensor:
        """End-point error `[B]` in % of the half diagonal, without gradient."""
        with torch.no_grad():
            return end_point_error_percent(*self.grids)

    @cached_property
    def differences(self) -> list[Tensor]:
        """Prediction minus target, level by level."""
        return pyramid(self.prediction - self.target, self.config.pyramid_levels)

    @cached_property
    def lumas(self) -> list[tuple[Tensor, Tensor]]:
        """The luma of prediction and target, level by level."""
        levels = self.config.pyramid_levels
        pyramids = (pyramid(luma(image), levels) for image in (self.prediction, self.target))
        return list(zip(*pyramids, strict=True))

    @cached_property
    def gradients(self) -> list[tuple[GradientField, GradientField]]:
        """The luma's gradients in prediction and target, level by level."""
        return [(gradient_field(x), gradient_field(y)) for x, y in self.lumas]


# To add a term: its function in its own file, a line here, and `<name>_weight` in `LossConfig`.
_TERMS: dict[str, Callable[[_Inputs], Tensor]] = {
    "pixel": lambda x: _mean(pixel_loss(d, x.config.pixel_kind) for d in x.differences),
    "ssim": lambda x: _mean(ssim_loss(*pair, x.config.ssim_window) for pair in x.lumas),
    "edge": lambda x: _mean(edge_loss(*pair) for pair in x.gradients),
    "line": lambda x: _mean(
        line_orientation_loss(*pair, x.config.line_window) for pair in x.gradients
    ),
    "grad_orient": lambda x: _mean(gradient_orientation_loss(*pair) for pair in x.gradients),
    "grid": lambda x: grid_loss(*x.grids, x.config.grid_kind),
    "flow_tv": lambda x: flow_total_variation(x.given("residual_flow")),
    "flow_mag": lambda x: flow_magnitude(x.given("residual_flow")),
    "flow_curv": lambda x: flow_curvature(x.given("residual_flow")),
    "jacobian": lambda x: jacobian_loss(x.given("final_grid"), x.config.jacobian_margin),
    UNCERTAINTY: lambda x: uncertainty_loss(x.given(UNCERTAINTY), x.error),
}


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
        uncertainty: Tensor | None = None,
    ) -> tuple[Tensor, Terms]:
        """The sum to minimise and the unweighted components, scalars with gradients with respect to
        predictions.

        Args:
            pred_image: `[B, 3, H, W]` in 0..1.
            target_image: the same shape; it gets no gradient.
            final_grid: `[B, H, W, 2]`, the warp that made `pred_image`.
            target_grid: the same shape, the true warp; not finite in samples where it is unknown.
            residual_flow: `[B, 2, h, w]` in pixels of its own grid.
            uncertainty: `[B]`, the predicted end-point error in % of the half diagonal. None for a
                warp that comes without one: the component `uncertainty` is then left out.

        Raises:
            WarpTrainError: an input that a weighted component needs is None, or shapes differ.
        """
        _require_same_shape("target_image", target_image, "pred_image", pred_image)
        geometric = {
            "final_grid": final_grid,
            "target_grid": target_grid,
            "residual_flow": residual_flow,
            UNCERTAINTY: uncertainty,
        }
        inputs = _Inputs(self.config, pred_image, target_image.detach(), geometric)
        left_out = {UNCERTAINTY} if uncertainty is None else set()
        names = [name for name in self.weights if name not in left_out]
        terms = {name: self._term(name, inputs) for name in names}
        return self._sum(terms), terms

    def warp_total(self, terms: Terms) -> Tensor:
        """`loss/total`: the weighted sum of the components that measure the warp, all of `terms`
        but `uncertainty`.

        That one measures the estimate of the warp's error instead. Without it, the totals of a
        network and of a warp that comes without an estimate can be compared.
        """
        return self._sum({name: term for name, term in terms.items() if name != UNCERTAINTY})

    def _sum(self, terms: Terms) -> Tensor:
        return torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()

    def _term(self, name: str, inputs: _Inputs) -> Tensor:
        try:
            return _TERMS[name](inputs)
        except _MissingInputError as missing:
            raise WarpTrainError(
                f"loss.{name}_weight is {self.weights[name]:g}, but there is no {missing} to "
                "compute it from: set it to 0, or use a stage and data that provide it"
            ) from None


def _mean(levels: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(levels)).mean()


def _require_same_shape(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    if tensor.shape != other.shape:
        raise WarpTrainError(
            f"{name} has shape {list(tensor.shape)}, but {other_name} has {list(other.shape)}"
        )
