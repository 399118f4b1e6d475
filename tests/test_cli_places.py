"""Names on the command line: `~`, shipped recipes, missing runs, letters beyond ASCII."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from runs_helpers import ROOT, SMALL, arguments, one_line_error, train

from warp_train.cli import main
from warp_train.recipe import Chain, Recipe, load_recipe
from warp_train.recipe.shipped import shipped_recipes

STAGE = "stage1_param_only"
FEW = ("train.max_steps=1", "data.val_samples=1")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def test_a_tilde_is_the_home_in_every_path_of_a_recipe(home: Path) -> None:
    keys = ("output_dir", "data.root", "data.val_root", "data.warps", "data.lenses")
    more = ("data.source=pairs", "data.rebend=0.5", *(f"{key}=~/a/b" for key in keys))
    recipe = load_recipe(STAGE, more)
    assert isinstance(recipe, Recipe)
    data = recipe.data
    places = (recipe.output_dir, data.root, data.val_root, data.warps, data.lenses)
    assert set(map(str, places)) == {str(home / "a" / "b")}
    assert load_recipe(STAGE, ["output_dir=~nobody-of-this-name/x"]).output_dir == Path(
        "~nobody-of-this-name/x"
    )


def test_a_tilde_on_the_command_line(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ("output_dir=~/runs", *SMALL, *FEW)
    assert main(["train", STAGE, *run]) == 0
    again = (f"--resume-from=~/runs/{STAGE}", "train.max_steps=2")
    assert main(["train", STAGE, *run, *again]) == 0
    start = (f"--init-from=~/runs/{STAGE}", "run_name=second")
    assert main(["train", STAGE, *run, *start]) == 0
    assert main(["schema", "--out=~/schema.json"]) == 0
    assert {path.name for path in home.iterdir()} == {"runs", "schema.json"}
    assert {path.name for path in (home / "runs").iterdir()} == {STAGE, "second"}
    assert not (home.parent / "~").exists()


def test_a_bare_name_is_a_shipped_recipe_and_a_file_wins(home: Path) -> None:
    assert isinstance(load_recipe("quickstart"), Chain)
    home.parent.joinpath("quickstart").write_text("extends: stage2_hybrid\nrun_name: mine\n")
    mine = load_recipe("quickstart")
    assert isinstance(mine, Recipe)
    assert (mine.run_name, mine.stage) == ("mine", "stage2_hybrid")
    home.parent.joinpath("night.yaml").write_text("stages: [stage1_param_only, stage2_hybrid]\n")
    night = load_recipe("night.yaml")
    assert isinstance(night, Chain)
    assert [stage.stage for stage in night.stages] == ["stage1_param_only", "stage2_hybrid"]


def test_the_shipped_recipes_are_listed_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = {path.stem for path in (ROOT / "recipes").glob("*.yaml")} - {"base"}
    assert {line.split()[0] for line in lines} == names == shipped_recipes().keys()
    assert all(len(line.split()) > 4 for line in lines)
    assert main(["recipes", "photos"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed == yaml.safe_load((ROOT / "recipes" / "photos.yaml").read_text())
    assert main(["recipes", "nothing"]) == 1
    assert "quickstart" in one_line_error(capsys)


@pytest.mark.parametrize("name", ["quickstrt", "phtos", "x" * 4000])
def test_a_recipe_that_is_not_there(
    name: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", name]) == 1
    hint = {"quickstrt": "quickstart", "phtos": "photos"}.get(name)
    assert (f"did you mean {hint}, which comes" in one_line_error(capsys)) == (hint is not None)


def test_weights_that_are_not_there_are_named_with_their_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "night-stage1").mkdir()
    hint = f"(did you mean {tmp_path}/night-stage1?)"
    for option, key in (("--init-from", "init_from"), ("--resume-from", "--resume-from")):
        for place in ("night-stage", str(tmp_path / "nigth-stage1")):
            assert train("stage2_hybrid", tmp_path, option, place) == 1
            message = one_line_error(capsys)
            assert message.startswith(f"warp-train: error: {key}: {place}: no such file or folder")
            assert message.endswith(hint)
    assert [path.name for path in tmp_path.iterdir()] == ["night-stage1"]


def test_a_terminal_without_umlauts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def printed(*argv: str) -> bytes:
        terminal = io.BytesIO()
        for name in ("stdout", "stderr"):
            monkeypatch.setattr(sys, name, io.TextIOWrapper(terminal, "ascii"))
        assert main(list(argv)) == 0
        sys.stdout.flush()
        return terminal.getvalue()

    table = rb"H\xe4user: the same unseen samples"
    assert table in printed(*arguments(STAGE, tmp_path, *FEW, "run_name=Häuser"))
    assert (tmp_path / "Häuser" / "summary.json").exists()
    shown = printed("check", STAGE, "run_name=Häuser").decode()
    assert yaml.safe_load(shown)["run_name"] == "Häuser"


def test_what_a_start_from_other_bounds_and_a_long_warm_up_mean(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert train(STAGE, tmp_path, *FEW, "run_name=first") == 0
    caplog.clear()
    first = ("--init-from", str(tmp_path / "first"))
    assert train(STAGE, tmp_path, *FEW, *first, "scheduler.warmup_steps=0") == 0
    told = caplog.text
    assert "init_from" not in told
    assert "warmup_steps" not in told
    other = ("model.param_bounds.k1=0.5", "scheduler.warmup_steps=1")
    assert train(STAGE, tmp_path, *FEW, *first, *other) == 0
    assert "other lenses here, where model.param_bounds.k1: 0.8 -> 0.5" in caplog.text
    assert "scheduler.warmup_steps: 1, and the stage has 1 steps" in caplog.text


def test_a_wheel_has_the_recipes(tmp_path: Path) -> None:
    """What is built into `build/lib` goes into the wheel."""
    code = "import setuptools; setuptools.setup()"
    build = (sys.executable, "-c", code, "-q", "build_py", "--build-lib", str(tmp_path / "lib"))
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run(build, cwd=ROOT, env=environment, check=True, capture_output=True)
    listing = (sys.executable, "-m", "warp_train", "recipes")
    environment = {**environment, "PYTHONPATH": str(tmp_path / "lib")}
    done = subprocess.run(
        listing, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    assert [line.split()[0] for line in done.stdout.splitlines()] == sorted(shipped_recipes())
    assert (tmp_path / "lib" / "warp_train" / "recipes" / "base.yaml").is_file()
