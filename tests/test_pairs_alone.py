"""Pairs without a manifest: registered when a run starts, once, and trained on with their warps."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from data_helpers import opencv_maps, save
from recover_helpers import drawn, lines
from runs_helpers import ROOT, metrics, one_line_error
from training_server import Server

from warp_train.cli import main
from warp_train.losses import CompositeLoss, LossConfig
from warp_train.registration import pairs as registration
from warp_train.training.fixed_warp import fixed_warp

SHAPE = (120, 160)
HOUSES = 6
RECIPE = f"{ROOT}/recipes/pairs.yaml"
SMALL = (
    "data.size=[48,64]",
    "data.workers=0",
    "data.val_fraction=0.3",
    "model.edges=64",
    "train.batch_size=2",
    "train.max_steps=2",
    "train.log_every=1",
    "tracking.images_every=0",
)


def lens(house: int) -> list[float]:
    return [-0.05 - 0.02 * house, 0.01, 0, 0, 0, 0, 0, 0.97]


def write_pairs(root: Path, mismatched: int = 0) -> Path:
    """A pair for each house; the straight photos of the first `mismatched` are of another scene."""
    for house in range(HOUSES):
        bent = drawn(*SHAPE, seed=house)
        seen = drawn(*SHAPE, seed=100 + house) if house < mismatched else bent
        straight = cv2.remap(seen, *opencv_maps(lens(house), *SHAPE), cv2.INTER_CUBIC)
        save(root / f"house{house}_g0_original.png", bent)
        save(root / f"house{house}_g0_generated.png", straight)
    return root


def arguments(photos: Path, output: Path, *more: str) -> list[str]:
    return ["train", RECIPE, f"data.root={photos}", f"output_dir={output}", *SMALL, *more]


def journal(output: Path) -> list[dict[str, Any]]:
    return [line for path in (output / "recovered").glob("*.jsonl") for line in lines(path)]


def test_one_command_registers_trains_and_measures(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, output = write_pairs(tmp_path / "photos", mismatched=1), tmp_path / "runs"
    assert main(arguments(photos, output)) == 0
    said = capfd.readouterr()
    assert "pairs: registered 6, of 5 the warp is known; 1 are left out" in said.err
    assert "the worst: house0_g0)" in said.err
    assert "param_bounds" not in said.err
    assert "fixed warp" in said.out
    found = {line["image_id"]: line["params"] for line in journal(output)}
    for house in range(1, HOUSES):
        ours, true = (
            np.stack(opencv_maps(params, *SHAPE))
            for params in (found[f"house{house}_g0"], lens(house))
        )
        assert np.hypot(*(ours - true)).mean() < 0.1  # px
    run = output / "pairs-stage1_param_only"
    first = metrics(run, "val")[0]
    assert first["epe_px"] > 0
    assert "loss/edge" not in first  # without_warps: every warp is known

    # Neither a second run nor one over a copy of the folder registers a pair again.
    def fail(job: registration.PairJob) -> None:
        raise AssertionError(job.image_id)

    monkeypatch.setattr(registration, "recover_files", fail)
    narrow = ("run_name=narrow", "train.max_steps=1", "model.param_bounds.k1=0.1", "init_from=null")
    assert main(arguments(photos, output, *narrow)) == 0
    assert "model.param_bounds.k1 is 0.1, but " in capfd.readouterr().err
    copied = Path(shutil.copytree(photos, tmp_path / "elsewhere"))
    for root in (photos, copied):
        assert main(arguments(root, output, "run_name=again", "train.max_steps=1")) == 0
        assert "registered 6, of 5 the warp is known" in capfd.readouterr().err
    monkeypatch.undo()
    # A pair with other contents is another pair.
    changed = 255 - drawn(*SHAPE, seed=3)
    for role in ("original", "generated"):
        save(photos / f"house3_g0_{role}.png", changed)
    before = len(journal(output))
    assert main(arguments(photos, output, "run_name=third", "train.max_steps=1")) == 0
    assert len(journal(output)) == before + 1


def test_where_most_pairs_fail_the_image_terms_train(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    photos = write_pairs(tmp_path / "photos", mismatched=5)
    assert main(arguments(photos, tmp_path / "runs")) == 0
    said = capfd.readouterr().err
    assert "of 1 the warp is known; 5 are trained on by the image terms alone" in said
    assert "loss/edge" in metrics(tmp_path / "runs" / "pairs-stage1_param_only", "val")[0]


def test_a_metric_that_measures_nothing_is_refused_before_the_first_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = write_pairs(tmp_path / "photos")
    off = ("data.recover=off", "data.rebend=0", "data.lenses=analytic", "loss.image_terms=always")
    weights = [f"loss.{n}_weight=0" for n in ("pixel", "ssim", "edge", "line", "grad_orient")]
    assert main(arguments(photos, tmp_path / "runs", *off, *weights)) == 1
    message = one_line_error(capsys)
    assert "validate.best_metric: loss/total cannot choose the best weights" in message
    assert "data.recover: auto" in message
    assert not (tmp_path / "runs" / "pairs-stage1_param_only" / "metrics.jsonl").exists()


def test_an_interrupted_registration_goes_on_where_it_stopped(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, output = write_pairs(tmp_path / "photos"), tmp_path / "runs"
    recover, seen = registration.recover_files, []

    def interrupted(job: registration.PairJob) -> Any:
        seen.append(job.image_id)
        if len(seen) == 3:
            signal.raise_signal(signal.SIGINT)
        return recover(job)

    monkeypatch.setattr(registration, "recover_files", interrupted)
    assert main(arguments(photos, output)) == 130
    assert "the pairs registered so far are kept" in capfd.readouterr().err
    assert len(journal(output)) == 3
    assert not (output / "pairs-stage1_param_only").exists()
    assert main(arguments(photos, output)) == 0
    assert sorted(seen) == sorted(f"house{house}_g0" for house in range(HOUSES))


def test_two_processes_share_the_work_and_train_alike(tmp_path: Path, server: Server) -> None:
    photos = write_pairs(tmp_path / "photos", mismatched=1)
    alone = arguments(photos, tmp_path / "alone", "loss.image_terms=always")
    server.start(*alone)
    assert server.exit_status() == 0
    shared = [
        *arguments(photos, tmp_path / "shared", "loss.image_terms=always"),
        "train.batch_size=1",
    ]
    server.start_ranks([shared, shared])
    assert server.exit_statuses() == [0, 0]
    assert len(list((tmp_path / "shared" / "recovered").glob("*.jsonl"))) == 2
    warps = [
        {line["image_id"]: json.dumps(line["params"]) for line in journal(tmp_path / name)}
        for name in ("alone", "shared")
    ]
    assert warps[0] == warps[1]
    one, two = (
        [row["loss/total"] for row in metrics(tmp_path / name / "pairs-stage1_param_only")]
        for name in ("alone", "shared")
    )
    assert one == pytest.approx(two, rel=1e-4)


def test_the_known_warps_are_those_of_opencv(tmp_path: Path) -> None:
    """Registered at the start, a sample is what OpenCV makes of its input with its grid."""
    from warp_train.data import DataConfig, SampleKey, build_sources
    from warp_train.data.sources.warps import warp_of

    photos = write_pairs(tmp_path / "photos")
    config = DataConfig(
        source="pairs", root=photos, size=(60, 80), lenses="pairs", rebend=1, flip=False
    )
    train, _ = build_sources(config, 0)
    known = []
    for item in train.items:
        record = registration.recover_files(
            registration.PairJob(item.image_id, item.input, item.target)
        )
        known.append(item.__class__(**{**item.__dict__, **warp_of(record, "")._asdict()}))
    bent_again = train.of(known)
    for index in range(len(known)):
        sample = bent_again[SampleKey(0, index)]
        picture = sample["input_image"].permute(1, 2, 0).numpy()
        straight = sample["target_image"].permute(1, 2, 0).numpy()
        maps = opencv_maps(sample["target_params"], *picture.shape[:2])
        corrected = cv2.remap(picture, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        inner = (slice(3, -3), slice(3, -3))
        assert (
            np.abs(corrected - straight)[inner].mean()
            < 0.6 * np.abs(picture - straight)[inner].mean()
        )


@pytest.mark.parametrize(
    "radial", [[-0.2, 0.05, 0, 0, 0, 0, 0, 0.9], [0.12, 0, 0, 0, 0, 0, 0, 1.1]]
)
def test_the_fixed_warp_without_known_warps_is_what_the_pictures_show(radial: list[float]) -> None:
    """All pairs were bent by one lens of OpenCV's: the fixed warp is that lens."""
    bent = [drawn(*SHAPE, seed=seed) for seed in range(8)]
    maps = opencv_maps(radial, *SHAPE)
    straight = [cv2.remap(picture, *maps, cv2.INTER_CUBIC) for picture in bent]
    source, target = (
        torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255
        for pictures in (bent, straight)
    )
    unknown = torch.full((len(bent), 8), torch.nan)
    batch = {"input_image": source, "target_image": target, "target_params": unknown}
    loss = CompositeLoss(LossConfig())
    found = fixed_warp([batch], SHAPE, loss, torch.device("cpu"))
    assert found is not None
    away, nothing = (
        np.hypot(*(np.stack(opencv_maps(lens, *SHAPE)) - np.stack(maps))).mean()
        for lens in (found, [0, 0, 0, 0, 0, 0, 0, 1])
    )
    assert away < 0.15 * nothing


def test_a_run_that_never_improved_says_so_in_its_last_lines(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    photos = write_pairs(tmp_path / "photos")
    ruined = ("optim.lr=1", "scheduler.warmup_steps=0")
    assert main(arguments(photos, tmp_path / "runs", *ruined)) == 0
    last = capfd.readouterr().out.strip().splitlines()
    assert any(
        line.endswith("best -> step-000000000: no validation was better than that of the start")
        for line in last
    )
