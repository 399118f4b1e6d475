"""Nothing that is read can run code, and nothing is imported that the recipe does not name."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from runs_helpers import ENVIRONMENT, ROOT, STAGES, command, one_line_error, train

from warp_train.cli import main

PACKAGE = ROOT / "warp_train"
MODULES = {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "code", "commands"}
CALLS = {"eval", "exec", "compile", "__import__", "breakpoint"}
METHODS = {
    ("torch", "load"),
    ("torch", "save"),
    ("torch.jit", "load"),
    ("torch.hub", "load"),
    ("yaml", "load"),
    ("yaml", "load_all"),
    ("yaml", "full_load"),
    ("yaml", "unsafe_load"),
    ("yaml", "Loader"),
    ("yaml", "FullLoader"),
    ("yaml", "UnsafeLoader"),
    ("np", "load"),
    ("numpy", "load"),
    ("os", "system"),
    ("os", "popen"),
}
IMPORTERS = {
    "cli.py",
    "data/sources/__init__.py",
    "data/sources/external.py",
    "training/proxy_scoring.py",
}
SUFFIXES = {".safetensors", ".json", ".jsonl", ".yaml", ".jpg", ".png"}


def _offences(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names if name.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            module = str(node.module)
            found += [module] if module.split(".")[0] in MODULES else []
            found += [f"{module}.{n.name}" for n in node.names if (module, n.name) in METHODS]
        elif isinstance(node, ast.Name) and node.id in CALLS and isinstance(node.ctx, ast.Load):
            found.append(node.id)
        elif isinstance(node, ast.Attribute) and (ast.unparse(node.value), node.attr) in METHODS:
            found.append(ast.unparse(node))
        elif isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "shell"):
            found.append(f"{node.arg}=")
    return found


def test_the_package_has_nothing_that_unpickles_or_evaluates() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 100
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert _offences(ast.parse(text)) == [], path
        imports = "import_module(" in text
        assert imports == (str(path.relative_to(PACKAGE)) in IMPORTERS), path


@pytest.mark.parametrize(
    "code",
    [
        "import torch\ntorch.load(f)",
        "from torch import load",
        "import pickle",
        "from joblib import load",
        "np.load(f, allow_pickle=True)",
        "yaml.load(f, yaml.FullLoader)",
        "f = eval",
    ],
)
def test_the_search_finds_what_it_is_for(code: str) -> None:
    assert _offences(ast.parse(code))


def test_a_run_leaves_only_files_that_cannot_carry_code(tmp_path: Path) -> None:
    assert train(STAGES[1], tmp_path, "train.max_steps=2", "tracking.images_every=1") == 0
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in left} <= SUFFIXES


@pytest.mark.parametrize(
    "text",
    [
        "seed: !!python/object/apply:os.system ['touch owned']",
        "seed: !!python/object/new:os.system ['touch owned']",
        "? !!python/object/apply:os.system ['touch owned']\n: 1",
        "seed: !!python/name:os.system",
        "data: !!python/object/apply:os.system {args: ['touch owned']}",
    ],
)
def test_a_recipe_cannot_run_code(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "hostile.yaml"
    recipe.write_text(f"extends: {ROOT}/recipes/{STAGES[0]}.yaml\n{text}\n")
    assert main(["check", str(recipe), "seed=1"]) == 1
    assert "!python/" in one_line_error(capsys).replace("tag:yaml.org,2002:", "!")
    assert main(["check", f"{ROOT}/recipes/{STAGES[0]}.yaml", f"seed={text[6:]}"]) == 1
    assert not (tmp_path / "owned").exists()


HOSTILE = "from pathlib import Path\nPath(__file__).with_suffix('.owned').touch()\n"
NAMES = ("yaml", "torch", "safetensors", "my_data", "wandb", "tensorboard", "lensfunpy", "cv2")
NAMES = (*NAMES, "torch_xla", "deepspeed", "bitsandbytes", "transformers", "sitecustomize")


def test_modules_in_the_working_directory_are_not_imported(tmp_path: Path) -> None:
    """By `python -m`, that is: the installed script has no working directory on its path."""
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text(HOSTILE)
    small = ("train.max_steps=1", "data.train_samples=4", "data.val_samples=1")
    done = subprocess.run(
        command(STAGES[0], tmp_path / "runs", *small),
        env=ENVIRONMENT,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.glob("*.owned")] == []


def test_what_the_recipe_names_is_imported_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_data_here.py").write_text(HOSTILE)
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    named = ("data.source=external", "data.external=my_data_here:loaders")
    assert train(STAGES[0], tmp_path, *named) == 1
    assert "my_data_here" in one_line_error(capsys)
    assert (tmp_path / "my_data_here.owned").exists()
    assert sys.path == before
