"""Recipes that change between a run and its resume: each key counts, or is refused, or is named."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from runs_helpers import ROOT, STAGES, as_if_killed_after, metrics, one_line_error, train

STAGE, SECOND = STAGES[:2]
AUTO = ("--resume-from", "auto")
BASE = ("data.train_samples=12", "data.val_samples=3", "scheduler.warmup_steps=0")
BASE = (*BASE, "checkpoint.every_steps=1", "optim.lr=0.001", "train.epochs=2")
STEPS = 6


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return found


def rates(run: Path) -> list[float]:
    return [row["lr"] for row in metrics(run)]


def cosine(step: int, total: int, peak: float, floor: float = 1e-6) -> float:
    """The rate of the step after `step` steps: a half cosine from `peak` down to `floor`."""
    return floor + (peak - floor) * 0.5 * (1 + math.cos(math.pi * step / total))


def state(run: Path, step: int) -> Any:
    folder = run / "checkpoints" / f"step-{step:09d}"
    return json.loads((folder / "trainer_state.json").read_text())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("whole")
    assert train(STAGE, output, *BASE) == 0
    return output / STAGE


def test_the_optimizer_follows_the_recipe_of_the_resumed_run(
    whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / STAGE
    as_if_killed_after(whole, 3, run)
    changed = ("optim.lr=0.0004", "optim.weight_decay=0.3", "optim.betas=[0.8,0.95]")
    assert train(STAGE, tmp_path, *BASE, *changed, *AUTO) == 0
    assert rates(run) == pytest.approx(
        [*(cosine(step, STEPS, 0.001) for step in range(3))]
        + [cosine(step, STEPS, 0.0004) for step in range(3, STEPS)]
    )
    for step, decay, betas in ((3, 0.01, [0.9, 0.999]), (6, 0.3, [0.8, 0.95])):
        hyper = state(run, step)["param_groups"][0]["hyper"]
        assert (hyper["weight_decay"], hyper["betas"]) == (decay, betas)
    told = lines(caplog)
    assert "changed since the checkpoint: optim.lr: 0.001 -> 0.0004" in told
    rate = f"the learning rate goes on at {cosine(3, 6, 0.0004):.3g}, after "
    assert any(line.startswith(rate) for line in told)
    assert yaml.safe_load((run / "recipe.yaml").read_text())["optim"]["lr"] == 0.0004


def test_a_rate_of_its_own_for_the_residual_head_counts_from_the_resume_on(tmp_path: Path) -> None:
    run = tmp_path / SECOND
    assert train(SECOND, tmp_path, *BASE, "optim.residual_lr=null", "train.max_steps=2") == 0
    more = ("optim.residual_lr=0.005", "train.max_steps=3", "scheduler.name=none")
    assert train(SECOND, tmp_path, *BASE, *more, *AUTO) == 0
    groups = state(run, 3)["param_groups"]
    by_rate = {group["hyper"]["lr"]: group["params"] for group in groups}
    assert by_rate.keys() == {0.001, 0.005}
    residual = [group["params"] for group in groups if group["hyper"]["lr"] == 0.005]
    assert all(name.startswith("residual_head.") for names in residual for name in names)


def test_keys_without_an_effect_are_named_and_not_recorded(
    whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "moved" / STAGE
    as_if_killed_after(whole, 3, run)
    asked = ("--init-from", "tiny", "run_name=other", "--resume-from", str(run))
    assert train(STAGE, tmp_path / "elsewhere", *BASE, *asked) == 0
    told = lines(caplog)
    effect = "init_from: None -> tiny has no effect: the run goes on from its own weights"
    assert effect in told
    assert f"run_name: other has no effect: the run stays in {run}" in told
    assert not any(line.startswith("changed since") for line in told)
    recorded = yaml.safe_load((run / "recipe.yaml").read_text())
    assert (recorded["init_from"], recorded["run_name"]) == (None, STAGE)
    assert recorded["output_dir"] == str(run.parent)
    assert not (tmp_path / "elsewhere").exists()


def test_another_stage_and_fewer_steps_than_are_done_are_refused(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / STAGE
    as_if_killed_after(whole, 4, run)
    before = (run / "recipe.yaml").read_bytes()
    assert train(SECOND, tmp_path, *BASE, "--resume-from", str(run)) == 1
    assert f"a checkpoint of {STAGE} cannot be resumed as {SECOND}" in one_line_error(capsys)
    assert train(STAGE, tmp_path, *BASE, "train.max_steps=3", *AUTO) == 1
    assert "4 steps are done, and the recipe ends after 3" in one_line_error(capsys)
    assert (run / "recipe.yaml").read_bytes() == before


def test_another_seed_changes_the_order_and_that_is_told(
    whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    as_if_killed_after(whole, 4, tmp_path / STAGE)
    assert train(STAGE, tmp_path, *BASE, "seed=5", *AUTO) == 0
    assert any("in the order of seed 5 from step 4 on" in line for line in lines(caplog))


def test_a_finished_run_is_prolonged(
    whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / STAGE
    as_if_killed_after(whole, STEPS, run)
    (run / "summary.json").write_bytes((whole / "summary.json").read_bytes())
    longer = ("train.epochs=4", *AUTO)
    assert train(STAGE, tmp_path, *BASE, *longer) == 0
    assert rates(run)[STEPS:] == pytest.approx([cosine(s, 12, 0.001) for s in range(STEPS, 12)])
    goes_on = re.compile(r"the learning rate goes on at (\S+), after 1e-06 before: cosine over 12")
    found = [match for line in lines(caplog) if (match := goes_on.match(line))]
    assert float(found[0][1]) == pytest.approx(cosine(STEPS, 12, 0.001), rel=0.01)
    assert json.loads((run / "summary.json").read_text()) != json.loads(
        (whole / "summary.json").read_text()
    )


def test_a_prolonged_chain_prolongs_every_stage_also_after_a_kill(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    recipes = [{"extends": f"{ROOT}/recipes/{stage}.yaml"} for stage in (STAGE, SECOND)]
    chain = tmp_path / "night.yaml"
    chain.write_text(yaml.safe_dump({"stages": recipes}))
    first, second = (tmp_path / f"night-{stage}" for stage in (STAGE, SECOND))
    assert train(str(chain), tmp_path, *BASE, "train.max_steps=2") == 0
    assert train(str(chain), tmp_path, *BASE, "train.max_steps=4", *AUTO) == 0
    assert "skipped" not in capsys.readouterr().out
    assert [len(rates(run)) for run in (first, second)] == [4, 4]
    assert any(line.startswith(f"{second} keeps its own weights") for line in lines(caplog))
    # Killed while it was prolonged: the mark of a finished stage is gone until it ends again.
    as_if_killed_after(second, 3, tmp_path / "copy")
    (tmp_path / "copy").rename(tmp_path / "killed")
    for path in sorted(second.iterdir()):
        path.rename(tmp_path / f"aside-{path.name}")
    for path in (tmp_path / "killed").iterdir():
        path.rename(second / path.name)
    changed = ("train.max_steps=4", "optim.lr=0.002", *AUTO)
    assert train(str(chain), tmp_path, *BASE, *changed) == 0
    told = lines(caplog)
    assert f"optim.lr: 0.001 -> 0.002 has no effect: {first} is finished" in told
    stages = yaml.safe_load((tmp_path / "night" / "recipe.yaml").read_text())["stages"]
    assert [stage["optim"]["lr"] for stage in stages] == [0.001, 0.002]


@pytest.mark.parametrize(
    "change",
    ["data.size=[48,64]", "validate.max_samples=2", "validate.best_metric=loss/total"],
)
def test_the_best_is_measured_again_where_validations_measure_otherwise(
    change: str, whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    best = state(whole, STEPS)["best"]["step"]
    run = tmp_path / STAGE
    as_if_killed_after(whole, STEPS, run)
    (run / "best").unlink()
    (run / "best").symlink_to(f"checkpoints/step-{best:09d}")
    weights = run / "checkpoints" / f"step-{best:09d}"
    assert train(STAGE, tmp_path, *BASE, change, "train.max_steps=7", "train.epochs=9", *AUTO) == 0
    again = [line for line in lines(caplog) if "are measured again" in line]
    assert len(again) == 1
    alone = train(STAGE, tmp_path / "alone", *BASE, change, f"--init-from={weights}")
    assert alone == 0  # the first validation of a new run from the same weights
    name = "loss/total" if "loss" in change else "epe_px"
    expected = metrics(tmp_path / "alone" / STAGE, "val")[0][name]
    assert f"(step {best}) are measured again: {name} {expected:.4g} (before: epe_px " in again[0]
    now = state(run, 7)["best"]
    if now["step"] == best:
        assert now["value"] == pytest.approx(expected, rel=1e-5)


def test_a_best_that_cannot_be_read_is_chosen_afresh(
    whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / STAGE
    as_if_killed_after(whole, STEPS, run)
    (run / "best").unlink()
    (run / "best").symlink_to("checkpoints/step-000000002")
    (run / "best" / "model.safetensors").write_bytes(b"torn")
    more = ("data.size=[48,64]", "train.max_steps=7", "train.epochs=9")
    assert train(STAGE, tmp_path, *BASE, *more, *AUTO) == 0
    assert f"{run}/best cannot be read: the best weights are chosen afresh" in lines(caplog)
    assert state(run, 7)["best"]["step"] == 7


def test_what_does_not_change_the_measure_measures_nothing_again(
    whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    as_if_killed_after(whole, 4, tmp_path / STAGE)
    more = ("data.workers=1", "loss.edge_weight=0.7", "train.batch_size=2", "train.epochs=1")
    assert train(STAGE, tmp_path, *BASE, *more, *AUTO) == 0
    assert not any("measured again" in line for line in lines(caplog))
