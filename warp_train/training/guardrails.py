"""Stops a run that has gone wrong, and warns of one that is going astray."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from warp_train.geometry import IDENTITY_PARAMS, PARAM_NAMES, half_diagonal, isotropic_scale
from warp_train.recipe.sections import GuardrailsConfig
from warp_train.runtime.errors import WarpTrainError

SHOWN_IDS = 8


class NonFiniteError(WarpTrainError):
    """A loss or a gradient is NaN or infinite: the run cannot go on, nor be saved."""


def check_finite(
    total: float, parts: Mapping[str, float], grad_norm: float, step: int, image_ids: Sequence[str]
) -> None:
    """Stops at the first value that is not finite.

    Args:
        grad_norm: global norm before clipping; 0 where it does not count.
        image_ids: samples of this process in that step.

    Raises:
        NonFiniteError: names the step, the loss components (or the gradient) and the samples.
    """
    values = {"grad_norm": grad_norm, "loss/total": total, **parts}
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    if not bad:
        return
    shown = ", ".join(f"{name} is {values[name]}" for name in reversed(bad))
    ids = ", ".join(image_ids[:SHOWN_IDS])
    more = f" and {len(image_ids) - SHOWN_IDS} more" if len(image_ids) > SHOWN_IDS else ""
    elsewhere = (
        "; the losses of this process were finite: look at the others' and at optim.lr"
        if bad == ["grad_norm"]
        else ""
    )
    raise NonFiniteError(f"step {step}: {shown}; samples {ids}{more}{elsewhere}")


@dataclass
class _Pending:
    names: list[str]
    values: Tensor
    ready: torch.cuda.Event | None
    step: int
    image_ids: list[str]


class FiniteGuard:
    """Runs `check_finite` on every step, without making a GPU wait.

    On the CPU it looks at once. On a GPU the values are copied in the background and looked at when
    the next step is watched, by when they have long arrived. The gradient norm is global, so that
    every rank stops at the same step.
    """

    def __init__(self, *, grads_may_overflow: bool) -> None:
        """`grads_may_overflow`: fp16 loss scaling, where a non-finite gradient skips the step."""
        self._grads_count = not grads_may_overflow
        self._pending: _Pending | None = None

    def watch(
        self,
        total: Tensor,
        parts: Mapping[str, Tensor],
        grad_norm: Tensor,
        step: int,
        image_ids: Sequence[str],
    ) -> None:
        """Notes one optimizer step; call after its backward pass, before anything is saved.

        Raises:
            NonFiniteError: this step (CPU) or the one before (GPU) was not finite.
        """
        norm = grad_norm if self._grads_count else torch.zeros_like(total)
        scalars = [value.detach().float() for value in (total, norm, *parts.values())]
        values = torch.stack([value.to(total.device) for value in scalars])
        self.flush()
        ready = None
        if values.is_cuda:
            host = torch.empty(values.shape, pin_memory=True)
            values = host.copy_(values, non_blocking=True)
            ready = torch.cuda.current_stream(total.device).record_event()
        self._pending = _Pending(list(parts), values, ready, step, list(image_ids))
        if ready is None:
            self.flush()

    def flush(self) -> None:
        """Looks at the step still under way: call before validating and before saving.

        Raises:
            NonFiniteError: it was not finite.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return
        if pending.ready is not None:
            pending.ready.synchronize()
        total, norm, *parts = pending.values.tolist()
        named = {f"loss/{name}": v for name, v in zip(pending.names, parts, strict=True)}
        check_finite(total, named, norm, pending.step, pending.image_ids)


@dataclass
class WarningLedger:
    """Lets each cause warn once per epoch."""

    emit: Callable[[str], None] = logging.getLogger("warp_train").warning
    _warned: set[tuple[int, str]] = field(default_factory=set)

    def warn(self, epoch: int, cause: str, message: str) -> None:
        if (epoch, cause) not in self._warned:
            self._warned.add((epoch, cause))
            self.emit(f"epoch {epoch + 1}: {message}")


@torch.no_grad()
def saturation_stats(
    params: Tensor, bounds: Mapping[str, float], level: float
) -> dict[str, Tensor]:
    """How often each of the lens parameters `[B, 8]` is at its bound.

    Args:
        bounds: largest deviation from the identity by parameter name.
        level: share of a bound from which a parameter counts as saturated.

    Returns:
        Scalars `param_sat_frac_<name>`, `param_sat_frac_max` and `param_mean_<name>`, on the
        device of `params`.
    """
    values = params.float()
    limit = values.new_tensor([bounds[name] for name in PARAM_NAMES])
    deviation = (values - values.new_tensor(IDENTITY_PARAMS)).abs()
    fractions = (deviation >= level * limit).float().mean(0)
    stats = {f"param_sat_frac_{n}": f for n, f in zip(PARAM_NAMES, fractions, strict=True)}
    stats["param_sat_frac_max"] = fractions.amax()
    stats |= {f"param_mean_{n}": m for n, m in zip(PARAM_NAMES, values.mean(0), strict=True)}
    return stats


@torch.no_grad()
def residual_stats(residual: Tensor) -> dict[str, Tensor]:
    """`residual_mean_px` and `residual_max_px` of `[B, H, W, 2]` displacements in grid units."""
    height, width = residual.shape[1:3]
    to_pixels = residual.new_tensor(isotropic_scale(height, width)) * half_diagonal(height, width)
    length = (residual * to_pixels).norm(dim=-1)
    return {"residual_mean_px": length.mean(), "residual_max_px": length.amax()}


def guardrail_warnings(
    metrics: Mapping[str, float], bounds: Mapping[str, float], limits: GuardrailsConfig
) -> list[tuple[str, str]]:
    """The warnings that the metrics of one log line call for, as `(cause, message)`.

    Args:
        metrics: host values of `saturation_stats`, `residual_stats` and the `warp_*` metrics;
            missing ones are skipped.
    """
    return [
        *_saturation_warnings(metrics, bounds, limits),
        *_residual_warnings(metrics, limits),
        *_safety_warnings(metrics, limits),
    ]


def _saturation_warnings(
    metrics: Mapping[str, float], bounds: Mapping[str, float], limits: GuardrailsConfig
) -> list[tuple[str, str]]:
    return [
        (
            f"saturation of {name}",
            f"{name} is at its bound in {fraction:.0%} of the samples (mean "
            f"{metrics[f'param_mean_{name}']:.4g}, bound ±{bounds[name]:g} about {centre:g}): "
            f"the data bends further than model.param_bounds.{name} allows",
        )
        for name, centre in zip(PARAM_NAMES, IDENTITY_PARAMS, strict=True)
        if (fraction := metrics.get(f"param_sat_frac_{name}", 0.0))
        > limits.param_saturation_max_fraction
    ]


def _residual_warnings(
    metrics: Mapping[str, float], limits: GuardrailsConfig
) -> list[tuple[str, str]]:
    longest = metrics.get("residual_max_px", 0.0)
    if longest <= limits.residual_max_px:
        return []
    return [
        (
            "residual magnitude",
            f"the residual moves pixels by up to {longest:.2f} px (mean "
            f"{metrics['residual_mean_px']:.2f} px), above guardrails.residual_max_px "
            f"{limits.residual_max_px:g}: raise loss.flow_mag_weight",
        )
    ]


def _safety_warnings(
    metrics: Mapping[str, float], limits: GuardrailsConfig
) -> list[tuple[str, str]]:
    safety = limits.safety
    checks = (
        ("warp_negative_det_pct", "above", "max_negative_det_pct", safety.max_negative_det_pct),
        ("warp_det_min", "below", "min_det", safety.min_det),
        ("warp_det_p01", "below", "min_det_p01", safety.min_det_p01),
        ("warp_oob_ratio", "above", "max_oob_ratio", safety.max_oob_ratio),
    )
    return [
        (metric, f"{metric} is {value:.4g}, {side} guardrails.safety.{key} {limit:g}")
        for metric, side, key, limit in checks
        if (value := metrics.get(metric)) is not None
        and (value > limit if side == "above" else value < limit)
    ]
