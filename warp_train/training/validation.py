"""Validation: metrics on unseen samples, the proxy score, and pictures of predictions."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor

from warp_train.data import Batch
from warp_train.models import UNCERTAINTY_FACTORS
from warp_train.runtime.errors import WarpTrainError
from warp_train.training.bad_samples import without_stand_ins
from warp_train.training.debug_dump import Picture, panel, save_panels
from warp_train.training.evaluation import Measure, Measured, measure_all, network_measure
from warp_train.training.interrupts import Interrupts
from warp_train.training.optim import swapped
from warp_train.training.proxy_hooks import ProxyHook, ProxyScores
from warp_train.training.run import Run
from warp_train.training.step import forward_step, to_device
from warp_train.training.trackers import Trackers


def validate(
    run: Run,
    proxy: ProxyHook | None,
    interrupts: Interrupts,
    weights: Mapping[str, Tensor] | None = None,
) -> dict[str, float] | None:
    """Metrics on all validation samples; None after a signal.

    They include the proxy scores only where these choose the best checkpoint; otherwise `proxy`
    collects them. Collective: call on every rank.

    Args:
        proxy: None on all processes but the main one, and where there is no scorer.
        weights: what to measure. None: the weights to be saved.
    """
    run.model.eval()
    random_state = torch.get_rng_state()
    measure = _measure(run, proxy)
    with _saved_weights(run) if weights is None else swapped(run.model, weights):
        table = measure_all(
            {"model": measure},
            _keep_first(run, run.feed.validation()),
            run.recipe,
            run.accelerator.device,
            interrupts.round,
        )
        # Iterating a loader draws a seed: restored, so that validating does not change training.
        torch.set_rng_state(random_state)
        if table is None:
            return None
        metrics: dict[str, float] | None = table["model"]
        if not metrics:
            raise WarpTrainError("data: there is no validation sample that can be read")
    run.model.train()
    if run.recipe.validation.best_metric.startswith("proxy/"):
        scores = await_scores(proxy, interrupts)
        if scores is not None:
            metrics |= scores.values
        elif proxy is not None and interrupts.noticed():
            metrics = None  # another metric would choose another best
    shared: list[dict[str, float] | None] = broadcast_object_list([metrics], from_process=0)
    return shared[0]


def await_scores(proxy: ProxyHook | None, interrupts: Interrupts) -> ProxyScores | None:
    """The last validation's scores on the process that has `proxy`; None where they are missing.

    After a signal it waits for a few seconds only.

    Collective: call on every rank. All ranks wait, so that a signal to any of them counts.
    """
    if proxy is None:
        while interrupts.round(working=False)[1]:
            pass
        return None
    scores = proxy.wait_for(hurry=lambda: interrupts.round(working=True)[0])
    interrupts.round(working=False)
    return scores


def note_uncertainty(run: Run, metrics: dict[str, float]) -> None:
    """Calibrates the uncertainty: its factor is the mean ratio of measured to expected errors on
    unseen samples.

    That is the maximum-likelihood estimate for the distribution in `uncertainty_loss`. The ratio of
    the two means would rest on the few samples with the largest errors. Photos are shown larger
    than drawn scenes were; the interpolated pixels add no information, so errors are expected to be
    larger by the same factor.
    """
    known = run.model.trained_on
    if known is None or not metrics.get("error_vs_expected"):
        return
    smallest, largest = UNCERTAINTY_FACTORS
    factor = known.uncertainty_factor * metrics["error_vs_expected"]
    if run.recipe.data.source == "scenes":
        factor /= known.shown
    factor = min(max(factor, smallest), largest)
    run.model.trained_on = known.model_copy(update={"uncertainty_factor": factor})


@torch.no_grad()
def show(run: Run, trackers: Trackers) -> None:
    """Saves and logs panels of the first validation samples. Main process only."""
    run.model.eval()
    panels: dict[str, Picture] = {}
    with _saved_weights(run):
        for batch in _shown(run, run.recipe.tracking.num_images):
            out = forward_step(
                run.model, batch, run.backend, run.loss, residual_enabled=run.residual_enabled
            )
            pictures = zip(
                batch["image_id"],
                batch["input_image"],
                out.warp["pred_image"],
                batch["target_image"],
                out.warp["final_grid"],
                strict=True,
            )
            panels |= {name: panel(*tensors) for name, *tensors in pictures}
    run.model.train()
    kept = dict(list(panels.items())[: run.recipe.tracking.num_images])
    save_panels(run.run_dir / "images", run.step, kept)
    trackers.log_images("val/panels", list(kept.values()), list(kept), run.step)


@torch.no_grad()
def score_again(run: Run, proxy: ProxyHook) -> None:
    """Scores the validation pictures of the weights that a resumed run starts from.

    The run was killed after it had saved these weights and before their scores were available.
    """
    run.model.eval()
    random_state = torch.get_rng_state()
    measure = _measure(run, proxy)
    with _saved_weights(run):
        for batch in run.feed.validation():
            batch = to_device(without_stand_ins(batch), run.accelerator.device)
            if len(batch["index"]):
                measure(batch)
            if not proxy.room:
                break
    torch.set_rng_state(random_state)
    run.model.train()


def ended_epoch(run: Run) -> int:
    """The epoch of the last step."""
    return max(run.step - 1, 0) // run.feed.steps_per_epoch


def _saved_weights(run: Run) -> AbstractContextManager[None]:
    """The model with the weights that a checkpoint gives: their moving average, if there is one."""
    return swapped(run.model, run.ema.weights) if run.ema else nullcontext()


def _measure(run: Run, proxy: ProxyHook | None) -> Measure:
    """The network's measure, which also submits the pictures of each batch to `proxy`."""
    measure = network_measure(
        run.model, run.backend, run.loss, residual_enabled=run.residual_enabled
    )
    if proxy is None:
        return measure
    proxy.begin(run.step, ended_epoch(run))

    def scored(batch: Batch) -> Measured:
        measured = measure(batch)
        proxy.submit(measured.warp["pred_image"], batch["target_image"])
        return measured

    return scored


def _shown(run: Run, samples: int) -> Iterator[Batch]:
    """The first validation batches with at least `samples` samples, on the device."""
    seen = 0
    for batch in run.shown:
        if seen >= samples:
            return
        seen += len(batch["image_id"])
        yield to_device(batch, run.accelerator.device)


def _keep_first(run: Run, batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yields the batches and keeps the first ones: pictures always show the same samples."""
    room = run.recipe.tracking.num_images if not run.shown else 0
    for batch in batches:
        run.bad.list_unreadable(batch, run.epoch)
        if room > 0:
            run.shown.append(batch)
            room -= len(batch["image_id"])
        yield batch
