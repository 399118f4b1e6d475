"""The best weights so far, also where a resumed run measures otherwise than before."""

import logging
import math

from accelerate.utils import gather_object
from torch import Tensor

from warp_train.losses.config import IMAGE_TERMS
from warp_train.models import model_description
from warp_train.models.pretrained import read_weights
from warp_train.runtime.errors import WarpTrainError
from warp_train.training.checkpoints.links import link_target
from warp_train.training.checkpoints.state import BestMetric
from warp_train.training.interrupts import Interrupts
from warp_train.training.proxy_hooks import ProxyHook
from warp_train.training.run import Run
from warp_train.training.validation import validate

log = logging.getLogger("warp_train")


def note_best(run: Run, metrics: dict[str, float]) -> bool:
    """Whether these metrics are the best of the run so far, which is then recorded.

    Raises:
        WarpTrainError: the metric `validate.best_metric` was not computed, or cannot tell weights
            apart. The first validation comes before the first step.
    """
    name = _metric(run, metrics)
    value, sign = metrics[name], 1 if run.recipe.validation.higher_is_better(name) else -1
    if run.best is not None and run.best.name == name and sign * value <= sign * run.best.value:
        return False
    run.best, run.best_measured = BestMetric(name=name, value=value, step=run.step), run.measured
    return True


def measure_best_again(run: Run, proxy: ProxyHook | None, interrupts: Interrupts) -> bool:
    """Measures the best weights as validations measure now, where a resumed run measures otherwise
    than before: their old value compares with no new one.

    Collective: call on every rank.

    Args:
        proxy: None on all processes but the main one, and where there is no scorer.

    Returns:
        False if a signal arrived meanwhile: a later run has to measure them.
    """
    before, main = run.best, run.accelerator.is_main_process
    if before is None or run.best_measured == run.measured:
        return True
    weights = _best_weights(run)
    if not all(gather_object([weights is not None])):
        run.best = None
        if main:
            log.warning("%s/best cannot be read: the best weights are chosen afresh", run.run_dir)
        return True
    scored = run.recipe.validation.best_metric.startswith("proxy/")
    metrics = validate(run, proxy if scored else None, interrupts, weights)
    if metrics is None:
        return False
    name = _metric(run, metrics)
    run.best = BestMetric(name=name, value=metrics[name], step=before.step)
    run.best_measured = run.measured
    if main:
        log.warning(
            "validations measure otherwise than before: the best weights (step %d) are measured "
            "again: %s %.4g (before: %s %.4g)",
            before.step,
            name,
            metrics[name],
            before.name,
            before.value,
        )
    return True


def _best_weights(run: Run) -> dict[str, Tensor] | None:
    """The weights of `best`; None where they cannot be read."""
    folder = link_target(run.run_dir / "best")
    if folder is None:
        return None
    try:
        return read_weights(run.model, folder, model_description(run.model))
    except WarpTrainError:
        return None


def _metric(run: Run, metrics: dict[str, float]) -> str:
    """The name of the metric that chooses the best weights. Errors: as of `note_best`."""
    name = run.recipe.validation.best_metric
    known = "epe_px" if "epe_px" in metrics else "loss/total"
    if name.startswith("proxy/") and run.recipe.proxy.scorer and name not in metrics:
        # A failing scorer does not stop training.
        if run.best is None or run.best.name != known:
            log.warning(
                "validate.best_metric: %s is no longer computed; %s chooses the best from now on",
                name,
                known,
            )
        name = known
    if name == "auto":
        name = known
    if name not in metrics:
        raise WarpTrainError(
            f"validate.best_metric: {name} is not among this run's validation metrics: "
            f"{', '.join(sorted(metrics))}"
        )
    _require_measure(run, name, metrics)
    return name


def _require_measure(run: Run, name: str, metrics: dict[str, float]) -> None:
    """Raises WarpTrainError where a metric is not finite, or would be the same for all weights."""
    if not math.isfinite(metrics[name]):
        raise WarpTrainError(f"validate.best_metric: {name} is {metrics[name]:g} in validation")
    if "epe_px" not in metrics and name.startswith("loss/"):
        parts = {name.removeprefix("loss/")} if name != "loss/total" else {*run.loss.weights}
        if not parts & {*IMAGE_TERMS}:
            raise WarpTrainError(
                f"validate.best_metric: {name} cannot choose the best weights: no validation "
                "sample has a known warp, and no image term has a weight; give the warps "
                "(data.recover: auto, data.warps, or lens columns in a manifest), or an image "
                "term such as loss.edge_weight"
            )
