"""Validation: metrics on unseen samples, the proxy score, and pictures of what the network does."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext

import torch
from accelerate.utils import broadcast_object_list

from warp_train.data import Batch
from warp_train.errors import WarpTrainError
from warp_train.training.checkpoint_state import BestMetric
from warp_train.training.debug_dump import Picture, panel, save_panels
from warp_train.training.evaluation import measure_all, network_measure
from warp_train.training.protocols import ProxyResult
from warp_train.training.proxy_hooks import ProxyHook, mean_scores
from warp_train.training.run import Run
from warp_train.training.step import forward_step, to_device
from warp_train.training.trackers import Trackers

log = logging.getLogger("warp_train")


def validate(
    run: Run, proxy: ProxyHook | None, stop: Callable[[], bool]
) -> dict[str, float] | None:
    """Metrics of the weights to be saved, on all validation samples; None if `stop` said so.

    Collective: call on every rank.
    """
    run.model.eval()
    random_state = torch.get_rng_state()
    measure = network_measure(
        run.model, run.backend, run.loss, residual_enabled=run.residual_enabled
    )
    with run.ema.swapped(run.model) if run.ema else nullcontext():
        table = measure_all(
            {"model": measure},
            _keep_first(run, run.feed.validation()),
            run.recipe,
            run.accelerator.device,
            stop,
        )
        # A loader draws a seed each time it is iterated: validating changes nothing for training.
        torch.set_rng_state(random_state)
        if table is None:
            return None
        metrics = table["model"]
        if not metrics:
            raise WarpTrainError("data: there is no validation sample that can be read")
        if proxy is not None and run.accelerator.is_main_process:
            metrics |= _proxy_scores(run, proxy)
    run.model.train()
    shared: list[dict[str, float]] = broadcast_object_list([metrics], from_process=0)
    return shared[0]


def note_best(run: Run, metrics: dict[str, float]) -> bool:
    """Whether these metrics are the best of the run so far; if so, remembers them.

    Raises:
        WarpTrainError: the metric that is to choose was not computed.
    """
    rules = run.recipe.validation
    name, known = rules.best_metric, "epe_px" if "epe_px" in metrics else "loss/total"
    if name.startswith("proxy/") and run.recipe.proxy.scorer and name not in metrics:
        # A scorer that fails is no reason to stop.
        if run.best is None or run.best.name != known:
            log.warning("validate.best_metric: no %s any more: %s chooses now", name, known)
        name = known
    if name == "auto":
        name = known
    if name not in metrics:
        raise WarpTrainError(
            f"validate.best_metric: {name} is not among this run's validation metrics: "
            f"{', '.join(sorted(metrics))}"
        )
    value, sign = metrics[name], 1 if rules.higher_is_better(name) else -1
    if run.best is not None and run.best.name == name and sign * value <= sign * run.best.value:
        return False
    run.best = BestMetric(name=name, value=value, step=run.step)
    return True


@torch.no_grad()
def show(run: Run, trackers: Trackers) -> None:
    """Saves and logs panels of the first validation samples. Main process only."""
    run.model.eval()
    panels: dict[str, Picture] = {}
    with run.ema.swapped(run.model) if run.ema else nullcontext():
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
def _proxy_scores(run: Run, proxy: ProxyHook) -> dict[str, float]:
    results: list[ProxyResult] = []
    for batch in _shown(run, run.recipe.proxy.max_samples):
        room = run.recipe.proxy.max_samples - len(results)
        out = forward_step(
            run.model, batch, run.backend, run.loss, residual_enabled=run.residual_enabled
        )
        results += proxy.score_batch(out.warp["pred_image"][:room], batch["target_image"][:room])
    return mean_scores(results)


def _shown(run: Run, samples: int) -> Iterator[Batch]:
    """The first validation batches that hold so many samples, on the device."""
    seen = 0
    for batch in run.shown:
        if seen >= samples:
            return
        seen += len(batch["image_id"])
        yield to_device(batch, run.accelerator.device)


def _keep_first(run: Run, batches: Iterable[Batch]) -> Iterator[Batch]:
    """Passes batches on and remembers the first ones, so that pictures show the same samples."""
    wanted = max(run.recipe.tracking.num_images, run.recipe.proxy.max_samples)
    room = wanted if not run.shown else 0
    for batch in batches:
        run.bad.list_unreadable(batch, run.epoch)
        if room > 0:
            run.shown.append(batch)
            room -= len(batch["image_id"])
        yield batch
