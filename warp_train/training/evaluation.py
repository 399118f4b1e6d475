"""Measures warps on unseen samples: a network's, and the control rows beside it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from accelerate.utils import gather_object
from torch import Tensor

from warp_train.data import Batch
from warp_train.geometry import (
    build_parametric_grid,
    end_point_error,
    evaluate_safety,
    jacobian_stats,
    percent_to_px,
    warp_image,
)
from warp_train.losses import CompositeLoss
from warp_train.models import HybridModel
from warp_train.models.heads_residual import no_flow
from warp_train.recipe import Recipe
from warp_train.training.bad_samples import without_stand_ins
from warp_train.training.protocols import BackendOutput, WarpBackend
from warp_train.training.step import forward_step, to_device, true_grid, worst_or_mean

Row = dict[str, float]
Round = Callable[[bool], tuple[bool, bool]]
"""`Interrupts.round`: whether this process has a batch → whether to stop, whether any has one."""
Table = dict[str, dict[str, float]]


class Measured(NamedTuple):
    """A warp of a batch and its losses."""

    warp: BackendOutput
    total: Tensor
    """`loss/total`, which compares warps with and without a predicted uncertainty."""
    parts: dict[str, Tensor]
    """The unweighted components of the loss."""
    expected_error: Tensor | None = None
    """`[B]`: the calibrated uncertainty, in % of the half diagonal. None for a warp that is the
    same for every photo: it comes without one."""


Measure = Callable[[Batch], Measured]


def network_measure(
    model: HybridModel, backend: WarpBackend, loss: CompositeLoss, *, residual_enabled: bool
) -> Measure:
    """Measures a network."""

    def measure(batch: Batch) -> Measured:
        out = forward_step(model, batch, backend, loss, residual_enabled=residual_enabled)
        expected = out.prediction["uncertainty"] * model.uncertainty_factor
        return Measured(out.warp, out.total, out.parts, expected)

    return measure


def lens_measure(params: Sequence[float], recipe: Recipe, loss: CompositeLoss) -> Measure:
    """Measures one lens that is applied to every photo."""

    def measure(batch: Batch) -> Measured:
        image = batch["input_image"]
        lens = torch.tensor([params], device=image.device)
        grid = build_parametric_grid(lens, *image.shape[-2:]).expand(len(image), -1, -1, -1)
        warped = warp_image(image, grid, recipe.warp.mode, recipe.warp.padding_mode)
        _, parts = loss(
            warped,
            batch["target_image"],
            final_grid=grid,
            target_grid=true_grid(batch),
            residual_flow=no_flow(image),
        )
        out: BackendOutput = {
            "pred_image": warped,
            "final_grid": grid,
            "warp_stats": jacobian_stats(grid),
        }
        return Measured(out, loss.warp_total(parts), parts)

    return measure


@torch.no_grad()
def measure_all(
    measures: Mapping[str, Measure],
    batches: Iterable[Batch],
    recipe: Recipe,
    device: torch.device,
    go_on: Round,
) -> Table | None:
    """Means over all samples of all processes, by row and metric; None if `go_on` returned to stop.

    Collective: call on every rank. Every sample counts once, in an order that does not depend on
    the number of processes.
    """
    rows: list[tuple[int, dict[str, Row]]] = []
    source = iter(batches)
    while True:
        batch = next(source, None)
        stop, anyone_works = go_on(batch is not None)
        if stop:
            return None
        if not anyone_works:
            break
        if batch is None:
            continue
        batch = to_device(without_stand_ins(batch), device)
        if not len(batch["index"]):
            continue
        by_name = {name: _rows(measure, batch, recipe) for name, measure in measures.items()}
        indices = batch["index"].tolist()
        rows += [(i, {n: by_name[n][k] for n in by_name}) for k, i in enumerate(indices)]
    gathered: list[tuple[int, dict[str, Row]]] = sorted(gather_object(rows), key=lambda row: row[0])
    return {name: _summary([row[name] for _, row in gathered]) for name in measures}


def _rows(measure: Measure, batch: Batch, recipe: Recipe) -> list[Row]:
    """One row of metrics for each sample of a batch; a loss is the batch's mean."""
    warp, total, parts, expected = measure(batch)
    count = len(batch["index"])
    columns: dict[str, Tensor] = {
        "loss/total": total.expand(count),
        **{f"loss/{name}": value.expand(count) for name, value in parts.items()},
        **{f"warp_{name}": value for name, value in warp["warp_stats"].items()},
    }
    if "final_grid" in warp:
        grid, truth = warp["final_grid"], true_grid(batch)
        columns["epe_px"] = end_point_error(grid, truth)
        if expected is not None:
            in_px = percent_to_px(expected, *truth.shape[1:3])
            columns["expected_error_px"] = torch.where(
                columns["epe_px"].isfinite(), in_px, torch.nan
            )
            columns["error_vs_expected"] = columns["epe_px"] / in_px
        residual = warp.get("residual_flow_fullres_norm")
        safe = [
            evaluate_safety(
                grid[k : k + 1],
                None if residual is None else residual[k : k + 1],
                recipe.guardrails.safety,
            )["safe"]
            for k in range(count)
        ]
        columns["warp_safety_safe"] = torch.tensor(safe, dtype=torch.float32)
    table = torch.stack([c.double().cpu() for c in columns.values()], dim=1).tolist()
    return [dict(zip(columns, row, strict=True)) for row in table]


def _summary(rows: list[Row]) -> dict[str, float]:
    """Means of the known values of each metric; unknown everywhere: the metric is left out."""
    summary: dict[str, float] = {}
    for name in rows[0] if rows else ():
        known = [row[name] for row in rows if row[name] == row[name]]  # NaN is unknown
        if known:
            summary[name] = worst_or_mean(name, known)
    return summary
