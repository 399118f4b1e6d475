"""The `loss` section of a recipe."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from warp_train.runtime.section import Section

GridLossKind = Literal["epe", "squared", "balanced"]
Weight = Annotated[float, Field(ge=0)]
Window = Annotated[int, Field(ge=2, le=64, multiple_of=2)]


UNCERTAINTY = "uncertainty"
"""The component that measures the predicted uncertainty. All others measure the warp."""


class LossConfig(Section):
    """What the training minimises: a weighted sum. A term of weight 0 is not computed."""

    pixel_weight: Weight = 0.05
    """Weight (>= 0) of the colour difference. High values tune shading rather than geometry."""

    ssim_weight: Weight = 0.15
    """Weight (>= 0) of 1 - SSIM on luma: local structure, whatever its contrast."""

    edge_weight: Weight = 0.40
    """Weight (>= 0) of the Sobel magnitude difference on luma: edges in the right place."""

    line_weight: Weight = 0.22
    """Weight (>= 0) of the orientation of lines, patch by patch: straight where the target is."""

    grad_orient_weight: Weight = 0.18
    """Weight (>= 0) of the gradient's orientation, pixel by pixel, on the target's edges."""

    grid_weight: Weight = 0.0
    """Weight (>= 0) of the end-point error against the known warp, in percent of the half
    diagonal. Samples whose warp is unknown add nothing. It sees every pixel, not edges alone."""

    flow_tv_weight: Weight = 0.0
    """Weight (>= 0) of the residual flow's total variation: favours piecewise constant flow."""

    flow_mag_weight: Weight = 0.0
    """Weight (>= 0) of the residual flow's squared length: leaves to the lens what it can do."""

    flow_curv_weight: Weight = 0.0
    """Weight (>= 0) of the residual flow's bending energy: smooth flow, affine flow is free."""

    jacobian_weight: Weight = 0.0
    """Weight (>= 0) of the fold-over penalty on the final grid."""

    uncertainty_weight: Weight = 1.0
    """Weight (>= 0) of how well the predicted uncertainty fits the end-point error, where the warp
    is known. It trains that prediction alone and leaves the warp as it is, so it is logged as
    `loss/uncertainty` and not part of `loss/total`. 0: the uncertainty is not trained."""

    grid_kind: GridLossKind = "epe"
    """`epe`: the distance itself, what is reported; `squared`: its square, which follows the
    strongly bent samples; `balanced`: the distance over the root of each sample's own bend, so that
    weak and strong lenses are learned alike."""

    pixel_kind: Literal["l1", "charbonnier"] = "l1"
    """`l1`, or `charbonnier`: its smooth form, quadratic below a quarter of an 8-bit step."""

    pyramid_levels: Annotated[int, Field(ge=1, le=8)] = 3
    """Scales (1 to 8) of the image terms, each half the one before. More levels pull together
    edges that lie further apart; small frames have fewer."""

    ssim_window: Window = 8
    """Side in pixels (even, 2 to 64) of the patches that SSIM compares."""

    line_window: Window = 8
    """Side in pixels (even, 2 to 64) of the patches whose line orientation is compared. Larger
    ones see longer lines and mix more of them."""

    jacobian_margin: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Relative cell area (0 to 1, below 1) under which the fold-over penalty sets in. 0 punishes
    folds only; the identity's cells have area 1."""

    @property
    def weights(self) -> dict[str, float]:
        """The weights above 0 by component name, in the order of the fields."""
        named = {
            name.removesuffix("_weight"): float(getattr(self, name))
            for name in type(self).model_fields
            if name.endswith("_weight")
        }
        return {name: weight for name, weight in named.items() if weight > 0}

    @model_validator(mode="after")
    def _trains_something(self) -> "LossConfig":
        if not self.weights.keys() - {UNCERTAINTY}:
            raise ValueError(
                "at least one of the *_weight keys other than uncertainty_weight must be above 0"
            )
        return self
