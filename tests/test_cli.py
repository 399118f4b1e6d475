"""The commands around the recipe: usage, help, what `train` hands on, exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from warp_train import __version__, cli
from warp_train.commands import workers
from warp_train.commands.workers import WorkerRule, chosen_workers
from warp_train.recipe import Chain, Recipe, load_recipe, recipe_schema
from warp_train.runtime.errors import WarpTrainError
from warp_train.training import stages

STAGE1 = "stage: stage1_param_only\n"
STAGE2 = "stage: stage2_hybrid\nloss: {flow_tv_weight: 0.05}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text(STAGE1)
    Path("two.yaml").write_text(STAGE2)
    Path("c.yaml").write_text("stages: [r.yaml, two.yaml]\n")
    return tmp_path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Recipes and options that `train` hands to training, which does not run."""
    handed: list[Any] = []

    def run(recipe: Any, options: Any) -> int:
        handed.append((recipe, options))
        return 0

    monkeypatch.setattr(stages, "run", run)
    return handed


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def run(recipe: Any, options: Any) -> int:
        raise error

    monkeypatch.setattr(stages, "run", run)


USAGE = {
    "no command": ([], "COMMAND"),
    "unknown command": (["trian"], "trian"),
    "no recipe": (["train"], "RECIPE"),
    "override for a recipe": (["train", "seed=1"], "seed=1"),
    "unknown option": (["train", "r.yaml", "--run-nam", "x"], "did you mean --run-name?"),
    "option of another command": (["check", "r.yaml", "--init-from", "x"], "--init-from"),
    "option without its value": (["train", "r.yaml", "--init-from"], "--init-from"),
    "empty value": (["train", "r.yaml", "--run-name", ""], "--run-name"),
    "stray word": (["train", "r.yaml", "seed=1", "epochs"], "epochs: neither"),
    "override without a key": (["check", "r.yaml", "=1"], "=1"),
    "override with half a key": (["check", "r.yaml", "optim.=1"], "optim.=1"),
    "argument of schema": (["schema", "r.yaml"], "r.yaml"),
}


@pytest.mark.parametrize(("arguments", "part"), USAGE.values(), ids=USAGE.keys())
def test_usage_errors_are_one_line_and_exit_2(
    arguments: list[str], part: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    out, err = capsys.readouterr()
    assert stop.value.code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert part in err


@pytest.mark.parametrize("command", ["train", "check", "schema"])
def test_help_shows_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    assert f"\n  warp-train {command} " in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"warp-train {__version__}\n"


def test_train_hands_on_recipe_and_options(folder: Path, calls: list[Any]) -> None:
    line = "train r.yaml train.epochs=2 --validate-only train.epochs=3 --run-name n seed=5"
    line += " --init-from before --resume-from auto"
    assert cli.main(line.split()) == 0
    ((recipe, options),) = calls
    assert isinstance(recipe, Recipe)
    assert (recipe.train.epochs, recipe.seed) == (3, 5)
    assert (recipe.run_name, recipe.init_from) == ("n", "before")
    assert options == stages.RunOptions(resume_from="auto", validate_only=True)


def test_train_hands_on_a_chain(folder: Path, calls: list[Any]) -> None:
    assert cli.main(["train", "c.yaml", "--run-name", "night", "seed=5"]) == 0
    ((chain, options),) = calls
    assert isinstance(chain, Chain)
    assert [stage.run_name for stage in chain.stages] == ["night-r", "night-two"]
    assert options == stages.RunOptions(resume_from=None, validate_only=False)


def test_a_stage_from_scratch_warns_once(
    folder: Path,
    calls: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cli.main(["train", "two.yaml"])
    err = capsys.readouterr().err
    assert err.startswith("warp-train: warning: stage2_hybrid starts from scratch")
    assert err.count("\n") == 1
    cli.main(["train", "two.yaml", "--init-from", "one"])
    cli.main(["train", "two.yaml", "--resume-from", "auto"])
    monkeypatch.setenv("RANK", "1")
    cli.main(["train", "two.yaml"])
    assert capsys.readouterr().err == ""


def test_check_prints_the_resolved_recipe_and_touches_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(folder.rglob("*"))
    assert cli.main(["check", "c.yaml", "seed=5", "output_dir=elsewhere"]) == 0
    assert sorted(folder.rglob("*")) == before
    out, err = capsys.readouterr()
    assert err == ""
    Path("printed.yaml").write_text(out)
    assert load_recipe("printed.yaml") == load_recipe("c.yaml", ["seed=5", "output_dir=elsewhere"])


def test_schema_is_printed_or_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == recipe_schema()
    assert cli.main(["schema", "--out", "s.json"]) == 0
    assert json.loads(Path("s.json").read_text()) == recipe_schema()
    assert cli.main(["schema", "--out", "no/s.json"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "--out no/s.json: there is no folder no" in err


def test_a_failed_run_is_one_line_and_exit_1(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(monkeypatch, WarpTrainError("photos/a.jpg: too small"))
    assert cli.main(["train", "r.yaml"]) == 1
    assert capsys.readouterr().err == "warp-train: error: photos/a.jpg: too small\n"
    raising(monkeypatch, ValueError("several\nlines"))
    assert cli.main(["train", "r.yaml"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("warp-train: error: ValueError: several lines")
    assert "--debug" in err
    assert err.count("\n") == 1


def test_debug_shows_the_traceback(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(monkeypatch, ValueError("odd"))
    assert cli.main(["train", "r.yaml", "--debug"]) == 1
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert err.endswith("warp-train: error: ValueError: odd\n")


def test_ctrl_c_is_130(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, KeyboardInterrupt())
    assert cli.main(["train", "r.yaml"]) == 130


def test_only_the_first_process_repeats_what_is_wrong_with_a_recipe(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert cli.main(["train", "r.yaml", "optim.lrr=1"]) == 1
    assert capsys.readouterr().err == ""
    raising(monkeypatch, RuntimeError("out of memory"))
    assert cli.main(["train", "r.yaml"]) == 1
    assert "rank 1: RuntimeError: out of memory" in capsys.readouterr().err


HEAVY = {"torch", "numpy", "cv2", "pydantic", "tqdm"}
EARLY = {
    "help": (["rectify", "--help"], 0, HEAVY),
    "usage error": (["evaluate", "m"], 2, HEAVY),
    "no folder for the results": (["evaluate", "m", "--data", "d", "--json", "no/x"], 1, HEAVY),
    "options that exclude each other": (
        ["export", "m", "p.jpg", "--to", "opencv", "--mount", "Sony E"],
        2,
        HEAVY,
    ),
    "error in a recipe": (["train", "r.yaml", "optim.lrr=1"], 1, {"torch", "cv2"}),
}


@pytest.mark.parametrize(("arguments", "code", "heavy"), EARLY.values(), ids=EARLY.keys())
def test_what_needs_no_network_does_not_wait_for_its_libraries(
    arguments: list[str], code: int, heavy: set[str], folder: Path
) -> None:
    script = (
        "import sys\n"
        "from warp_train import cli\n"
        "try:\n"
        f"    code = cli.main({arguments!r})\n"
        "except SystemExit as stop:\n"
        "    code = stop.code\n"
        "print(code, *sys.modules)\n"
    )
    root = str(Path(cli.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r})\n{script}"],
        capture_output=True,
        text=True,
        check=True,
    )
    exit_code, *modules = done.stdout.splitlines()[-1].split()
    assert int(exit_code) == code
    assert heavy & set(modules) == set()


@pytest.mark.parametrize(
    ("rule", "asked", "items", "expected"),
    [
        (WorkerRule(), None, 1000, 8),
        (WorkerRule(), None, 39, 3),
        (WorkerRule(), None, 19, 0),  # one worker would only replace this process
        (WorkerRule(), 5, 1, 5),
        (WorkerRule(), 0, 1000, 0),
        (WorkerRule(least=1, most_by_default=4), None, 1000, 4),
        (WorkerRule(least=1, most_by_default=4), None, 1, 1),
        (WorkerRule(least=1, most_by_default=4), 6, 1000, 6),
    ],
)
def test_workers_are_as_many_as_asked_for_or_as_have_enough_work(
    rule: WorkerRule,
    asked: int | None,
    items: int,
    expected: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "usable_cores", lambda: 8)
    assert chosen_workers(rule, asked, items, 10) == expected


def test_an_interrupt_within_an_import_is_exit_code_130(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, types\n"
        "check = types.ModuleType('warp_train.commands.check')\n"
        "check.run = lambda arguments: exec('raise KeyboardInterrupt')\n"
        "sys.modules['warp_train.commands.check'] = check\n"
    )
    command = [sys.executable, "-m", "warp_train", "check", "r.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
