"""The `loss` section of a recipe."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from warp_train.runtime.section import Section

GridLossKind = Literal["epe", "squared", "balanced"]
Weight = Annotated[float, Field(ge=0)]
Window = Annotated[int, Field(ge=2, le=64, multiple_of=2)]


IMAGE_TERMS = ("pixel", "ssim", "edge", "line", "grad_orient")
"""The components that compare the corrected photo with its target."""
UNCERTAINTY = "uncertainty"
"""The component that measures the predicted uncertainty. All others measure the warp."""


class LossConfig(Section):
    """The weighted sum that training minimises. A term of weight 0 is not computed."""

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
    diagonal. Samples with an unknown warp add 0. It covers every pixel, unlike the image terms,
    which are informative near edges only."""

    flow_tv_weight: Weight = 0.0
    """Weight (>= 0) of the residual flow's total variation: favours piecewise constant flow."""

    flow_mag_weight: Weight = 0.0
    """Weight (>= 0) of the residual flow's squared length: keeps the flow small, so that the lens
    explains what it can."""

    flow_curv_weight: Weight = 0.0
    """Weight (>= 0) of the residual flow's bending energy: keeps the flow smooth; affine flow costs
    nothing."""

    jacobian_weight: Weight = 0.0
    """Weight (>= 0) of the fold-over penalty on the final grid."""

    uncertainty_weight: Weight = 1.0
    """Weight (>= 0) of the mismatch between predicted uncertainty and end-point error, where the
    warp is known. It trains the uncertainty only and does not change the warp, so it is logged as
    `loss/uncertainty` and is not part of `loss/total`. 0: the uncertainty is not trained."""

    image_terms: Literal["always", "without_warps"] = "always"
    """When the image terms (`pixel`, `ssim`, `edge`, `line`, `grad_orient`) count. `always`;
    `without_warps`: only in a run in which the warps of pairs are unknown. They add little where
    all warps are known, and take half of the time."""

    grid_kind: GridLossKind = "epe"
    """`epe`: the mean distance, which is also the reported metric; `squared`: its square, dominated
    by strongly bent samples; `balanced`: the distance divided by the square root of each sample's
    bend, so that weak and strong lenses count alike."""

    pixel_kind: Literal["l1", "charbonnier"] = "l1"
    """`l1`, or `charbonnier`: its smooth form, quadratic below a quarter of an 8-bit step."""

    pyramid_levels: Annotated[int, Field(ge=1, le=8)] = 3
    """Scales (1 to 8) of the image terms, each half the one before. With more levels, edges that
    are further apart still attract each other; small frames have fewer levels."""

    ssim_window: Window = 8
    """Side in pixels (even, 2 to 64) of the patches that SSIM compares."""

    line_window: Window = 8
    """Side in pixels (even, 2 to 64) of the patches whose line orientation is compared. Larger
    ones contain longer lines, but mix more of them."""

    jacobian_margin: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Relative cell area (0 to 1, below 1) below which the fold-over penalty starts. With 0 only
    folds are penalised; the cells of the identity have area 1."""

    @property
    def weights(self) -> dict[str, float]:
        """The weights above 0 by component name, in the order of the fields."""
        named = {
            name.removesuffix("_weight"): float(getattr(self, name))
            for name in type(self).model_fields
            if name.endswith("_weight")
        }
        return {name: weight for name, weight in named.items() if weight > 0}

    def used(self, *, warps_known: bool) -> "LossConfig":
        """The weights for a run in which all warps are known, or not; see `image_terms`."""
        if self.image_terms == "always" or not warps_known:
            return self
        return self.model_copy(update={f"{name}_weight": 0.0 for name in IMAGE_TERMS})

    @model_validator(mode="after")
    def _trains_something(self) -> "LossConfig":
        if not self.weights.keys() - {UNCERTAINTY}:
            raise ValueError(
                "at least one of the *_weight keys other than uncertainty_weight must be above 0"
            )
        if self.image_terms == "without_warps" and not self.grid_weight:
            raise ValueError("image_terms 'without_warps' needs a grid_weight above 0")
        return self
