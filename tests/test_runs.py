"""Whole runs: what they leave, how they resume, when they stop."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
import yaml
from data_helpers import save, textured
from runs_helpers import (
    ROOT,
    STAGES,
    arguments,
    as_if_killed_after,
    assert_same_weights,
    losses,
    metrics,
    one_line_error,
    train,
)
from safetensors.torch import load_file
from training_server import Server

from warp_train.data import build_sources
from warp_train.data.samples import SampleKey
from warp_train.geometry import build_parametric_grid, end_point_error, percent_to_px
from warp_train.inference.predictor import load_predictor
from warp_train.models import from_pretrained
from warp_train.recipe import Recipe, load_recipe


@pytest.mark.parametrize(
    ("stage", "more"),
    [
        ("stage1_param_only", ()),
        ("stage2_hybrid", ("train.ema_decay=0.9", "scheduler.name=onecycle")),
        ("stage3_finetune", ("train.grad_accum_steps=2", "train.log_every=3")),
    ],
)
def test_a_resumed_run_is_the_unbroken_one_bit_for_bit(
    stage: str, more: tuple[str, ...], tmp_path: Path
) -> None:
    more = (*more, "checkpoint.every_steps=3", "validate.every_steps=10", "train.epochs=2")
    more = (*more, "data.train_samples=48")
    assert train(stage, tmp_path / "a", *more) == 0
    whole, broken = tmp_path / "a" / stage, tmp_path / "b" / stage
    as_if_killed_after(whole, 6, broken)
    assert train(stage, tmp_path / "b", *more, "--resume-from", "auto") == 0
    assert_same_weights(whole, broken)
    assert losses(broken) == losses(whole)
    assert losses(broken, "val") == losses(whole, "val")
    # And so is its calibration, which step 9 has from a validation before the kill.
    config = "checkpoints/step-000000009/config.json"
    assert (broken / config).read_bytes() == (whole / config).read_bytes()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_checkpoint_that_resumes(
    number: signal.Signals, code: int, server: Server, tmp_path: Path
) -> None:
    stage, more = "stage1_param_only", ("data.train_samples=140",)
    process = server.start(*arguments(stage, tmp_path / "b", *more, "data.workers=1"))
    broken = tmp_path / "b" / stage
    log = broken / "metrics.jsonl"
    while not (log.exists() and len(log.read_text().splitlines()) > 4):
        assert not server.have_ended(0.02)
    os.kill(process, number)
    assert server.exit_status() == code
    assert "Traceback" not in server.printed()
    assert (broken / "interrupted" / "model.safetensors").exists()
    assert train(stage, tmp_path / "b", *more, "--resume-from", "auto") == 0
    assert not (broken / "interrupted").exists()
    assert train(stage, tmp_path / "a", *more) == 0
    assert_same_weights(tmp_path / "a" / stage, broken)
    assert losses(broken) == losses(tmp_path / "a" / stage)


@pytest.mark.parametrize(
    ("stage", "weight"), [*((stage, 1.0) for stage in STAGES), ("stage1_param_only", 0.0)]
)
def test_two_processes_train_like_one(
    stage: str, weight: float, server: Server, tmp_path: Path
) -> None:
    # An epoch of 45 is five global batches of 8, and a rest of five that none may take.
    more = ("train.max_steps=13", "train.grad_accum_steps=2", "data.train_samples=45")
    more = (*more, "train.epochs=3", "validate.every_epochs=3")
    # Without its loss the uncertainty has no gradients for the processes to exchange.
    more = (*more, f"loss.uncertainty_weight={weight}")
    assert train(stage, tmp_path / "one", *more) == 0
    server.start_ranks([arguments(stage, tmp_path / "two", *more, "train.batch_size=2")] * 2)
    assert server.exit_statuses() == [0, 0], server.printed()
    one, two = tmp_path / "one" / stage, tmp_path / "two" / stage
    state = json.loads((two / "last" / "trainer_state.json").read_text())
    assert state["world_size"] == 2
    for split in ("train", "val"):
        alone, together = losses(one, split), losses(two, split)
        assert [step for step, _ in together] == [step for step, _ in alone]
        for (_, expected), (_, value) in zip(alone, together, strict=True):
            assert value == pytest.approx(expected, rel=1e-4)


IMAGE_TERMS = {"pixel": 0.05, "ssim": 0.15, "edge": 0.40, "line": 0.22, "grad_orient": 0.18}


@pytest.mark.parametrize(("grid", "weight"), [(1.0, 1.0), (1.0, 0.0), (0.0, 2.0), (0.0, 0.0)])
def test_the_uncertainty_is_logged_and_the_total_leaves_it_out(
    grid: float, weight: float, tmp_path: Path
) -> None:
    more = (f"loss.grid_weight={grid}", f"loss.uncertainty_weight={weight}", "train.max_steps=6")
    assert train(STAGES[0], tmp_path, *more) == 0
    run = tmp_path / STAGES[0]
    weights = {**IMAGE_TERMS, **({"grid": grid} if grid else {})}
    table = json.loads((run / "summary.json").read_text())
    rows = [*metrics(run), *metrics(run, "val"), table["identity"], table["fixed_warp"]]
    for row in rows:
        total = sum(factor * row[f"loss/{name}"] for name, factor in weights.items())
        assert row["loss/total"] == pytest.approx(total, rel=1e-4)
    for row in (*metrics(run), *metrics(run, "val"), *table["stages"].values()):
        assert ("loss/uncertainty" in row) == (weight > 0)
    assert "loss/uncertainty" not in table["identity"]
    first, last = (
        load_file(run / "checkpoints" / f"step-{step:09d}" / "model.safetensors") for step in (0, 6)
    )
    name = "parametric_head.uncertainty.out.bias"
    assert torch.equal(first[name], last[name]) == (weight == 0)


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    stages = [{"extends": f"{ROOT}/recipes/{stage}.yaml"} for stage in STAGES]
    path.write_text(yaml.safe_dump({"stages": stages}))
    return path


def test_a_chain_trains_skips_resumes_and_does_not_mix_recipes(
    chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, few = tmp_path / "runs", "data.train_samples=32"
    assert train(str(chain), runs, few) == 0
    table = capsys.readouterr().out
    assert table.count("fixed warp") > 3
    summary = json.loads((runs / "small" / "summary.json").read_text())
    assert list(summary["stages"]) == list(STAGES)
    for row in (summary["identity"], summary["fixed_warp"], *summary["stages"].values()):
        assert {"epe_px", "loss/total", "warp_negative_det_pct"} <= set(row)
    epe = [summary["stages"][stage]["epe_px"] for stage in STAGES]
    assert epe[1] <= epe[0] + 1e-6  # every stage may keep what it started from
    assert epe[2] <= epe[1] + 1e-6
    assert (runs / "small" / "before_after.png").stat().st_size > 1000
    from_pretrained(runs / "small" / "best")
    starts = yaml.safe_load((runs / "small-stage2_hybrid" / "recipe.yaml").read_text())
    assert starts["init_from"] == str(runs / "small-stage1_param_only")

    weights = runs / "small-stage1_param_only" / "last" / "model.safetensors"
    stamp = weights.stat().st_mtime_ns
    (runs / "small-stage3_finetune" / "summary.json").unlink()
    assert train(str(chain), runs, few) == 0  # two finished stages, one that lacks its end
    assert weights.stat().st_mtime_ns == stamp
    assert train(str(chain), runs, few, "seed=1") == 0
    assert (runs / "small-2-stage3_finetune" / "summary.json").exists()
    assert weights.stat().st_mtime_ns == stamp
    pickles = [p for p in tmp_path.rglob("*") if p.suffix in {".pt", ".bin", ".pkl", ".pth"}]
    assert pickles == []


def test_a_second_run_of_the_same_name_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    for _ in range(2):
        assert train("stage1_param_only", tmp_path, "train.max_steps=2") == 0
    assert (tmp_path / "stage1_param_only-2" / "summary.json").exists()


def test_a_non_finite_loss_stops_before_anything_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = {"n": 0}

    def broken(pair: torch.Tensor, *rest: object) -> torch.Tensor:
        calls["n"] += 1
        return pair.sum() * (float("nan") if calls["n"] > 12 else 0.0)

    monkeypatch.setattr("warp_train.losses.composite.edge_loss", lambda x, y: broken(x.gx))
    assert train("stage1_param_only", tmp_path, "checkpoint.every_steps=1") == 1
    message = one_line_error(capsys)
    for part in ("step", "loss/edge", "nan", "scene-train-"):
        assert part in message
    run = tmp_path / "stage1_param_only"
    saved = sorted(int(p.name.split("-")[1]) for p in (run / "checkpoints").iterdir())
    assert f"step {saved[-1] + 1}:" in message


EXTERNAL = """
import torch
from torch.utils.data import DataLoader, Dataset

class Frames(Dataset):
    def __len__(self): return 16
    def __getitem__(self, i):
        g = torch.Generator().manual_seed(i)
        image = torch.rand(3, 32, 48, generator=g)
        return {"input_image": image, "target_image": image{broken}}

def loaders():
    return DataLoader(Frames(), batch_size=4, shuffle=True), DataLoader(Frames(), batch_size=3)
"""


def test_external_loaders_train_every_stage_resume_and_validate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "frames_ok.py").write_text(EXTERNAL.replace("{broken}", ""))
    monkeypatch.chdir(tmp_path)
    external = ("data.source=external", "data.external=frames_ok:loaders")
    previous: tuple[str, ...] = ()
    for stage in STAGES:
        assert train(stage, Path("runs"), *external, *previous, "checkpoint.every_steps=3") == 0
        previous = ("--init-from", f"runs/{stage}")
    whole = Path("runs/stage1_param_only")
    as_if_killed_after(whole, 3, Path("again/stage1_param_only"))
    more = (*external, "checkpoint.every_steps=3", "--resume-from", "auto")
    assert train("stage1_param_only", Path("again"), *more) == 0
    assert_same_weights(whole, Path("again/stage1_param_only"))
    before = sorted(Path("runs").rglob("*"))
    capsys.readouterr()
    last = ("--validate-only", "--resume-from", "runs/stage3_finetune")
    assert train("stage3_finetune", Path("runs"), *external, *last) == 0
    assert "stage3_finetune" in capsys.readouterr().out
    assert sorted(Path("runs").rglob("*")) == before


def test_a_broken_external_loader_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "frames_bad.py").write_text(EXTERNAL.replace("{broken}", "[:2]"))
    monkeypatch.chdir(tmp_path)
    external = ("data.source=external", "data.external=frames_bad:loaders")
    assert train("stage1_param_only", Path("runs"), *external) == 1
    assert "target_image" in one_line_error(capsys)


SCORER = """
def score(pred, gt, config):
    value = 1 - float(abs(pred - gt).mean())
    subs = dict.fromkeys(("edge", "line", "grad", "ssim", "mae"), value)
    return {"total_score": value, "sub_scores": subs, "flags": {"hard_fail": False, "reasons": []}}

def fails(pred, gt, config):
    raise RuntimeError("no score today")
"""


def test_a_scorer_may_choose_the_best_and_may_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "my_scorer.py").write_text(SCORER)
    monkeypatch.syspath_prepend(str(tmp_path))
    more = ("train.max_steps=4", "validate.every_steps=2")
    best = "validate.best_metric=proxy/total_score"
    code = train("stage1_param_only", tmp_path / "a", *more, "proxy.scorer=my_scorer:score", best)
    assert code == 0
    scores = [row["proxy/total_score"] for row in metrics(tmp_path / "a/stage1_param_only", "val")]
    assert len(scores) == 3
    state = json.loads((tmp_path / "a/stage1_param_only/last/trainer_state.json").read_text())
    assert state["best"]["value"] == max(scores)
    assert train("stage1_param_only", tmp_path / "b", *more, "proxy.scorer=my_scorer:fails") == 0
    assert sum("no score today" in record.getMessage() for record in caplog.records) == 1


def test_what_the_machine_cannot_do_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if torch.cuda.is_available():
        more = ("train.device=mps", "train.max_steps=2")
    else:
        more = ("train.device=cuda", "train.max_steps=2", "train.mixed_precision=fp16")
    assert train("stage1_param_only", tmp_path, *more) == 0
    text = caplog.text
    assert "train.device" in text
    assert "CPU" in text


def test_bf16_training_runs_and_stays_close_to_float32(tmp_path: Path) -> None:
    for precision in ("no", "bf16"):
        more = ("train.max_steps=5", f"train.mixed_precision={precision}")
        assert train("stage2_hybrid", tmp_path / precision, *more) == 0
    plain, half = (losses(tmp_path / p / "stage2_hybrid")[0][1] for p in ("no", "bf16"))
    # An untrained head gives the identity in any precision: the losses must be the same.
    assert half == pytest.approx(plain, rel=1e-5)


def test_wrong_start_weights_are_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("stage1_param_only", tmp_path, "train.max_steps=1") == 0
    start = ("--init-from", str(tmp_path / "stage1_param_only"), "model.backbone=resnet34")
    capsys.readouterr()
    assert train("stage2_hybrid", tmp_path, *start) == 1
    message = one_line_error(capsys)
    assert "model.backbone" in message
    assert "resnet34" in message
    assert "tiny" in message


def test_pairs_with_known_warps_learn_from_the_grid_term(tmp_path: Path) -> None:
    # A frame that no lens bends: the network has to leave it alone, and is told so exactly.
    import cv2
    import numpy as np

    rows = ["input,target,k1,k2,k3,p1,p2,dcx,dcy,s"]
    for number in range(8):
        frame = np.random.default_rng(number).integers(0, 255, (40, 60, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f"house{number}_g0_original.png"), frame)
        name = f"house{number}_g0_original.png"
        rows.append(f"{name},{name},0,0,0,0,0,0,0,1")
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    more = ("data.source=pairs", f"data.root={tmp_path}", "data.val_fraction=0.3")
    assert train("stage1_param_only", tmp_path / "runs", *more, "train.batch_size=2") == 0
    summary = json.loads((tmp_path / "runs/stage1_param_only/summary.json").read_text())
    assert summary["identity"]["epe_px"] == pytest.approx(0, abs=1e-3)


def test_a_network_trained_on_crops_looks_at_whole_photos_larger(tmp_path: Path) -> None:
    for number in range(6):
        save(tmp_path / "photos" / f"p{number}.png", textured(80, 120, number))
    short = ("train.max_steps=1", "data.val_samples=1")
    crops = ("data.source=photos", f"data.root={tmp_path}/photos", "data.val_fraction=0.3")
    for name, more, size in (("scenes", (), (46, 69)), ("crops", crops, (40, 60))):
        assert train(STAGES[0], tmp_path, *short, *more, "--run-name", name) == 0
        assert load_predictor(tmp_path / name, "cpu").size == size


@pytest.mark.parametrize("more", [(), ("train.ema_decay=0.9",)])
def test_the_expected_error_is_the_mean_error_on_unseen_samples(
    more: tuple[str, ...], tmp_path: Path
) -> None:
    assert train(STAGES[0], tmp_path, *more, "validate.every_steps=7") == 0
    run = tmp_path / STAGES[0]
    recipe = load_recipe(run / "recipe.yaml")
    assert isinstance(recipe, Recipe)
    _, unseen = build_sources(recipe.data, recipe.seed)
    model, ratios = from_pretrained(run).eval(), []
    for index in range(len(unseen)):
        sample = unseen[SampleKey(0, index)]
        with torch.inference_mode():
            prediction = model(sample["input_image"][None])
        grids = (
            build_parametric_grid(p, 32, 48)
            for p in (prediction["params"], sample["target_params"][None])
        )
        percent = float(prediction["uncertainty"]) * model.uncertainty_factor
        ratios.append(end_point_error(*grids).item() / percent_to_px(percent, 32, 48))
    # Photos are shown larger than the scenes, which adds nothing to what is known of them.
    assert sum(ratios) / len(ratios) == pytest.approx(recipe.data.shown, rel=1e-3)
    (row,) = [row for row in metrics(run, "val") if row["step"] == 0]
    assert row["error_vs_expected"] != pytest.approx(1, rel=0.05)  # calibration had an effect
