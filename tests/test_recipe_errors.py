"""Broken recipes: exit code, exactly one line on stderr, and what it must name."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from warp_train import cli

STAGE1 = "stage: stage1_param_only\n"
STAGE2 = "stage: stage2_hybrid\nloss: {flow_tv_weight: 0.05}\n"


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 1) -> str:
    """The one line that `warp-train` writes on stderr when it fails."""
    try:
        got = cli.main(arguments)
    except SystemExit as stop:
        got = int(str(stop.code))
    out, err = capsys.readouterr()
    assert got == code
    assert out == ""
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    return err


# id: recipe text, parts of the complaint; the file's name is asserted everywhere
BROKEN = {
    "typo in a section": (
        STAGE1 + "optim:\n  lrr: 2e-4\n",
        ["r.yaml:3: optim.lrr: unknown key", "did you mean 'lr'?", "weight_decay"],
    ),
    "typo at the top": (STAGE1 + "trian: {epochs: 3}\n", ["r.yaml:2: trian", "'train'"]),
    "key of another section": (STAGE1 + "lr: 1e-3\n", ["r.yaml:2: lr:", "'optim.lr'"]),
    "typo in a nested section": (
        STAGE1 + "model:\n  param_bounds:\n    k4: 0.1\n",
        ["r.yaml:4: model.param_bounds.k4", "k1, k2, k3"],
    ),
    "typo in the safety limits": (
        STAGE1 + "guardrails: {safety: {max_oob: 0.1}}\n",
        ["r.yaml:2: guardrails.safety.max_oob", "'max_oob_ratio'"],
    ),
    "text for a number": (
        STAGE1 + "train:\n  epochs: many\n",
        ["r.yaml:3: train.epochs: many", "a whole number"],
    ),
    "quoted number": (STAGE1 + 'train: {epochs: "3"}\n', ['train.epochs: "3"', "a whole number"]),
    "fraction for a count": (STAGE1 + "train: {epochs: 1.5}\n", ["train.epochs: 1.5", "whole"]),
    "boolean for a count": (STAGE1 + "train: {epochs: true}\n", ["train.epochs: true", "whole"]),
    "word for a boolean": (STAGE1 + "data: {flip: yes}\n", ["data.flip: yes", "true or false"]),
    "number for a name": (STAGE1 + "run_name: 7\n", ["r.yaml:2: run_name: 7", "quotes"]),
    "name that is no folder": (STAGE1 + "run_name: ../x\n", ["run_name: ../x", "folder"]),
    "a rate for a head that does not run": (
        STAGE1 + "optim: {residual_lr: 1e-3}\n",
        ["r.yaml:2: optim.residual_lr: 0.001 is not allowed in stage1_param_only"],
    ),
    "below the range": (
        STAGE1 + "train:\n\n  batch_size: -1\n",
        ["r.yaml:4: train.batch_size: -1 is not allowed (must be >= 1)"],
    ),
    "above the range": (STAGE1 + "train: {ema_decay: 1.2}\n", ["train.ema_decay: 1.2", "< 1"]),
    "value shown as written": (STAGE1 + "optim: {lr: -2e-4}\n", ["optim.lr: -2e-4", "> 0"]),
    "infinite": (STAGE1 + "optim: {lr: .inf}\n", ["optim.lr: .inf", "finite"]),
    "negative safety limit": (
        STAGE1 + "guardrails: {safety: {max_oob_ratio: -1}}\n",
        ["guardrails.safety.max_oob_ratio: -1", ">= 0"],
    ),
    "pair with three values": (STAGE1 + "data: {size: [1, 2, 3]}\n", ["[1, 2, 3]", "2 values"]),
    "pair with one value": (STAGE1 + "data: {size: [192]}\n", ["data.size: [192]", "2 values"]),
    "scalar for a pair": (STAGE1 + "data: {size: 192}\n", ["data.size: 192", "a list"]),
    "scalar for a section": (STAGE1 + "optim: fast\n", ["r.yaml:2: optim: fast", "section"]),
    "unknown backbone": (
        STAGE1 + "model: {backbone: resnet43}\n",
        ["model.backbone: resnet43", "'tiny', 'resnet34' or 'resnet50'", "did you mean"],
    ),
    "unknown stage": ("stage: stage2\n", ["r.yaml:1: stage: stage2", "'stage2_hybrid'"]),
    "no stage": ("seed: 1\n", ["stage: this key is missing", "stage3_finetune"]),
    "scorer without a function": (STAGE1 + "proxy: {scorer: mine}\n", ["mine", "module:function"]),
    "stage 1 with flow weights": (
        STAGE1 + "loss:\n  flow_curv_weight: 0.01\n",
        ["r.yaml:3: loss.flow_curv_weight: 0.01", "stage1_param_only"],
    ),
    "stage 1 with a Jacobian weight": (
        STAGE1 + "loss: {jacobian_weight: 0.01}\n",
        ["loss.jacobian_weight: 0.01", "stage1_param_only"],
    ),
    "stage 2 with stage 1's losses": (
        "stage: stage2_hybrid\n",
        ["loss: stage2_hybrid needs flow_tv_weight or flow_mag_weight > 0"],
    ),
    "pretrained tiny": (STAGE1 + "model: {pretrained: true}\n", ["model.pretrained: true", "tiny"]),
    "min_lr above lr": (STAGE1 + "scheduler: {min_lr: 1}\n", ["scheduler.min_lr: 1", "optim.lr"]),
    "never validated": (
        STAGE1 + "validate: {every_epochs: null}\n",
        ["validate: every_epochs and every_steps"],
    ),
    "photos from nowhere": (STAGE1 + "data: {source: photos}\n", ["data", "data.root"]),
    "external without a function": (STAGE1 + "data: {source: external}\n", ["data.external"]),
    "no loss at all": (
        STAGE1 + "loss: {pixel_weight: 0, ssim_weight: 0, edge_weight: 0, line_weight: 0,"
        " grad_orient_weight: 0}\n",
        ["loss: ", "above 0"],
    ),
    "key written twice": (
        STAGE1 + "optim: {lr: 1e-3}\ntrain: {epochs: 1}\noptim: {lr: 1e-4}\n",
        ["r.yaml:4: optim: this key occurs twice"],
    ),
    "YAML syntax": (STAGE1 + "optim: [1, 2\ntrain: {\n", ["r.yaml:3: not valid YAML"]),
    "tabs": (STAGE1 + "optim:\n\tlr: 1\n", ["r.yaml:3: not valid YAML"]),
    "two documents": (STAGE1 + "---\n" + STAGE1, ["r.yaml:2: not valid YAML"]),
    "python tag": (STAGE1 + "run_name: !!python/name:os.system\n", ["r.yaml:2: ", "tag"]),
    "alias within itself": (STAGE1 + "data: &a {lens: *a}\n", ["nested too deeply"]),
    "brackets without end": ("[" * 5000, ["nested too deeply"]),
    "half a surrogate": (STAGE1 + 'run_name: "\\ud800"\n', ["r.yaml:2: ", "cannot be read"]),
    "number too long to read": (STAGE1 + f"seed: {'9' * 5000}\n", ["r.yaml:2: ", "9999"]),
    "list at the top": ("- stage1_param_only\n", ["r.yaml:1: ", "`key: value`"]),
    "sentence at the top": ("train please\n", ["r.yaml:1: train please"]),
    "number as a key": (STAGE1 + "3: 4\n", ["r.yaml:2: 3: a key must be a word"]),
    "empty": ("", ["r.yaml: the file is empty"]),
    "comments only": ("# nothing\n", ["r.yaml: the file is empty"]),
    "extends a missing file": (
        "extends: bsae.yaml\n",
        ["r.yaml:1: extends: bsae.yaml: no such file", "did you mean", "base.yaml?"],
    ),
    "extends a number": ("extends: 3\n", ["r.yaml:1: extends: 3", "path of a recipe"]),
    "extends itself": ("extends: r.yaml\n", ["r.yaml:1: extends: ", "r.yaml -> ", "r.yaml"]),
    "stages of no list": ("stages: base.yaml\n", ["r.yaml:1: stages: base.yaml", "list"]),
    "no stages": ("stages: []\n", ["r.yaml:1: stages: []", "list"]),
    "missing stage file": ("stages: [two.yaml]\n", ["r.yaml:1: stages: two.yaml: no such file"]),
    "stage of a chain is a number": ("stages:\n- 3\n", ["r.yaml:2: stages: 3", "path of a recipe"]),
    "stage of a chain has a typo": (
        "stages:\n- stage: stage1_param_only\n  optim: {lrr: 1}\n",
        ["r.yaml:3: optim.lrr: unknown key"],
    ),
    "stage of a chain without a stage": ("stages:\n- {seed: 1}\n", ["r.yaml:2: stage: this key"]),
    "same stage twice": (
        "stages:\n- stage: stage1_param_only\n- stage: stage1_param_only\n",
        ["r.yaml: stages: two stages have the run_name stage1_param_only"],
    ),
    "chain in a chain": ("stages:\n- {stages: [base.yaml]}\n", ["r.yaml:2: stages", "chain"]),
    "stage of the whole chain": (
        "stage: stage1_param_only\nstages: [stage1.yaml]\n",
        ["r.yaml:1: stage: not allowed in a chain"],
    ),
    "later stage with its own start": (
        "stages:\n- stage1.yaml\n- extends: stage2.yaml\n  init_from: elsewhere\n",
        ["r.yaml:4: init_from: elsewhere", "stage 2"],
    ),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text("seed: 3\n")
    Path("stage1.yaml").write_text(STAGE1)
    Path("stage2.yaml").write_text(STAGE2)
    return tmp_path


@pytest.mark.parametrize(("text", "parts"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_recipe(
    text: str, parts: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("r.yaml").write_text(text)
    line = complaint(capsys, "check", "r.yaml")
    assert line.startswith("warp-train: error: ")
    for part in ["r.yaml", *parts]:
        assert part in line


OVERRIDES = {
    "unknown key": ("optim.lrr=1", ["optim.lrr: unknown key", "'lr'"]),
    "bad value": ("train.batch_size=0", ["train.batch_size: 0", ">= 1"]),
    "no YAML": ("data.size=[1,", ["data.size: not valid YAML"]),
    "no value": ("train.epochs=", ["train.epochs: nothing", "whole number"]),
    "below a scalar": ("optim.lr.x=1", ["optim.lr", "a number"]),
    "extends": ("extends=base.yaml", ["extends: only allowed in a recipe file"]),
    "stages": ("stages=[a.yaml]", ["stages: only allowed in a recipe file"]),
    "another stage's loss": ("loss.flow_mag_weight=1", ["loss.flow_mag_weight: 1", "stage1_param"]),
}


@pytest.mark.parametrize(("override", "parts"), OVERRIDES.values(), ids=OVERRIDES.keys())
def test_broken_override(
    override: str, parts: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = complaint(capsys, "check", "stage1.yaml", override)
    for part in ["stage1.yaml (command line): ", *parts]:
        assert part in line


def test_only_the_first_problem_is_explained(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("r.yaml").write_text(STAGE1 + "optim: {lr: 0}\ntrain: {epochs: 0, batch_size: 0}\n")
    line = complaint(capsys, "check", "r.yaml")
    assert "optim.lr: 0 is not allowed" in line
    assert "(and 2 more: train.batch_size, train.epochs)" in line


def test_mistake_in_an_extended_file_names_that_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("base.yaml").write_text("seed: 3\noptim:\n  lr: fast\n")
    Path("r.yaml").write_text("extends: base.yaml\n" + STAGE1)
    assert "error: base.yaml:3: optim.lr: fast" in complaint(capsys, "check", "r.yaml")


def test_cycle_is_printed_as_a_chain_of_files(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, target in (("a", "b"), ("b", "c"), ("c", "b")):
        Path(f"{name}.yaml").write_text(f"extends: {target}.yaml\n")
    line = complaint(capsys, "check", "a.yaml")
    assert "c.yaml:1: extends: " in line
    assert line.endswith("b.yaml -> c.yaml -> b.yaml\n")


def test_files_that_are_no_recipes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "stage3.yaml: no such file (did you mean stage" in complaint(
        capsys, "check", "stage3.yaml"
    )
    assert "(did you mean stage1.yaml?)" in complaint(capsys, "check", "stage1")
    Path("folder.yaml").mkdir()
    assert "folder.yaml: a folder" in complaint(capsys, "check", "folder.yaml")
    Path("photo.yaml").write_bytes(bytes([0xFF, 0xD8, 0xFF, 0xE0, 0, 16]))
    assert "photo.yaml: not a text file" in complaint(capsys, "check", "photo.yaml")
    Path("zeros.yaml").write_bytes(bytes(64))
    assert "zeros.yaml:1: not valid YAML" in complaint(capsys, "check", "zeros.yaml")
    assert "no such file" in complaint(capsys, "check", "x" * 5000)


@pytest.mark.parametrize("arguments", [["check", "r.yaml"], ["train", "r.yaml", "seed=1"]])
def test_in_a_process_of_its_own(arguments: list[str], folder: Path) -> None:
    Path("r.yaml").write_text(STAGE1 + "optim: {lrr: 1}\n")
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])}
    result = subprocess.run(
        [sys.executable, "-m", "warp_train", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "r.yaml:2: optim.lrr: unknown key" in result.stderr
