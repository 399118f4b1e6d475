"""Whole runs with a proxy scorer: when its lines are written, how they resume, what it chooses."""

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs_helpers import (
    ENVIRONMENT,
    as_if_killed_after,
    assert_same_weights,
    command,
    losses,
    metrics,
    train,
)

from warp_train.data import LensConfig, SampleKey
from warp_train.data.lenses import AnalyticLenses
from warp_train.data.sources.scenes import Scenes
from warp_train.metrics import compute_proxy_score
from warp_train.training.run_folder import MetricsWriter, is_scored, truncate_metrics

STAGE = "stage1_param_only"
BUILT_IN = "proxy.scorer=warp_train.metrics:compute_proxy_score"
SHORT = ("train.max_steps=6", "validate.every_steps=2", "data.train_samples=24")

SCORERS = """
import time
calls = 0

def result(value):
    subs = dict.fromkeys(("edge", "line", "grad", "ssim", "mae"), value)
    return {"total_score": value, "sub_scores": subs, "flags": {"hard_fail": False, "reasons": []}}

def second_is_best(pred, gt, config):
    global calls
    calls += 1
    return result((0.2, 0.9, 0.5, 0.4)[(calls - 1) // 5])

def slow(pred, gt, config):
    time.sleep(0.1)
    return result(0.5)

def dies(pred, gt, config):
    import os
    os.kill(os.getpid(), 9)
"""


@pytest.fixture
def scorers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "run_scorers.py").write_text(SCORERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "proxy.scorer=run_scorers"


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unbroken run that the built-in scorer watches and another metric judges."""
    output = tmp_path_factory.mktemp("whole")
    assert train(STAGE, output, BUILT_IN, *SHORT, "checkpoint.every_steps=3") == 0
    return output / STAGE


def test_every_validation_is_scored_once_in_a_line_of_its_own(whole: Path) -> None:
    scored = metrics(whole, "proxy")
    assert [(row["step"], row["epoch"]) for row in scored] == [(0, 0), (2, 0), (4, 0), (6, 0)]
    assert [row["step"] for row in metrics(whole, "val")] == [0, 2, 4, 6]
    assert not any("proxy/total_score" in row for row in metrics(whole, "val"))
    # An untrained network changes nothing: its score is that of the distorted samples themselves.
    samples = Scenes(5, (32, 48), AnalyticLenses(LensConfig()), seed=0, split="val")
    expected = []
    for index in range(5):
        sample = samples[SampleKey(0, index)]
        pred, gt = (sample[k].permute(1, 2, 0).numpy() for k in ("input_image", "target_image"))
        expected.append(compute_proxy_score(pred, gt))
    assert scored[0]["proxy/total_score"] == pytest.approx(
        np.mean([result["total_score"] for result in expected]), abs=1e-3
    )
    for name in ("edge", "line", "grad", "ssim", "mae"):
        mean = np.mean([result["sub_scores"][name] for result in expected])
        assert scored[0][f"proxy/{name}"] == pytest.approx(mean, abs=5e-3)


def test_scoring_changes_nothing_wherever_it_runs(whole: Path, tmp_path: Path) -> None:
    more = (*SHORT, "checkpoint.every_steps=3")
    assert train(STAGE, tmp_path / "here", BUILT_IN, *more, "proxy.workers=0") == 0
    here = tmp_path / "here" / STAGE
    assert metrics(here, "proxy") == metrics(whole, "proxy")
    assert_same_weights(here, whole)
    order = [(row["split"], row["step"]) for row in rows(here)]
    assert order.index(("proxy", 0)) == order.index(("train", 1)) + 1  # no later than need be


@pytest.mark.parametrize("scored", [True, False], ids=["scored", "killed before it was scored"])
def test_a_resumed_run_has_each_score_once(whole: Path, tmp_path: Path, scored: bool) -> None:
    broken = tmp_path / STAGE
    as_if_killed_after(whole, 2, broken)
    if not scored:
        lines = [row for row in rows(broken) if row["split"] != "proxy" or row["step"] < 2]
        (broken / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    more = (BUILT_IN, *SHORT, "checkpoint.every_steps=3", "--resume-from", "auto")
    assert train(STAGE, tmp_path, *more) == 0
    assert metrics(broken, "proxy") == metrics(whole, "proxy")
    assert_same_weights(broken, whole)
    assert losses(broken) == losses(whole)


def test_the_proxy_score_chooses_the_best(scorers: str, tmp_path: Path) -> None:
    best = "validate.best_metric=proxy/total_score"
    assert train(STAGE, tmp_path, f"{scorers}:second_is_best", best, *SHORT) == 0
    run = tmp_path / STAGE
    scores = [(row["step"], row["proxy/total_score"]) for row in metrics(run, "val")]
    assert scores == [
        (step, pytest.approx(v)) for step, v in ((0, 0.2), (2, 0.9), (4, 0.5), (6, 0.4))
    ]
    assert metrics(run, "proxy") == []
    assert (run / "best").resolve().name == "step-000000002"
    state = json.loads((run / "last" / "trainer_state.json").read_text())
    assert state["best"] == {"name": "proxy/total_score", "value": pytest.approx(0.9), "step": 2}


def test_training_goes_on_while_pictures_are_scored(scorers: str, tmp_path: Path) -> None:
    assert train(STAGE, tmp_path, f"{scorers}:slow", *SHORT) == 0
    order = [(row["split"], row["step"]) for row in rows(tmp_path / STAGE)]
    assert [row for row in order if row[0] == "proxy"] == [("proxy", s) for s in (0, 2, 4, 6)]
    # Later than the next step, and earlier than the next validation.
    for step in (0, 2, 4):
        assert order.index(("train", step + 1)) < order.index(("proxy", step))
        assert order.index(("proxy", step)) < order.index(("val", step + 2))


def test_a_scorer_that_dies_is_a_warning(
    scorers: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert train(STAGE, tmp_path, f"{scorers}:dies", *SHORT) == 0
    assert sum("its process was killed" in record.getMessage() for record in caplog.records) == 1
    assert len(metrics(tmp_path / STAGE, "val")) == 4
    assert metrics(tmp_path / STAGE, "proxy") == []


def test_an_interrupted_run_waits_for_the_scores_it_has_behind_it(
    scorers: str, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        command(STAGE, tmp_path, f"{scorers}:slow", "train.epochs=50"),
        env={**ENVIRONMENT, "PYTHONPATH": f"{ENVIRONMENT['PYTHONPATH']}:{tmp_path}"},
        stderr=subprocess.PIPE,
        text=True,
    )
    log = tmp_path / STAGE / "metrics.jsonl"
    while not (log.exists() and '"train"' in log.read_text()):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "Traceback" not in errors
    assert "WARNING" not in errors
    assert [row["step"] for row in metrics(tmp_path / STAGE, "proxy")] == [0]


def test_lines_of_scores_are_dropped_with_their_validation(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = MetricsWriter(path)
    for step in (0, 10, 20):
        writer.write(step, 0, "val", {})
        writer.write(step, 0, "proxy", {"proxy/total_score": 0.5})
    truncate_metrics(path, 15, validated_step=10)
    kept = [(row["split"], row["step"]) for row in map(json.loads, path.read_text().splitlines())]
    assert kept == [("val", 0), ("proxy", 0), ("val", 10), ("proxy", 10)]
    assert is_scored(path, 10)
    assert not is_scored(path, 20)
    truncate_metrics(path, 5, validated_step=None)
    assert path.read_text() == ""
