"""W&B artifacts of the best weights, and which run started from which."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from runs_helpers import arguments
from training_server import Server

from warp_train.training.tracker_kinds import KINDS

STAGES = ("stage1_param_only", "stage2_hybrid")
FEW = ("train.max_steps=1", "data.val_samples=1", "tracking.wandb=offline")


def offline_run(run: Path) -> bytes:
    """What W&B would upload of a run."""
    (file,) = run.rglob("*.wandb")
    return file.read_bytes()


def recorded_id(run: Path) -> str:
    (state,) = run.glob("last/trainer_state.json")
    return str(json.loads(state.read_text())["wandb_run_id"])


@pytest.mark.parametrize("kept", [True, False])
def test_a_chain_records_its_weights_and_their_lineage(
    kept: bool, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "night.yaml").write_text(f"stages: [{', '.join(STAGES)}]\n")
    more = (*FEW, *(() if kept else ("tracking.artifacts=false",)))
    environment = {"WANDB_SILENT": "true", "HOME": str(tmp_path / "home")}
    training = arguments(str(tmp_path / "night.yaml"), tmp_path / "runs", *more)
    server.start(*training, env=environment)
    assert server.exit_status() == 0, server.printed()
    first, second = (tmp_path / "runs" / f"night-{stage}" for stage in STAGES)
    for run in (first, second):
        sent = offline_run(run)
        assert (f"model-{recorded_id(run)}".encode() in sent) == kept
        weights = os.fsencode((run / "best").resolve() / "model.safetensors")
        assert (weights in sent) == kept
    assert (f'"model-{recorded_id(first)}:best"'.encode() in offline_run(second)) == kept
    assert b"init_artifact" not in offline_run(first)


def test_with_a_connection_the_artifact_of_the_start_is_an_input() -> None:
    used: list[str] = []
    config: dict[str, Any] = {}
    run = SimpleNamespace(
        offline=False,
        use_artifact=used.append,
        config=SimpleNamespace(update=lambda values, **_: config.update(values)),
    )
    KINDS["wandb"].record_start(SimpleNamespace(tracker=run), "abcd1234")
    assert used == ["model-abcd1234:best"] == [config["init_artifact"]]
