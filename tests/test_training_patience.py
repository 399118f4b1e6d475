"""`validate.patience`: a stage ends when validations no longer improve, also over a resume."""

import json
from pathlib import Path
from typing import Any

import pytest
from runs_helpers import SMALL, as_if_killed_after, assert_same_weights, losses, metrics, train
from training_toy import position

from warp_train.cli import main
from warp_train.training import engine
from warp_train.training.checkpoints.state import RunPosition

STAGE, SECOND = "stage1_param_only", "stage2_hybrid"
MORE = ("validate.every_steps=1", "validate.patience=2", "data.val_samples=2")
MORE = (*MORE, "data.train_samples=36", "train.max_steps=9")
SCRIPT = (9.0, 8.0, 8.5, 7.0, 7.0, 7.1, 1.0)
"""Errors of the validations at steps 0, 1, …: the first two in a row that are no better than one
before are those at steps 4 and 5."""
CHAIN = """
run_name: night
stages: [{{extends: {recipes}/stage1_param_only.yaml}}, {{extends: {recipes}/stage2_hybrid.yaml}}]
"""


@pytest.fixture(autouse=True)
def _scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    validate = engine.validate

    def as_written(run: Any, *more: Any) -> Any:
        return {**validate(run, *more), "epe_px": SCRIPT[run.step]}

    monkeypatch.setattr(engine, "validate", as_written)


def stale(folder: Path) -> int:
    return int(json.loads((folder / "trainer_state.json").read_text())["stale_validations"])


def test_a_stage_ends_when_it_no_longer_improves_and_a_resume_counts_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = tmp_path / STAGE
    assert train(STAGE, tmp_path, *MORE) == 0
    ending = "ended after step 5 of 9 (validate.patience: 2 validations without a better epe_px)"
    assert capsys.readouterr().out.splitlines()[-2:] == [ending, ""]
    assert [row["step"] for row in metrics(whole, "val")] == [0, 1, 2, 3, 4, 5]
    assert (whole / "best").resolve().name == "step-000000003"
    saved = sorted((whole / "checkpoints").iterdir())
    assert [stale(folder) for folder in saved] == [0, 0, 1, 0, 1, 2]
    for step in (4, 5):  # in the middle of the count, and killed before the last table
        killed = tmp_path / f"killed-{step}" / STAGE
        as_if_killed_after(whole, step, killed)
        (killed / "best").unlink()
        (killed / "best").symlink_to("checkpoints/step-000000003")
        assert train(STAGE, killed.parent, *MORE, "--resume-from", "auto") == 0
        assert ending in capsys.readouterr().out
        assert losses(killed) == losses(whole)
        assert_same_weights(killed, whole)
    longer = ("validate.patience=3", "train.max_steps=6", "--resume-from", "auto")
    assert train(STAGE, tmp_path, *MORE, *longer) == 0
    assert "ended after step 6 of 6 (train.max_steps: 6)" in capsys.readouterr().out


def test_a_chain_goes_on_with_the_next_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("test_training_patience.SCRIPT", (1.0,) * 9)
    recipes = Path(__file__).parent.parent / "recipes"
    (tmp_path / "night.yaml").write_text(CHAIN.format(recipes=recipes))
    one = ("validate.patience=1", f"output_dir={tmp_path}")
    assert main(["train", str(tmp_path / "night.yaml"), *SMALL, *MORE, *one]) == 0
    out = capsys.readouterr().out
    assert out.count("ended after step 1 of 9 (validate.patience: 1 validations without") == 2
    for stage in (STAGE, SECOND):
        assert (tmp_path / f"night-{stage}" / "summary.json").exists()


def test_a_stage_that_runs_to_its_end_has_that_as_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("data.train_samples=8", "train.epochs=1", "data.val_samples=2")
    assert train(STAGE, tmp_path, *more) == 0
    assert "ended after step 2 of 2 (train.epochs: 1)" in capsys.readouterr().out


def test_checkpoints_from_before_the_count_are_read() -> None:
    saved = position(3).model_dump()
    del saved["stale_validations"]
    assert RunPosition.model_validate(saved).stale_validations == 0
