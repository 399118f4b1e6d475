"""Guardrails: what stops a run, what warns, and what the messages name."""

import math

import pytest
import torch

from warp_train.geometry import PARAM_NAMES, SafetyConfig, upsample_residual_flow
from warp_train.recipe.sections import GuardrailsConfig
from warp_train.training.guardrails import (
    FiniteGuard,
    NonFiniteError,
    WarningLedger,
    guardrail_warnings,
    residual_stats,
    saturation_stats,
)

BOUNDS = dict.fromkeys(PARAM_NAMES, 0.5)
FINE, NAN, INF = torch.tensor(1.0), torch.tensor(float("nan")), torch.tensor(float("inf"))


def test_non_finite_loss_names_step_component_and_samples() -> None:
    guard = FiniteGuard(grads_may_overflow=False)
    guard.watch(FINE, {"pixel": FINE, "ssim": FINE}, FINE, 1, ["a", "b"])
    with pytest.raises(NonFiniteError) as caught:
        guard.watch(NAN, {"pixel": FINE, "ssim": INF}, NAN, 41, ["house_1", "house_2"])
    message = str(caught.value)
    assert message.startswith("step 41: loss/ssim is inf, loss/total is nan, grad_norm is nan")
    assert "samples house_1, house_2" in message
    assert "pixel" not in message


def test_non_finite_gradient_alone_stops_and_many_samples_are_counted() -> None:
    guard = FiniteGuard(grads_may_overflow=False)
    with pytest.raises(NonFiniteError, match=r"step 3: grad_norm is inf; samples .* and 12 more"):
        guard.watch(FINE, {}, INF, 3, [f"image{i}" for i in range(20)])


def test_fp16_overflow_of_the_gradient_is_not_an_error_but_the_loss_is() -> None:
    guard = FiniteGuard(grads_may_overflow=True)
    guard.watch(FINE, {}, INF, 1, ["a"])
    with pytest.raises(NonFiniteError, match="loss/total is inf"):
        guard.watch(INF, {}, INF, 2, ["a"])


def test_saturation_counts_samples_at_the_bound_on_either_side() -> None:
    params = torch.zeros(4, 8)
    params[:, 7] = 1.0
    params[:3, 0] = torch.tensor([0.5, -0.48, 0.47])
    params[0, 7] = 1.5
    stats = saturation_stats(params, BOUNDS, level=0.95)
    assert stats["param_sat_frac_k1"].item() == 0.5
    assert stats["param_sat_frac_s"].item() == 0.25
    assert stats["param_sat_frac_k2"].item() == 0.0
    assert stats["param_sat_frac_max"].item() == 0.5
    assert stats["param_mean_k1"].item() == pytest.approx(0.1225)


def test_residual_length_is_in_pixels_of_the_frame() -> None:
    flow = torch.zeros(1, 2, 5, 9)
    flow[:, 0], flow[:, 1] = 0.3, 0.4
    stats = residual_stats(upsample_residual_flow(flow, 4 * 16 + 1, 8 * 16 + 1))
    assert stats["residual_max_px"].item() == pytest.approx(8.0, rel=1e-5)
    assert stats["residual_mean_px"].item() == pytest.approx(8.0, rel=1e-5)


def test_warnings_name_the_parameter_the_fraction_and_the_values() -> None:
    metrics = {
        "param_sat_frac_k1": 0.6,
        "param_mean_k1": -0.493,
        "param_sat_frac_k2": 0.1,
        "residual_max_px": 12.5,
        "residual_mean_px": 3.25,
        "warp_negative_det_pct": 0.7,
        "warp_det_min": 0.9,
        "warp_oob_ratio": 0.31,
    }
    found = dict(guardrail_warnings(metrics, BOUNDS, GuardrailsConfig()))
    assert set(found) == {
        "saturation of k1",
        "residual magnitude",
        "warp_negative_det_pct",
        "warp_oob_ratio",
    }
    assert all(part in found["saturation of k1"] for part in ("k1", "60%", "-0.493", "±0.5"))
    assert all(part in found["residual magnitude"] for part in ("12.50 px", "3.25 px", "8"))
    assert "0.7, above guardrails.safety.max_negative_det_pct 0" in found["warp_negative_det_pct"]


def test_every_threshold_is_a_recipe_key() -> None:
    lenient = GuardrailsConfig(
        param_saturation_max_fraction=0.7,
        residual_max_px=20,
        safety=SafetyConfig(max_negative_det_pct=1, max_oob_ratio=0.5),
    )
    metrics = {
        "param_sat_frac_k1": 0.6,
        "residual_max_px": 12.5,
        "warp_negative_det_pct": 0.7,
        "warp_oob_ratio": 0.31,
    }
    assert guardrail_warnings(metrics, BOUNDS, lenient) == []


def test_a_cause_warns_once_per_epoch() -> None:
    said: list[str] = []
    ledger = WarningLedger(said.append)
    for epoch in (0, 0, 1):
        ledger.warn(epoch, "saturation of k1", f"k1 {math.pi:.2f}")
        ledger.warn(epoch, "residual magnitude", "long")
    assert said == [
        "epoch 1: k1 3.14",
        "epoch 1: long",
        "epoch 2: k1 3.14",
        "epoch 2: long",
    ]
