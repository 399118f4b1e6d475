"""The `model` section of a recipe."""

from typing import Annotated, Literal

from pydantic import AliasChoices, Field, field_validator

from warp_train.runtime.section import Section


class ParamBounds(Section):
    """Largest deviation of each lens parameter from the identity; the head cannot exceed it."""

    k1: float = Field(default=0.8, gt=0)
    """Quadratic radial term; a corner moves by up to this share of the half diagonal."""
    k2: float = Field(default=0.8, gt=0)
    """Quartic radial term."""
    k3: float = Field(default=0.5, gt=0)
    """Sextic radial term."""
    p1: float = Field(default=0.02, gt=0)
    """Vertical tangential term."""
    p2: float = Field(default=0.02, gt=0)
    """Horizontal tangential term."""
    dcx: float = Field(default=0.08, gt=0)
    """Horizontal offset of the optical centre, as a share of the half diagonal."""
    dcy: float = Field(default=0.08, gt=0)
    """Vertical offset of the optical centre, as a share of the half diagonal."""
    s: float = Field(default=0.4, gt=0, lt=1)
    """Zoom of the corrected frame about 1."""


class ModelConfig(Section):
    """Which network, how far its lens may go, and how much residual it may add."""

    backbone: Literal["tiny", "resnet34", "resnet50"] = "tiny"
    """`tiny` (0.2 M parameters, for CPUs and small data) or a torchvision ResNet."""
    pretrained: bool = False
    """Start a ResNet from torchvision's ImageNet weights; they are downloaded once."""
    sync_batch_norm: bool = True
    """Share batch statistics across GPUs in a ResNet. `tiny` has none to share."""
    param_bounds: ParamBounds = ParamBounds()
    """Largest deviation of each lens parameter from the identity."""
    edges: int = Field(default=1024, ge=64, le=8192)
    """Edges of a photo that are followed, the strongest first and at most one in 8 × 8 px: 64 …
    8192. More find more lines in photos with few of them; the time grows with their number."""
    level_camera: bool = True
    """Most photos are taken level, so upright and level lines also constrain the lens by where they
    point; the network learns for which photos that holds. False: by how they bend alone."""
    residual_max_disp: float = Field(default=1.0, gt=0, le=8)
    """Longest residual displacement along each axis, in pixels of the residual's own grid, which
    is 1/16 of the input's size: 1.0 is 16 px of the input."""


_Side = Annotated[int, Field(ge=1, le=8192)]  # frames of this size are built to run the network


UNCERTAINTY_FACTORS = 0.1, 10.0
"""Smallest and largest `TrainedOn.uncertainty_factor`."""


class TrainedOn(Section):
    """What a network was trained on, as far as running it depends on that."""

    stage: str = Field(pattern=r"^[\w.-]{1,64}$")
    """Newest stage of training."""
    size: tuple[_Side, _Side]
    """[height, width] of the frames that it saw."""
    shown: float = Field(default=1.0, ge=0.5, le=1)
    """Share of a photo's sides that a training frame showed, 0.5 … 1. Below 1, objects looked
    larger in training than they do in a whole photo of that size. Whole photos are then looked at
    larger, see `look`."""
    uncertainty_factor: float = Field(
        default=1.0,
        ge=UNCERTAINTY_FACTORS[0],
        le=UNCERTAINTY_FACTORS[1],
        validation_alias=AliasChoices("uncertainty_factor", "doubt_factor"),
    )
    """Mean ratio of errors on unseen samples to their predicted uncertainties, 0.1 … 10; for drawn
    scenes divided by `shown`. Networks underestimate their errors on samples that they were not
    trained on. Multiplying by this number, which each validation measures, corrects the mean
    (C. Guo et al., "On calibration of modern neural networks", 2017). Earlier versions
    wrote it as `doubt_factor`, and their weights are refused by name."""
    fixed_warp: tuple[float, ...] | None = Field(default=None, min_length=8, max_length=8)
    """The lens, in the order of `PARAM_NAMES`, that fits the median of the training warps best, or,
    where no warp was known, minimises the image terms of the loss: the control that a network has
    to beat. None where there was neither."""

    @property
    def look(self) -> tuple[int, int]:
        """(height, width) of a frame whose area a whole photo is scaled to for the network.

        Networks are most accurate on objects of the size that these had in training (H. Touvron et
        al., "Fixing the train-test resolution discrepancy", 2019).
        """
        height, width = (round(side / self.shown) for side in self.size)
        return height, width

    @field_validator("fixed_warp")
    @classmethod
    def _is_a_lens(cls, lens: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if lens is not None and lens[-1] <= 0:
            raise ValueError("the zoom s, the last of the eight, must be above 0")
        return lens
