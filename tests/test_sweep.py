"""`launch/sweep.yaml` as W&B's agent starts it, the W&B run that it names, and Optuna."""

import itertools
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from pages_helpers import blocks
from runs_helpers import ROOT, STAGES, metrics, one_line_error, train
from training_server import Server
from wandb import wandb_agent

from warp_train.cli import _parse
from warp_train.recipe import load_recipe

SWEEP = yaml.safe_load((ROOT / "launch" / "sweep.yaml").read_text())
AGENT = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_RUN_ID": "agent123"}
AGENT = {**AGENT, "WANDB_SWEEP_ID": "sweep567"}


def extremes(parameter: dict[str, Any]) -> list[Any]:
    """The values that a sweep lists, or the ends of a range."""
    return parameter["values"] if "values" in parameter else [parameter["min"], parameter["max"]]


COMBINATIONS = [
    dict(zip(SWEEP["parameters"], values, strict=True))
    for values in itertools.product(*map(extremes, SWEEP["parameters"].values()))
]


class Started:
    """In place of a process of the agent: its command and environment."""

    def __init__(self, command: list[str], env: dict[str, str], forward_signals: bool = False):
        self.command, self.env = command, env


def started_by_the_agent(values: dict[str, Any]) -> Started:
    """What W&B's own agent starts for one combination of parameters."""
    agent = wandb_agent.Agent(api=None, queue=None)
    agent._sweep_command = list(SWEEP["command"])
    arguments = {name: {"value": value} for name, value in values.items()}
    agent._command_run({"run_id": "abc", "program": SWEEP["program"], "args": arguments})
    started: Started = agent._run_processes["abc"]
    return started


@pytest.fixture
def _agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):  # the agent sets them
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep567")
    monkeypatch.setattr(wandb_agent, "AgentProcess", Started)


@pytest.mark.usefixtures("_agent")
def test_the_command_of_the_sweep_trains_every_extreme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    program = tmp_path / "warp-train"
    program.write_text("#!/bin/bash\nprintf '%s\\n' \"$@\"\n")
    program.chmod(0o755)
    assert len(COMBINATIONS) == 24
    for values in COMBINATIONS:
        assert not any(isinstance(value, str) for value in values.values()), "5e-4 is text in YAML"
        started = started_by_the_agent(values)
        printed = subprocess.run(
            started.command,
            env={**started.env, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        parsed = _parse(printed)
        assert (parsed.command, parsed.run_name, parsed.resume_from) == (
            *("train", "sweep-abc", "auto"),
        )
        recipe = load_recipe(parsed.recipe, parsed.overrides).model_dump()
        assert recipe["tracking"]["wandb"] == "online"
        for name, value in values.items():
            section, key = name.split(".")
            assert recipe[section][key] == value


def test_the_run_of_the_agent_is_the_last_stage_of_a_chain(server: Server, tmp_path: Path) -> None:
    small = {
        "data": {"size": [32, 48], "workers": 0, "train_samples": 4, "val_samples": 2},
        "train": {"batch_size": 4, "epochs": 1},
        "tracking": {"wandb": "online", "images_every": 0},
    }
    stages = [{"extends": f"{ROOT}/recipes/{stage}.yaml"} for stage in STAGES[:2]]
    chain = tmp_path / "chain.yaml"
    chain.write_text(yaml.safe_dump({**small, "stages": stages}))
    server.start("train", str(chain), f"output_dir={tmp_path}", env=AGENT)
    assert server.exit_status() == 0, server.printed()
    ids, in_sweep = [], []
    for stage in STAGES[:2]:
        run = tmp_path / f"chain-{stage}"
        (tracked,) = (run / "wandb").glob("offline-run-*/run-*.wandb")
        ids.append(json.loads((run / "last" / "trainer_state.json").read_text())["wandb_run_id"])
        assert tracked.stem == f"run-{ids[-1]}"
        in_sweep.append(b"sweep567" in tracked.read_bytes())
    assert in_sweep == [False, True]
    assert ids[0] != ids[1] == "agent123"
    split, _, name = SWEEP["metric"]["name"].partition("/")
    assert len([row for row in metrics(run, split) if row[name] > 0]) == 2


def test_a_run_id_that_a_checkpoint_cannot_hold_is_one_line_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "one two")
    assert train(STAGES[0], tmp_path / "runs", "tracking.wandb=offline") == 1
    assert "WANDB_RUN_ID: 'one two' is not allowed" in one_line_error(capsys)
    assert not (tmp_path / "runs").exists()


def test_the_search_of_the_page_trains_and_compares_its_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = (text for text in blocks("recipes/README.md", "python") if "optuna" in text)
    (tmp_path / "recipes").mkdir()
    recipe = tmp_path / "recipes" / "stage1_param_only.yaml"
    small = {"size": [32, 48], "workers": 0, "train_samples": 64, "val_samples": 2}
    recipe.write_text(
        yaml.safe_dump(
            {
                "extends": f"{ROOT}/recipes/stage1_param_only.yaml",
                "data": small,
                "train": {"max_steps": 1},
                "tracking": {"images_every": 0},
            }
        )
    )
    monkeypatch.chdir(tmp_path)
    assert "n_trials=30" in block
    names: dict[str, Any] = {}
    exec(compile(block.replace("n_trials=30", "n_trials=2"), "recipes/README.md", "exec"), names)
    trials = names["study"].trials
    for trial in trials:
        run = tmp_path / "outputs" / "search" / f"trial-{trial.number}"
        (row,) = [row for row in metrics(run, "val") if row["step"] == 1]
        assert trial.value <= row["epe_px"] + 1e-6
        trained = load_recipe(run / "recipe.yaml", []).model_dump()
        assert trained["optim"]["lr"] == trial.params["optim.lr"]
        assert trained["train"]["batch_size"] == trial.params["train.batch_size"]
    assert [trial.state for trial in trials] == [optuna.trial.TrialState.COMPLETE] * 2
