"""A forward pass over one batch: prediction, warp, losses, and the metrics that follow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from warp_train.data import Batch
from warp_train.geometry import build_parametric_grid, end_point_error
from warp_train.losses import CompositeLoss
from warp_train.models import Prediction
from warp_train.recipe import Recipe
from warp_train.training.guardrails import residual_stats, saturation_stats
from warp_train.training.protocols import BackendOutput, WarpBackend, check_backend_output

GRID_TERMS = ("grid", "jacobian")
"""Losses that need the final grid from the backend."""
WORST_IS_LOWEST = ("warp_det_min", "warp_det_p01", "votes_effective_min")
WORST_IS_HIGHEST = ("residual_max_px",)
"""Metrics that are reported for the worst sample; all others are means."""


@dataclass(frozen=True)
class StepOutput:
    """The results of a forward pass; all tensors are on the device."""

    objective: Tensor
    """The sum to minimise."""
    total: Tensor
    """`loss/total`: the objective without the uncertainty, see `CompositeLoss.warp_total`."""
    parts: dict[str, Tensor]
    """The unweighted components."""
    prediction: Prediction
    warp: BackendOutput
    target_grid: Tensor


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on `device`; copies from pinned memory do not block."""
    return {
        key: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
        for key, value in batch.items()
    }


def forward_step(
    model: torch.nn.Module,
    batch: Batch,
    backend: WarpBackend,
    loss: CompositeLoss,
    *,
    residual_enabled: bool,
) -> StepOutput:
    """Predicts, warps once and measures. The network runs under Accelerate's autocast; the rest in
    float32.

    Raises:
        WarpTrainError: a key is missing in the backend's output; the message names it.
    """
    prediction: Prediction = model(batch["input_image"])
    flow = prediction["residual_flow"] if residual_enabled else None
    warp = backend.warp(batch["input_image"], prediction["params"], flow)
    check_backend_output(warp, needs_final_grid=not loss.weights.keys().isdisjoint(GRID_TERMS))
    truth = true_grid(batch)
    grid = warp.get("final_grid")
    if grid is None:  # allowed where no term but the uncertainty needs it: the lens is near enough
        grid = build_parametric_grid(prediction["params"], *truth.shape[1:3])
    objective, parts = loss(
        warp["pred_image"],
        batch["target_image"],
        final_grid=grid,
        target_grid=truth,
        residual_flow=prediction["residual_flow"],  # zeros where the residual is off
        uncertainty=prediction["uncertainty"],
    )
    return StepOutput(objective, loss.warp_total(parts), parts, prediction, warp, truth)


def true_grid(batch: Batch) -> Tensor:
    """The exact warp `[B, H, W, 2]` of each sample; NaN where it is not known."""
    if "target_grid" in batch:
        grid: Tensor = batch["target_grid"]
        return grid
    return build_parametric_grid(batch["target_params"], *batch["target_image"].shape[-2:])


def worst_or_mean(name: str, values: Sequence[float]) -> float:
    """One value of a metric from those of several samples or processes."""
    if name in WORST_IS_LOWEST:
        return min(values)
    return max(values) if name in WORST_IS_HIGHEST else sum(values) / len(values)


@torch.no_grad()
def diagnostics(out: StepOutput, bounds: Mapping[str, float], recipe: Recipe) -> dict[str, Tensor]:
    """Scalars to log of one batch. Computed on the device; call it on logged steps only."""
    values = saturation_stats(
        out.prediction["params"], bounds, recipe.guardrails.param_saturation_level
    )
    values["votes_effective_min"] = out.prediction["debug_stats"]["effective_votes"].min()
    for stat, tensor in out.warp["warp_stats"].items():
        name = f"warp_{stat}"
        values[name] = tensor.amin() if name in WORST_IS_LOWEST else tensor.mean()
    if "residual_flow_fullres_norm" in out.warp:
        values |= residual_stats(out.warp["residual_flow_fullres_norm"])
    if "final_grid" in out.warp:
        epe = end_point_error(out.warp["final_grid"], out.target_grid)
        values["epe_px"] = torch.nanmean(epe)
    return values
