"""What two sections of a recipe must agree on."""

from collections.abc import Iterator
from typing import Literal

from warp_train.losses.config import LossConfig
from warp_train.models.config import ModelConfig
from warp_train.recipe.sections import OptimConfig, SchedulerConfig, ValidationConfig

Stage = Literal["stage1_param_only", "stage2_hybrid", "stage3_finetune"]

RESIDUAL_WEIGHTS = ("flow_tv_weight", "flow_mag_weight", "flow_curv_weight", "jacobian_weight")

Conflict = tuple[tuple[str, ...], str]
"""The key to change, and what is wrong with it."""


def conflicts(
    stage: Stage,
    model: ModelConfig,
    loss: LossConfig,
    optim: OptimConfig,
    scheduler: SchedulerConfig,
    validation: ValidationConfig,
) -> Iterator[Conflict]:
    """Everything in a recipe that contradicts another of its sections."""
    yield from _losses_of_another_stage(stage, loss)
    if model.pretrained and model.backbone == "tiny":
        message = (
            "true is not allowed with model.backbone tiny (resnet34 and resnet50 have weights)"
        )
        yield ("model", "pretrained"), message
    if stage == "stage1_param_only" and optim.residual_lr is not None:
        message = f"{optim.residual_lr:g} is not allowed in stage1_param_only (must be null)"
        yield ("optim", "residual_lr"), f"{message}, which has no residual flow"
    lr, min_lr = optim.lr, scheduler.min_lr
    if min_lr > lr:
        yield ("scheduler", "min_lr"), f"{min_lr:g} is not allowed (must be <= optim.lr, {lr:g})"
    if validation.every_epochs is None and validation.every_steps is None:
        yield ("validate",), "every_epochs and every_steps are both null (one must be set)"


def _losses_of_another_stage(stage: Stage, loss: LossConfig) -> Iterator[Conflict]:
    weights = {name: getattr(loss, name) for name in RESIDUAL_WEIGHTS}
    if stage == "stage1_param_only":
        for name, weight in weights.items():
            if weight > 0:
                message = (
                    f"{weight:g} is not allowed in stage1_param_only, which has no residual flow"
                    " (must be 0)"
                )
                yield ("loss", name), message
    elif weights["flow_tv_weight"] == weights["flow_mag_weight"] == 0:
        message = (
            f"{stage} needs flow_tv_weight or flow_mag_weight > 0 (0.05 and 0.02 are usual);"
            " nothing else keeps the residual flow smooth and small"
        )
        yield ("loss",), message
