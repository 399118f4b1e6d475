"""Saving and restoring a run across processes; `folder` is the part on disk."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from warp_train.models.pretrained import (
    CONFIG_FILE,
    MODEL_FILE,
    load_weights,
    read_tensors,
    read_weights,
)
from warp_train.runtime.errors import WarpTrainError
from warp_train.training.checkpoints.folder import (
    OPTIMIZER_FILE,
    RAW_FILE,
    CheckpointError,
    point_links,
    prune_checkpoints,
    rng_file,
    write_folder,
)
from warp_train.training.checkpoints.links import Link, checkpoint_folder
from warp_train.training.checkpoints.saved_values import as_ours
from warp_train.training.checkpoints.state import (
    STATE_FILE,
    RunPosition,
    TrainerState,
    load_optimizer,
    optimizer_groups,
    optimizer_tensors,
    random_state,
    read_trainer_state,
    set_random_state,
)
from warp_train.training.disk import is_there
from warp_train.training.optim import Ema, continue_schedule


def save_checkpoint(
    run_dir: Path,
    *,
    accelerator: Accelerator,
    model: nn.Module,
    model_config: Mapping[str, Any],
    optimizer: Optimizer,
    scheduler: LambdaLR,
    position: RunPosition,
    ema: Ema | None,
    links: Collection[Link],
    keep_last: int,
) -> Path:
    """Writes `checkpoints/step-<step>`, points `links` at it and removes what is out of date.

    Collective: call on every rank. Only the main process writes; the others contribute the states
    of their random generators. If writing fails, all ranks raise.

    Args:
        model: unwrapped.
        model_config: contents of `config.json`.
        links: names to point here. Saving a `last` that is not `interrupted` removes the latter.
        keep_last: number of newest checkpoints to keep, besides those that links point at.

    Raises:
        CheckpointError: the write failed; earlier checkpoints and links are unchanged.
        WarpTrainError: a weight is not finite.
    """
    generators = _gather_random_states(accelerator)
    folder = checkpoint_folder(run_dir, position.step)
    failure: WarpTrainError | None = None
    if accelerator.is_main_process:
        scaler = accelerator.scaler
        state = TrainerState(
            **position.model_dump(),
            scheduler=scheduler.state_dict(),
            grad_scaler=scaler.state_dict() if scaler is not None else {},
            param_groups=optimizer_groups(optimizer, model),
        )
        weights = model.state_dict()
        files = {
            MODEL_FILE: ema.weights if ema else weights,
            OPTIMIZER_FILE: optimizer_tensors(optimizer, model),
            **({RAW_FILE: weights} if ema else {}),
            **{rng_file(rank): tensors for rank, tensors in enumerate(generators)},
        }
        try:
            _refuse_non_finite(weights, position.step)
            write_folder(folder, files, {CONFIG_FILE: model_config, STATE_FILE: state.model_dump()})
            point_links(run_dir, folder, links)
            prune_checkpoints(run_dir, keep_last)
        except WarpTrainError as error:
            failure = error
    _raise_together(accelerator, failure)
    return folder


def restore_checkpoint(
    folder: Path,
    *,
    accelerator: Accelerator,
    model: nn.Module,
    model_config: Mapping[str, Any],
    optimizer: Optimizer,
    scheduler: LambdaLR,
    ema: Ema | None,
) -> TrainerState:
    """Restores everything that `save_checkpoint` saved, except what the recipe sets: learning
    rates and the optimizer's other hyper-parameters. Call on every rank.

    Ranks that the saved run did not have keep their generators. An `ema` that the saved run did
    not have starts from its weights.

    Raises:
        WarpTrainError: a file is missing or damaged, or belongs to another architecture or stage.
    """
    state = read_trainer_state(folder)
    has_average = is_there(folder / RAW_FILE)
    load_weights(model, folder, model_config, RAW_FILE if has_average else MODEL_FILE)
    if ema:
        ema.load(read_weights(model, folder, model_config))
    tensors = read_tensors(folder / OPTIMIZER_FILE)
    load_optimizer(optimizer, model, tensors, state.param_groups, folder)
    where = f"{folder / STATE_FILE}: "
    steps = {"last_epoch": scheduler.last_epoch}
    saved = as_ours(state.scheduler, steps, where + "scheduler")
    continue_schedule(scheduler, saved["last_epoch"])
    if accelerator.scaler is not None and state.grad_scaler:
        ours = accelerator.scaler.state_dict()
        accelerator.scaler.load_state_dict(as_ours(state.grad_scaler, ours, where + "grad_scaler"))
    if accelerator.process_index < state.world_size:
        path = folder / rng_file(accelerator.process_index)
        generators = read_tensors(path)
        set_random_state(generators, accelerator.device, path)
    return state


def _gather_random_states(accelerator: Accelerator) -> list[dict[str, Tensor]]:
    """The generators of all ranks, in rank order, for the process that writes them."""
    gathered = {
        name: accelerator.gather(value.unsqueeze(0).to(accelerator.device)).cpu()
        for name, value in random_state(accelerator.device).items()
    }
    return [
        {name: value[rank] for name, value in gathered.items()}
        for rank in range(accelerator.num_processes)
    ]


def _raise_together(accelerator: Accelerator, failure: WarpTrainError | None) -> None:
    """Raises on every rank if the main one failed; the others would wait in the next barrier."""
    disk = isinstance(failure, CheckpointError)
    kind = 0.0 if failure is None else 1.0 if disk else 2.0
    anywhere = accelerator.reduce(torch.tensor([kind], device=accelerator.device), reduction="sum")
    if failure is not None:
        raise failure
    if anywhere.item() > 0:
        error = CheckpointError if anywhere.item() == 1 else WarpTrainError
        raise error("the main process could not save a checkpoint; see its message")


def _refuse_non_finite(weights: Mapping[str, Tensor], step: int) -> None:
    for name, value in weights.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise WarpTrainError(f"step {step}: {name} is not finite: no checkpoint is written")
