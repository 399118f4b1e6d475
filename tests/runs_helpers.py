"""Small real runs: the program as a user starts it, on frames that take milliseconds."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from warp_train.cli import main

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("stage1_param_only", "stage2_hybrid", "stage3_finetune")
SMALL = (
    "data.size=[32,48]",
    "data.workers=0",
    "data.train_samples=80",
    "data.val_samples=5",
    "train.batch_size=4",
    "train.epochs=1",
    "train.log_every=1",
    "scheduler.warmup_steps=2",
    "tracking.images_every=0",
    "checkpoint.keep_last=50",
)
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def arguments(recipe: str, output: Path, *more: str) -> list[str]:
    path = recipe if recipe.endswith(".yaml") else f"{ROOT}/recipes/{recipe}.yaml"
    return ["train", path, f"output_dir={output}", *SMALL, *more]


def train(recipe: str, output: Path, *more: str) -> int:
    """Trains in this process; returns the exit code."""
    return main(arguments(recipe, output, *more))


def command(recipe: str, output: Path, *more: str) -> list[str]:
    """The same as a command line for a process of its own."""
    return [sys.executable, "-m", "warp_train", *arguments(recipe, output, *more)]


def metrics(run: Path, split: str = "train") -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["split"] == split]


def losses(run: Path, split: str = "train") -> list[tuple[int, float]]:
    return [(row["step"], row["loss/total"]) for row in metrics(run, split)]


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = (load_file(folder / "last" / "model.safetensors") for folder in (one, other))
    assert first.keys() == second.keys()
    different = [name for name in first if not first[name].equal(second[name])]
    assert different == []


def as_if_killed_after(run: Path, step: int, copy: Path) -> None:
    """What a run leaves that dies right after the checkpoint of `step`."""
    shutil.copytree(run, copy, symlinks=True)
    for folder in (copy / "checkpoints").iterdir():
        if int(folder.name.split("-")[1]) > step:
            shutil.rmtree(folder)
    for link in ("best", "last"):
        (copy / link).unlink()
        (copy / link).symlink_to(f"checkpoints/step-{step:09d}")
    (copy / "summary.json").unlink()


def one_line_error(capsys: pytest.CaptureFixture[str]) -> str:
    """The message of a failed run: one line, no traceback."""
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("warp-train: error")]
    assert len(lines) == 1
    return lines[0]
