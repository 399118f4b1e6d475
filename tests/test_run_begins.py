"""A run that fails before its first step leaves nothing, whatever the reason."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from runs_helpers import ROOT, STAGES, one_line_error, train

from warp_train.runtime.errors import WarpTrainError
from warp_train.training import engine
from warp_train.training.run_folder import clear_run_folder

STAGE = STAGES[0]
SHORT = ("train.max_steps=2", "data.val_samples=2")
LOADERS = """
import torch

def loaders():
    frames = [{"input_image": torch.rand(3, 32, 48), "target_image": torch.rand(3, 32, 48)}] * 16
    frames += [{"input_image": torch.rand(3, 32, 48)}] * bad
    return frames[::-1], frames
"""


def fails(tmp_path: Path, recipe: str, *more: str) -> None:
    assert train(recipe, tmp_path / "outputs" / "runs", *SHORT, *more) == 1
    assert not (tmp_path / "outputs").exists()


def test_a_tracker_without_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "short")
    fails(tmp_path, STAGE, "tracking.wandb=online", "tracking.tensorboard=true")
    assert "wandb could not be started" in one_line_error(capsys).replace(" and tensorboard", "")


@pytest.mark.parametrize("bad", [16, 1])
def test_loaders_that_yield_something_else(
    bad: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At once, or in the validation before the first step."""
    name = f"frames_with_{bad}_bad"
    (tmp_path / f"{name}.py").write_text(LOADERS.replace("* bad", f"* {bad}"))
    monkeypatch.chdir(tmp_path)
    fails(tmp_path, STAGE, "data.source=external", f"data.external={name}:loaders")
    assert "target_image" in one_line_error(capsys)


def test_a_network_that_the_initial_weights_do_not_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fails(tmp_path, STAGE, "init_from=tiny", "model.backbone=resnet34")
    assert "resnet34" in one_line_error(capsys)


@pytest.fixture
def broken_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def step(*_: Any) -> None:
        raise WarpTrainError("out of memory")

    monkeypatch.setattr(engine, "optimizer_step", step)


def test_the_first_step_of_a_chain(broken_step: None, tmp_path: Path) -> None:
    chain = tmp_path / "small.yaml"
    chain.write_text(yaml.safe_dump({"stages": [f"{ROOT}/recipes/{STAGE}.yaml"]}))
    fails(tmp_path, str(chain))


def test_nothing_stays_in_the_folders_that_were_there_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a run that is resumed, and of one whose weights another run starts from."""
    assert train(STAGE, tmp_path, *SHORT) == 0
    (tmp_path / "empty").mkdir()
    run = tmp_path / STAGE
    before = {path: path.is_file() and path.read_bytes() for path in sorted(tmp_path.rglob("*"))}

    def step(*_: Any) -> None:
        raise WarpTrainError("out of memory")

    monkeypatch.setattr(engine, "optimizer_step", step)
    longer = ("train.max_steps=4", "--resume-from", "auto")
    assert train(STAGE, tmp_path, *SHORT, *longer) == 1
    more = ("--init-from", str(run), "--run-name", "empty")
    assert train("stage2_hybrid", tmp_path, *SHORT, *more) == 1
    after = {path: path.is_file() and path.read_bytes() for path in sorted(tmp_path.rglob("*"))}
    assert after == before


def test_the_list_of_unreadable_files_stays(tmp_path: Path) -> None:
    """The message of the error names it."""
    for name in ("bad_samples.jsonl", ".lock", "recipe.yaml", "images/a.jpg", "checkpoints/s/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "best").symlink_to("checkpoints/s")
    clear_run_folder(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"bad_samples.jsonl", ".lock"}
