"""The training loop of one stage, from top to bottom."""

import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from warp_train.data import Batch
from warp_train.runtime.links import followed
from warp_train.runtime.progress import Progress
from warp_train.training.best import measure_best_again, note_best
from warp_train.training.disk import is_gone
from warp_train.training.guardrails import FiniteGuard, WarningLedger, guardrail_warnings
from warp_train.training.interrupts import Interrupts
from warp_train.training.meter import Meter
from warp_train.training.proxy_hooks import ProxyHook, ProxyScores
from warp_train.training.run import Run
from warp_train.training.run_folder import METRICS_FILE, MetricsWriter, is_scored
from warp_train.training.run_state import save
from warp_train.training.step import (
    StepOutput,
    diagnostics,
    forward_step,
    to_device,
    worst_or_mean,
)
from warp_train.training.trackers import EVENTS_FOLDER, Trackers
from warp_train.training.validation import (
    await_scores,
    ended_epoch,
    note_uncertainty,
    score_again,
    show,
    validate,
)


@dataclass(frozen=True)
class Records:
    """The destinations of the loop's metrics, and the scorer with its pending scores."""

    metrics: MetricsWriter
    trackers: Trackers
    proxy: ProxyHook | None
    run: Run

    def write(self, split: str, step: int, epoch: int, values: Mapping[str, float]) -> None:
        if self.run.lock is not None:
            self.run.lock.require()
        with self.run.disk.writing(self.run.run_dir / METRICS_FILE):
            self.metrics.write(step, epoch, split, values)
        with self.run.disk.writing(self.run.run_dir / EVENTS_FOLDER):
            self.trackers.log(split, values, step)

    def collect(self) -> None:
        """Writes the last validation's proxy scores if they are available by now."""
        if self.proxy:
            self._write_scores(self.proxy.collect())

    def settle(self, interrupts: Interrupts) -> None:
        """Waits for pending scores and writes them: a checkpoint would lose them for a resumed run.

        Collective: call on every rank.
        """
        self._write_scores(await_scores(self.proxy, interrupts))

    def _write_scores(self, scores: ProxyScores | None) -> None:
        if scores is not None:
            self.write("proxy", scores.step, scores.epoch, scores.values)


def train(
    run: Run, trackers: Trackers, proxy: ProxyHook | None, interrupts: Interrupts
) -> int | None:
    """Trains from `run.step` to the end of the steps or of the patience. Collective: call on every
    rank.

    Returns:
        None at the end, or the signal that interrupted the run after a checkpoint was saved.

    Raises:
        NonFiniteError: a loss or gradient is not finite; nothing is saved.
        WarpTrainError: too many unreadable samples, or a disk that refused.
    """
    recipe, feed, main = run.recipe, run.feed, run.accelerator.is_main_process
    guard = FiniteGuard(grads_may_overflow=run.accelerator.scaler is not None)
    ledger = WarningLedger()
    metrics = MetricsWriter(run.run_dir / METRICS_FILE, enabled=main)
    records = Records(metrics, trackers, proxy, run)
    if not _begin(run, records, interrupts):
        return interrupts.agreed()
    batches = feed.train(run.step)
    while not run.is_over:
        epoch = run.epoch
        epoch_end = min((epoch + 1) * feed.steps_per_epoch, run.total_steps)
        with Progress(
            epoch_end - epoch * feed.steps_per_epoch,
            "step",
            title=f"epoch {epoch + 1}/{-(-run.total_steps // feed.steps_per_epoch)}",
            initial=run.step - epoch * feed.steps_per_epoch,
            enabled=main,
        ) as progress:
            while run.step < epoch_end and not run.is_over:
                out, grad_norm = optimizer_step(run, batches, guard)
                run.step += 1
                shown = None
                if run.step % recipe.train.log_every == 0 or run.step == epoch_end:
                    shown = log_step(run, epoch, out, grad_norm, records, ledger)
                progress.advance(shown)
                if interrupts.agreed() is not None:
                    guard.flush()
                    records.settle(interrupts)
                    save(run, interrupted=True)
                    return interrupts.agreed()
                if _validation_due(run):
                    guard.flush()
                    if not _validate(run, records, interrupts):
                        return interrupts.agreed()
                elif _save_due(run):
                    guard.flush()
                    records.settle(interrupts)
                    began = time.perf_counter()
                    save(run)
                    run.meter.saved += time.perf_counter() - began
    records.settle(interrupts)
    return None


def _begin(run: Run, records: Records, interrupts: Interrupts) -> bool:
    """Catches up before the next step: the best measured again, a due validation, or missing scores
    of the last one.

    Returns:
        False if a signal arrived meanwhile; the checkpoint is then saved.
    """
    if not measure_best_again(run, records.proxy, interrupts):
        save(run, interrupted=True)
        return False
    if _validation_due(run):
        return _validate(run, records, interrupts)
    validated_here = run.validated_step == run.step
    if records.proxy and validated_here and not is_scored(run.run_dir / METRICS_FILE, run.step):
        score_again(run, records.proxy)
    return True


def optimizer_step(
    run: Run, batches: Iterator[Batch], guard: FiniteGuard
) -> tuple[StepOutput, Tensor]:
    """Forward and backward over the accumulated micro-batches, clip, step."""
    run.model.train()
    accum, meter = run.recipe.train.grad_accum_steps, run.meter
    losses: dict[str, Tensor] = {}
    image_ids: list[str] = []
    for micro in range(accum):
        began = time.perf_counter()
        batch = next(batches)
        meter.waited += time.perf_counter() - began
        meter.samples += len(batch["image_id"])
        run.bad.note(batch, run.epoch)
        image_ids += batch["image_id"]
        batch = to_device(batch, run.accelerator.device)
        last = micro == accum - 1
        # The processes exchange gradients once per optimizer step, not per micro-batch.
        with nullcontext() if last else run.accelerator.no_sync(run.wrapped):
            out = forward_step(
                run.wrapped, batch, run.backend, run.loss, residual_enabled=run.residual_enabled
            )
            run.accelerator.backward(out.objective / accum)
        for name, value in {"total": out.total, **out.parts}.items():
            share = value.detach() / accum
            losses[name] = losses[name] + share if name in losses else share
    limit = run.recipe.train.grad_clip
    grad_norm = run.accelerator.clip_grad_norm_(
        run.wrapped.parameters(), float("inf") if limit is None else limit
    )
    parts = {name: value for name, value in losses.items() if name != "total"}
    guard.watch(losses["total"], parts, grad_norm, run.step + 1, image_ids)
    meter.add(losses, lr=run.optimizer.param_groups[0]["lr"])
    run.optimizer.step()
    if not run.accelerator.optimizer_step_was_skipped:
        run.scheduler.step()
        if run.ema:
            run.ema.update(run.model, run.step + 1)
    run.optimizer.zero_grad(set_to_none=True)
    return out, grad_norm


def log_step(
    run: Run,
    epoch: int,
    out: StepOutput,
    grad_norm: Tensor,
    records: Records,
    ledger: WarningLedger,
) -> dict[str, float]:
    """Writes one line of metrics; returns the values that the progress bar shows.

    Collective: call on every rank. The loop reads values from a GPU nowhere else.
    """
    meter, run.meter = run.meter, Meter()
    named = {
        **meter.means(),
        "grad_norm": grad_norm,
        **diagnostics(out, run.bounds, run.recipe),
    }
    seconds = time.perf_counter() - meter.started
    values = {
        **_over_processes(run, named),
        "lr": meter.lr,
        "samples_per_sec": meter.samples * run.accelerator.num_processes / seconds,
        "data_wait_frac": meter.waited / seconds,
        "save_frac": meter.saved / seconds,
    }
    records.write("train", run.step, epoch, values)
    records.collect()
    for cause, message in guardrail_warnings(values, run.bounds, run.recipe.guardrails):
        if run.accelerator.is_main_process:
            ledger.warn(epoch, cause, message)
    short = {"loss/total": "loss", "epe_px": "epe", "lr": "lr", "samples_per_sec": "samples/s"}
    return {short[name]: values[name] for name in short if name in values}


def _over_processes(run: Run, named: Mapping[str, Tensor]) -> dict[str, float]:
    """Means (or worst values) over the processes, without metrics that are unknown on all."""
    here = torch.stack([value.detach().float() for value in named.values()])
    values: dict[str, float] = {}
    columns = run.accelerator.gather(here[None]).T.tolist()
    for name, column in zip(named, columns, strict=True):
        # Unknown values are left out: a batch without known warps has no end-point error.
        known = [value for value in column if value == value]
        if known:
            values[name] = worst_or_mean(name, known)
    return values


def _validate(run: Run, records: Records, interrupts: Interrupts) -> bool:
    """Validates and saves; False if a signal arrived meanwhile; the checkpoint is then saved.

    Collective: call on every rank.
    """
    began = time.perf_counter()
    records.settle(interrupts)
    values = validate(run, records.proxy, interrupts)
    if values is None:
        save(run, interrupted=True)
        return False
    run.validated_step = run.step
    if is_gone(followed(run.run_dir / "best")):
        run.best = None  # its weights no longer exist
    best_before = run.best
    best = note_best(run, values)
    run.stale_validations = 0 if best else run.stale_validations + 1
    note_uncertainty(run, values)
    records.write("val", run.step, ended_epoch(run), values)
    every = run.recipe.tracking.images_every
    if every and run.validations % every == 0 and run.accelerator.is_main_process:
        with run.disk.writing(run.run_dir / "images"):
            show(run, records.trackers)
    run.validations += 1
    if not save(run, best=best):
        run.best = best_before  # its checkpoint still exists
    run.meter.started += time.perf_counter() - began
    return True


def _validation_due(run: Run) -> bool:
    """At the start, at the end and as the recipe sets; once per step, also after a resume."""
    rules = run.recipe.validation
    per_epoch = run.feed.steps_per_epoch
    due = (
        run.step in (0, run.total_steps)
        or (rules.every_steps is not None and run.step % rules.every_steps == 0)
        or (rules.every_epochs is not None and run.step % (rules.every_epochs * per_epoch) == 0)
    )
    return due and run.validated_step != run.step


def _save_due(run: Run) -> bool:
    every = run.recipe.checkpoint.every_steps
    return every is not None and run.step % every == 0
