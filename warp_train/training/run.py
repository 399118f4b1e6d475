"""The state of one stage of training, and how it is built, restored and saved."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from warp_train.data import Batch
from warp_train.losses import CompositeLoss
from warp_train.models import (
    HybridModel,
    TrainedOn,
    load_weights,
    model_description,
)
from warp_train.recipe import Recipe
from warp_train.runtime.locks import Lock
from warp_train.training.bad_samples import BadSamples
from warp_train.training.checkpoints.folder import (
    find_checkpoint,
)
from warp_train.training.checkpoints.state import BestMetric
from warp_train.training.disk import Disk
from warp_train.training.feeding import Data, Feed, build_feed
from warp_train.training.fixed_warp import fixed_warp
from warp_train.training.meter import Meter
from warp_train.training.optim import Ema, build_optimizer, build_scheduler
from warp_train.training.protocols import WarpBackend
from warp_train.training.remote.pusher import Pusher
from warp_train.training.resuming import measured_now
from warp_train.training.run_folder import BAD_SAMPLES_FILE
from warp_train.training.trackers import new_run_id
from warp_train.training.warp_backends import get_backend
from warp_train.weights import model_folder

log = logging.getLogger("warp_train")

RESIDUAL_STAGES = ("stage2_hybrid", "stage3_finetune")


@dataclass(kw_only=True)
class Run:
    """One stage of training. `step` counts the optimizer steps done."""

    recipe: Recipe
    run_dir: Path
    accelerator: Accelerator
    model: HybridModel
    """The network itself, which is saved and validated."""
    wrapped: nn.Module
    """The network as Accelerate prepared it, which is trained."""
    optimizer: Any
    scheduler: LambdaLR
    ema: Ema | None
    backend: WarpBackend
    loss: CompositeLoss
    feed: Feed
    total_steps: int
    bounds: dict[str, float]
    bad: BadSamples
    disk: Disk
    wandb_run_id: str
    measured: str
    """What validations of this process measure, see `best.measured_now`."""
    start: Path | None
    """The checkpoint whose weights the run started from, see `init_from`; None if it has resumed or
    starts from scratch."""
    lock: Lock | None = None
    """The lock of `run_dir`; only the main process of a run that is recorded has it."""
    pusher: Pusher = field(default_factory=Pusher)
    step: int = 0
    resumed_at: int = 0
    """`step` when this process began."""
    meter: Meter = field(default_factory=Meter)
    best: BestMetric | None = None
    best_measured: str | None = None
    """What `best` was measured on and how; other than `measured`: it has to be measured again."""
    validated_step: int | None = None
    stale_validations: int = 0
    """Validations since the best one."""
    validations: int = 0
    """Validations since this process started."""
    shown: list[Batch] = field(default_factory=list)
    """The first validation batches, for pictures."""

    @property
    def epoch(self) -> int:
        """Epoch of the next step, counted from 0."""
        return self.step // self.feed.steps_per_epoch

    @property
    def out_of_patience(self) -> bool:
        """Whether validations have not improved for as long as `validate.patience` allows."""
        patience = self.recipe.validation.patience
        return patience is not None and self.stale_validations >= patience

    @property
    def is_over(self) -> bool:
        """Whether no step is left to do."""
        return self.step >= self.total_steps or self.out_of_patience

    @property
    def has_stepped(self) -> bool:
        """Whether this process has trained at all."""
        return self.step > self.resumed_at

    @property
    def fixed_warp(self) -> tuple[float, ...] | None:
        """See `fixed_warp.fixed_warp`."""
        return self.model.trained_on.fixed_warp if self.model.trained_on else None

    @property
    def residual_enabled(self) -> bool:
        return self.model.residual_enabled


def build_model(recipe: Recipe) -> HybridModel:
    """The network of a stage: stage 1 neither trains nor runs the residual head, and the
    uncertainty is trained where its loss has a weight."""
    set_seed(recipe.seed)
    enabled = recipe.stage in RESIDUAL_STAGES
    model = HybridModel(recipe.model, residual_enabled=enabled)
    # DDP would wait for gradients of a head that is not used.
    model.residual_head.requires_grad_(enabled)
    model.parametric_head.uncertainty.requires_grad_(recipe.loss.uncertainty_weight > 0)
    return model


def initial_weights(recipe: Recipe) -> Path | None:
    """The checkpoint that `init_from` names; None for a start from scratch.

    Raises:
        WarpTrainError: it does not exist.
    """
    if recipe.init_from is None:
        return None
    return find_checkpoint(model_folder(recipe.init_from), prefer="best")


def start_run(
    recipe: Recipe, data: Data, accelerator: Accelerator, run_dir: Path, start: Path | None = None
) -> Run:
    """Builds a stage at step 0. Collective: call on every rank.

    Args:
        start: the checkpoint whose weights it starts from; None: from scratch.

    Raises:
        WarpTrainError: the weights to start from are damaged or another network's.
    """
    model = build_model(recipe)
    if start is not None:
        load_weights(model, start, model_description(model))
    if recipe.model.sync_batch_norm and accelerator.num_processes > 1 and _on_gpu(accelerator):
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    model = model.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    feed = build_feed(recipe, data, accelerator)
    loss = CompositeLoss(recipe.loss.used(warps_known=data.warps_known))
    model.trained_on = TrainedOn(
        stage=recipe.stage,
        size=feed.size,
        shown=recipe.data.shown,
        fixed_warp=fixed_warp(feed.first_samples(), feed.size, loss, accelerator.device),
    )
    total_steps = recipe.train.epochs * feed.steps_per_epoch
    if recipe.train.max_steps is not None:
        total_steps = min(total_steps, recipe.train.max_steps)
    optimizer = build_optimizer(model, recipe.optim)
    scheduler = build_scheduler(optimizer, recipe.scheduler, total_steps)
    ema = Ema(model, recipe.train.ema_decay) if recipe.train.ema_decay else None
    disk = Disk(recipe.checkpoint.on_error)
    if recipe.train.compile:
        model.compile()  # in place: the names of the weights stay
    wrapped, prepared_optimizer = accelerator.prepare(model, optimizer)
    return Run(
        recipe=recipe,
        run_dir=run_dir,
        accelerator=accelerator,
        model=model,
        wrapped=wrapped,
        optimizer=prepared_optimizer,
        scheduler=scheduler,
        ema=ema,
        backend=get_backend(recipe.warp),
        loss=loss,
        feed=feed,
        total_steps=total_steps,
        bounds=recipe.model.param_bounds.model_dump(),
        bad=BadSamples(
            run_dir / BAD_SAMPLES_FILE,
            disk,
            max_fraction=recipe.data.max_bad_fraction,
            samples_per_epoch=feed.steps_per_epoch * feed.global_batch,
        ),
        disk=disk,
        wandb_run_id=new_run_id(),
        start=start,
        measured=measured_now(recipe, data),
    )


def _on_gpu(accelerator: Accelerator) -> bool:
    return bool(accelerator.device.type == "cuda")
