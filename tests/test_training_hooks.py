"""What plugs into training: warp backends and the proxy scorer."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from warp_train.geometry import jacobian_stats
from warp_train.recipe.sections import WarpConfig
from warp_train.runtime.errors import WarpTrainError
from warp_train.training import proxy_hooks, warp_backends
from warp_train.training.protocols import check_backend_output
from warp_train.training.proxy_hooks import ProxyHook, ProxyScores
from warp_train.training.proxy_scoring import load_scorer
from warp_train.training.warp_backends import get_backend

PARAMS = torch.tensor([[-0.2, 0.05, 0.01, 0.003, -0.004, 0.02, -0.01, 1.1]])


def picture(height: int = 48, width: int = 80) -> torch.Tensor:
    noise = np.random.default_rng(0).random((height, width, 3)).astype(np.float32)
    return torch.from_numpy(cv2.GaussianBlur(noise, (0, 0), 2)).permute(2, 0, 1)[None]


def test_geometry_backend_corrects_as_opencv_does() -> None:
    image = picture()
    height, width = image.shape[-2:]
    k1, k2, k3, p1, p2, dcx, dcy, s = PARAMS[0].double().tolist()
    diagonal = np.hypot(width - 1, height - 1)
    camera = np.array(
        [
            [diagonal / 2, 0, (width - 1) / 2 + dcx * diagonal / 2],
            [0, diagonal / 2, (height - 1) / 2 + dcy * diagonal / 2],
            [0, 0, 1],
        ]
    )
    corrected = camera * np.array([[s, 1, 1], [1, s, 1], [1, 1, 1]])
    maps = cv2.initUndistortRectifyMap(
        camera, np.array([k1, k2, p1, p2, k3]), None, corrected, (width, height), cv2.CV_32FC1
    )
    # OpenCV's remap rounds positions to 1/32 px: sample by hand instead.
    x, y = (np.clip(m, 0, n - 1) for m, n in zip(maps, (width, height), strict=True))
    x0, y0 = np.minimum(x.astype(int), width - 2), np.minimum(y.astype(int), height - 2)
    fx, fy = (x - x0)[..., None], (y - y0)[..., None]
    source = image[0].permute(1, 2, 0).numpy()
    expected = (
        source[y0, x0] * (1 - fx) * (1 - fy)
        + source[y0, x0 + 1] * fx * (1 - fy)
        + source[y0 + 1, x0] * (1 - fx) * fy
        + source[y0 + 1, x0 + 1] * fx * fy
    )
    out = get_backend(WarpConfig()).warp(image, PARAMS, None)
    assert np.abs(out["pred_image"][0].permute(1, 2, 0).numpy() - expected).max() < 1e-3
    assert "residual_flow_fullres_norm" not in out
    check_backend_output(out, needs_final_grid=True)


def test_residual_moves_the_reading_position_by_its_pixels() -> None:
    flow = torch.zeros(1, 2, 4, 6)
    flow[:, 0] = 0.5  # half a cell of its own grid: (80 - 1) / (6 - 1) / 2 px of the frame
    backend = get_backend(WarpConfig())
    out = backend.warp(picture(), PARAMS, flow)
    lens_only = backend.warp(picture(), PARAMS, None)["final_grid"]
    shift = (out["final_grid"] - lens_only) * torch.tensor([79 / 2, 47 / 2])
    assert torch.allclose(shift[..., 0], torch.tensor(7.9), atol=1e-4)
    assert torch.allclose(shift[..., 1], torch.tensor(0.0), atol=1e-4)


@pytest.mark.parametrize("backend", ["geometry", "mock"])
def test_backends_stay_in_float32_under_autocast_and_let_gradients_through(backend: str) -> None:
    params = PARAMS.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        warp = get_backend(WarpConfig.model_validate({"backend": backend}))
        out = warp.warp(picture(), params, torch.zeros(1, 2, 3, 5, requires_grad=True))
    assert out["pred_image"].dtype == out["final_grid"].dtype == torch.float32
    out["pred_image"].square().sum().backward()
    assert params.grad is not None
    assert torch.isfinite(params.grad).all()


def test_mock_returns_its_input() -> None:
    out = get_backend(WarpConfig(backend="mock")).warp(picture(), PARAMS, None)
    assert torch.equal(out["pred_image"], picture())
    assert out["warp_stats"]["negative_det_pct"].item() == 0
    assert out["warp_stats"]["det_mean"].item() == pytest.approx(1)


@pytest.mark.parametrize("backend", ["geometry", "mock"])
def test_statistics_are_computed_when_they_are_looked_at(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []

    def counted(grid: torch.Tensor) -> dict[str, torch.Tensor]:
        computed.append(len(grid))
        return jacobian_stats(grid)

    monkeypatch.setattr(warp_backends, "jacobian_stats", counted)
    out = get_backend(WarpConfig.model_validate({"backend": backend})).warp(picture(), PARAMS, None)
    assert computed == []
    assert dict(out["warp_stats"]) == jacobian_stats(out["final_grid"].detach())
    assert len(out["warp_stats"]) == 5
    assert computed == [1]


def test_a_backend_that_breaks_the_contract_is_told_the_key() -> None:
    with pytest.raises(WarpTrainError, match=r"'final_grid' \(a Jacobian or grid loss is on\)"):
        check_backend_output({"pred_image": 0, "warp_stats": {}}, needs_final_grid=True)
    with pytest.raises(WarpTrainError, match="no 'warp_stats'"):
        check_backend_output({"pred_image": 0}, needs_final_grid=False)
    check_backend_output({"pred_image": 0, "warp_stats": {}}, needs_final_grid=False)


SCORERS = """
import os
import signal
import time

def brightness(pred, gt, config):
    assert pred.shape == gt.shape == (6, 8, 3) and config is None
    score = float(pred.mean())
    return {
        "total_score": score,
        "sub_scores": dict.fromkeys(("edge", "line", "grad", "ssim", "mae"), score / 2),
        "flags": {"hard_fail": score < 0.5, "reasons": []},
    }

def raises(pred, gt, config):
    raise RuntimeError("no model\\nat all")

def incomplete(pred, gt, config):
    return {"total_score": 0.5, "sub_scores": {"edge": 1}, "flags": {}}

def beyond(pred, gt, config):
    return {**brightness(pred, gt, config), "total_score": 40.0}

def slow(pred, gt, config):
    time.sleep(0.25)
    return brightness(pred, gt, config)

def hangs(pred, gt, config):
    time.sleep(600)

def dies(pred, gt, config):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def scorers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "toy_scorers.py").write_text(SCORERS)
    monkeypatch.syspath_prepend(tmp_path)
    yield "toy_scorers"
    sys.modules.pop("toy_scorers", None)
    load_scorer.cache_clear()


def dark_and_bright() -> torch.Tensor:
    return torch.stack([torch.full((3, 6, 8), 0.25), torch.full((3, 6, 8), 0.75)])


def score(
    name: str, said: list[str], batches: int = 1, workers: int = 0, max_samples: int = 99
) -> ProxyScores | None:
    with ProxyHook(name, said.append, workers=workers, max_samples=max_samples) as hook:
        hook.begin(step=7, epoch=2)
        for _ in range(batches):
            hook.submit(dark_and_bright(), dark_and_bright())
        return hook.wait_for()


@pytest.mark.parametrize("workers", [0, 2])
def test_scores_are_averaged_over_pictures(workers: int, scorers: str) -> None:
    said: list[str] = []
    scores = score(f"{scorers}:brightness", said, batches=3, workers=workers)
    assert scores is not None
    assert (scores.step, scores.epoch) == (7, 2)
    assert scores.values["proxy/total_score"] == pytest.approx(0.5)
    assert scores.values["proxy/edge"] == pytest.approx(0.25)
    assert scores.values["proxy/hard_fail_frac"] == 0.5
    assert said == []


def test_no_more_pictures_are_scored_than_asked_for(scorers: str) -> None:
    scores = score(f"{scorers}:brightness", [], batches=3, max_samples=3)
    assert scores is not None
    assert scores.values["proxy/total_score"] == pytest.approx((0.25 + 0.75 + 0.25) / 3)


def test_training_goes_on_until_the_scores_are_there_and_gets_them_once(scorers: str) -> None:
    said: list[str] = []
    with ProxyHook(f"{scorers}:slow", said.append, workers=1, max_samples=40) as hook:
        assert hook.collect() is None
        hook.begin(1, 0)
        began = time.monotonic()
        hook.submit(dark_and_bright(), dark_and_bright())
        assert hook.collect() is None
        assert time.monotonic() - began < 0.45
        scores = hook.wait_for()
        assert scores is not None
        assert time.monotonic() - began > 0.5
        assert hook.collect() is None
        assert hook.wait_for() is None
        hook.begin(2, 0)
        for _ in range(20):
            hook.submit(dark_and_bright(), dark_and_bright())
        hook.begin(3, 0)  # an interrupted validation's pictures are nobody's any more
        hook.submit(dark_and_bright()[:1], dark_and_bright()[:1])
        deadline = time.monotonic() + 5  # half of what all of them would take
        while (scores := hook.collect()) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert scores is not None
        assert (scores.step, scores.values["proxy/total_score"]) == (3, 0.25)
    assert said == []


@pytest.mark.parametrize("patience", ["_STUCK_S", "_HURRY_S"])
def test_a_scorer_that_hangs_is_not_waited_for(
    patience: str, scorers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy_hooks, patience, 0.5)
    said: list[str] = []
    with ProxyHook(f"{scorers}:hangs", said.append, workers=1, max_samples=2) as hook:
        hook.begin(8, 0)
        hook.submit(dark_and_bright(), dark_and_bright())
        began = time.monotonic()
        assert hook.wait_for(hurry=lambda: patience == "_HURRY_S") is None
        assert time.monotonic() - began < 5
        assert hook.room == 0
    assert said == ["proxy.scorer is switched off: 2 pictures of step 8 are still not scored"]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("raises", "RuntimeError: no model"),
        ("incomplete", "sub_scores has no line, grad, ssim, mae"),
        ("beyond", r"total_score is 40.0, expected 0..1"),
    ],
)
def test_a_failing_scorer_warns_once_and_is_off(
    scorers: str, name: str, reason: str, workers: int
) -> None:
    said: list[str] = []
    with ProxyHook(f"{scorers}:{name}", said.append, workers=workers, max_samples=99) as hook:
        for step in range(3):
            hook.begin(step, 0)
            hook.submit(dark_and_bright(), dark_and_bright())
            assert hook.wait_for() is None
    assert len(said) == 1
    assert reason in said[0]
    assert "\n" not in said[0]


def test_a_scorer_that_dies_warns_once_and_is_off(scorers: str) -> None:
    said: list[str] = []
    assert score(f"{scorers}:dies", said, workers=1) is None
    how = "was killed by signal 9 (out of memory?)"
    assert said == [f"proxy.scorer is switched off: its process {how}"]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("name", ["no_such_module:score", "toy_scorers:no_such_function"])
def test_a_scorer_that_cannot_be_imported_warns_once(scorers: str, name: str, workers: int) -> None:
    said: list[str] = []
    assert score(name, said, batches=2, workers=workers) is None
    assert len(said) == 1
    assert name in said[0]
