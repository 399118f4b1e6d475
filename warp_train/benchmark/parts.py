"""One step of training taken apart."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor

from warp_train.benchmark.stopwatch import Stopwatch
from warp_train.data import Batch, SampleKey
from warp_train.losses import CompositeLoss
from warp_train.recipe import Recipe
from warp_train.training.engine import Records, log_step
from warp_train.training.feeding import Data
from warp_train.training.guardrails import WarningLedger
from warp_train.training.protocols import WarpBackend
from warp_train.training.run import Run
from warp_train.training.run_folder import METRICS_FILE, MetricsWriter
from warp_train.training.run_state import save
from warp_train.training.step import StepOutput, forward_step, to_device, true_grid
from warp_train.training.trackers import Trackers

_SAMPLES = 16


class _TimedLoss(CompositeLoss):
    """The composite, every call of which is timed."""

    def __init__(self, loss: CompositeLoss, watch: Stopwatch) -> None:
        super().__init__(loss.config)
        self._watch = watch

    def __call__(self, *images: Tensor, **geometric: Any) -> tuple[Tensor, dict[str, Tensor]]:
        with self._watch.timing("losses"):
            return super().__call__(*images, **geometric)


def time_parts(run: Run, batches: Iterator[Batch], watch: Stopwatch) -> None:
    """A step of training, part by part, and one line of the log about it."""
    batch = next(batches)
    with watch.timing("host to device"):
        batch = to_device(batch, run.accelerator.device)
    with watch.timing("true warp"):
        true_grid(batch)
    out = forward_step(
        cast(torch.nn.Module, watch.timed("forward", run.wrapped)),
        batch,
        cast(WarpBackend, SimpleNamespace(warp=watch.timed("warp", run.backend.warp))),
        _TimedLoss(run.loss, watch),
        residual_enabled=run.residual_enabled,
    )
    with watch.timing("backward"):
        run.accelerator.backward(out.objective)
    limit = run.recipe.train.grad_clip or float("inf")
    with watch.timing("clip"):
        norm = run.accelerator.clip_grad_norm_(run.wrapped.parameters(), limit)
    with watch.timing("optimizer"):
        run.optimizer.step()
        run.scheduler.step()
        if run.ema:
            run.ema.update(run.model, run.step + 1)
        run.optimizer.zero_grad(set_to_none=True)
    run.meter.add({"total": out.total.detach(), **out.parts}, lr=0.0)
    with watch.timing("logging"):
        _log(run, out, norm)


def time_losses(run: Run, batch: Batch, watch: Stopwatch) -> None:
    """Each loss term alone, forward and backward, with respect to what the network predicts."""
    batch = to_device(batch, run.accelerator.device)
    with torch.no_grad():
        prediction = run.model(batch["input_image"])
        flow, uncertainty = prediction["residual_flow"], prediction["uncertainty"]
        warp = run.backend.warp(
            batch["input_image"], prediction["params"], flow if run.residual_enabled else None
        )
    grid = warp.get("final_grid")
    for name, loss in _single_terms(run.recipe).items():
        image, flow, uncertainty = (
            t.detach().requires_grad_() for t in (warp["pred_image"], flow, uncertainty)
        )
        with watch.timing(name):
            total, _ = loss(
                image,
                batch["target_image"],
                final_grid=None if grid is None else grid.detach().requires_grad_(),
                target_grid=true_grid(batch),
                residual_flow=flow,
                uncertainty=uncertainty,
            )
            total.backward()  # type: ignore[no-untyped-call]


def time_samples(run: Run, data: Data, watch: Stopwatch) -> None:
    """Single samples: read and decoded, or drawn. A user's own loader yields whole batches."""
    if data.external:
        return
    source: Any = data.train
    for index in range(min(_SAMPLES, len(source))):
        with watch.timing("drawing or decoding"):
            source[SampleKey(run.epoch, index)]


def time_checkpoint(run: Run, watch: Stopwatch) -> None:
    """A checkpoint into the run's folder. Collective: call on every rank."""
    with watch.timing("checkpoint"):
        save(run)


def _single_terms(recipe: Recipe) -> dict[str, CompositeLoss]:
    weights = recipe.loss.weights
    losses = {}
    for name, weight in weights.items():
        alone = {f"{other}_weight": weight * (other == name) for other in weights}
        losses[name] = CompositeLoss(recipe.loss.model_copy(update=alone))
    return losses


def _log(run: Run, out: StepOutput, norm: Tensor) -> None:
    """To the run's folder; a tracker's own time is not the step's."""
    main = run.accelerator.is_main_process
    metrics = MetricsWriter(Path(run.run_dir) / METRICS_FILE, enabled=main)
    records = Records(metrics, Trackers(run.accelerator), None, run)
    log_step(run, run.epoch, out, norm, records, WarningLedger(lambda _: None))
