"""Checks of keys in different sections that must be consistent."""

from collections.abc import Iterator
from typing import Literal

from warp_train.losses.config import LossConfig
from warp_train.models.config import ModelConfig
from warp_train.recipe.sections import OptimConfig, SchedulerConfig, ValidationConfig

Stage = Literal["stage1_param_only", "stage2_hybrid", "stage3_finetune"]

RESIDUAL_WEIGHTS = ("flow_tv_weight", "flow_mag_weight", "flow_curv_weight", "jacobian_weight")

Conflict = tuple[tuple[str, ...], str]
"""The path of the key to change, and the message without that key."""


def conflicts(
    stage: Stage,
    model: ModelConfig,
    loss: LossConfig,
    optim: OptimConfig,
    scheduler: SchedulerConfig,
    validation: ValidationConfig,
) -> Iterator[Conflict]:
    """The contradictions between a recipe's sections, one after the other."""
    yield from _losses_of_another_stage(stage, loss)
    if model.pretrained and model.backbone == "tiny":
        message = (
            "true is not allowed with model.backbone tiny (only resnet34 and resnet50 have"
            " pretrained weights)"
        )
        yield ("model", "pretrained"), message
    if stage == "stage1_param_only" and optim.residual_lr is not None:
        message = f"{optim.residual_lr:g} is not allowed in stage1_param_only (must be null)"
        yield ("optim", "residual_lr"), f"{message}, since that stage has no residual flow"
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
                    f"{weight:g} is not allowed in stage1_param_only (must be 0), since that stage"
                    " has no residual flow"
                )
                yield ("loss", name), message
    elif weights["flow_tv_weight"] == weights["flow_mag_weight"] == 0:
        message = (
            f"{stage} needs flow_tv_weight or flow_mag_weight > 0 (0.05 and 0.02 are usual),"
            " which keep the residual flow smooth and small"
        )
        yield ("loss",), message
