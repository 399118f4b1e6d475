"""The pages: their commands, recipe keys, paths, links and code fit the program as it is."""

import ast
import configparser
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate.commands.launch import launch_command_parser
from pages_helpers import (
    PAGES,
    all_commands,
    anchors,
    apply_edits,
    blocks,
    commands,
    edits,
    exists_somewhere,
    links,
    package_rooms,
    tokens,
)
from rectify_helpers import BARREL, pixels, save_lens_model
from runs_helpers import ROOT, SMALL, metrics
from torch.distributed.run import get_args_parser

from warp_train import cli
from warp_train.recipe import load_recipe
from warp_train.recipe.shipped import named_recipe

README_LIMIT = 12_288
SCHEMA = json.loads((ROOT / "recipes/recipe.schema.json").read_text())
PLACEHOLDERS = {"RECIPE": "recipes/stage1_param_only.yaml"}
COMMANDS = all_commands()


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_the_readme_is_read_in_five_minutes() -> None:
    assert len(PAGES["README.md"].encode()) <= README_LIMIT


# ---------------------------------------------------------------------------------------- commands


def check_warp_train(arguments: list[str]) -> None:
    """Parses a command line as the program does and resolves the recipe that it names.

    A command without arguments is its name in a sentence, and has to be one that there is.
    """
    if len(arguments) == 1 or arguments[0].startswith("--"):  # an option that prints, and ends it
        with pytest.raises(SystemExit) as left:
            cli._parse([*arguments, "--help"])
        assert left.value.code == 0, arguments
        return
    parsed = cli._parse([PLACEHOLDERS.get(word, word) for word in arguments])
    if "recipe" in parsed:
        assert named_recipe(parsed.recipe).is_file(), parsed.recipe
        load_recipe(parsed.recipe, parsed.overrides)


def check_accelerate(arguments: list[str]) -> None:
    assert arguments[0] == "launch"
    if len(arguments) == 1:
        return
    parsed = launch_command_parser().parse_args(arguments[1:])
    assert Path(parsed.config_file).is_file()
    assert (parsed.module, parsed.training_script) == (True, "warp_train")
    check_warp_train(parsed.training_script_args)


def check_torchrun(arguments: list[str]) -> None:
    parsed = get_args_parser().parse_args(arguments)
    assert (parsed.module, parsed.training_script) == (True, "warp_train")
    check_warp_train(parsed.training_script_args)


def check_python(arguments: list[str]) -> None:
    assert arguments[0] == "-m"
    name, rest = arguments[1], arguments[2:]
    if name == "warp_train":
        if rest:
            check_warp_train(rest)
    elif name == "venv":
        assert rest == [".venv"]
    else:
        importlib.import_module(name)._parser().parse_args(rest)


def check_pip(arguments: list[str]) -> None:
    """The package itself, with extras that it has."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert arguments[0] == "install"
    for word in arguments[1:]:
        if word in ("-e", "."):
            continue
        extra = re.fullmatch(r"\.\[(\w+)\]", word)
        assert extra, word
        assert extra[1] in setup["options.extras_require"], word


def check_pytest(arguments: list[str]) -> None:
    """Test files that are there, and options that are pytest's, xdist's or of tests/conftest.py."""
    ours = re.findall(r'addoption\("(--[\w-]+)"', (ROOT / "tests/conftest.py").read_text())
    for word in arguments:
        if word.startswith("tests/"):
            assert list(ROOT.glob(word.partition("::")[0])), word
        elif word.startswith("-"):
            assert word in (*ours, "-n", "-x", "-q", "-k"), word


def check_files(arguments: list[str]) -> None:
    """A program whose arguments name files of the repository."""
    for word in arguments:
        if "/" in word:
            assert (ROOT / word).exists(), word


def check_manifests(arguments: list[str]) -> None:
    """A program whose arguments name files of `launch/`, beside objects of a cluster."""
    check_files([word for word in arguments if word.startswith("launch/")])


def check_docker(arguments: list[str]) -> None:
    """Files of `launch/`, and the program's own command after the image's name."""
    check_manifests(arguments)
    if arguments[0] == "run":
        check_warp_train(arguments[arguments.index("warp_train") + 1 :])


CHECKS: dict[str, Callable[[list[str]], None]] = {
    "warp-train": check_warp_train,
    "accelerate": check_accelerate,
    "torchrun": check_torchrun,
    "python": check_python,
    "python3": check_python,
    "pip": check_pip,
    "pytest": check_pytest,
    "sbatch": check_files,
    "wandb": check_files,
    "docker": check_docker,
    "kubectl": check_manifests,
    "sky": check_manifests,
    "ruff": check_files,
    "mypy": check_files,
    ".ci/run": check_files,
}


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=lambda part: str(part)[:70])
def test_every_command_fits_the_program(page: str, words: list[str]) -> None:
    program = words[0].removeprefix(".venv/bin/")
    assert program in CHECKS, f"{page}: no check for {program}"
    try:
        CHECKS[program](words[1:])
    except SystemExit as refused:
        pytest.fail(f"{page}: {' '.join(words)}: exit code {refused.code}")


def test_the_pages_have_commands_of_every_kind() -> None:
    """So that a page written in another way is not silently left out."""
    named = {words[0].removeprefix(".venv/bin/") for _, words in COMMANDS}
    assert {"warp-train", "accelerate", "python", "pip", "pytest", "sbatch"} <= named
    subcommands = {words[1] for _, words in COMMANDS if words[0] == "warp-train"}
    assert subcommands >= {
        *("train", "check", "schema", "bench", "evaluate", "straightness", "rectify", "recover"),
        *("prepare", "score", "export"),
    }
    assert len(COMMANDS) > 50


def test_the_continuous_integration_runs_what_the_pages_tell_to_run() -> None:
    script = (ROOT / ".ci/run").read_text()
    installed, tested = commands("README.md")[4:6]
    assert installed[1:] == ["install", ".[test]"]
    assert "pip install" in script
    assert "'.[test]'" in script
    assert f"\n{' '.join(tested).removeprefix('.venv/bin/')}\n" in script
    for words in commands(".github/CONTRIBUTING.md"):
        if words[0] in ("ruff", "mypy"):
            assert f"\n{' '.join(words)}\n" in script


# ------------------------------------------------------------------------------ keys, paths, links


def keys_of(node: dict[str, Any]) -> dict[str, Any]:
    """The keys of a section of the schema, each with the section that it opens, if any."""
    name = node.get("$ref", "").removeprefix("#/$defs/")
    properties = SCHEMA["$defs"].get(name, node).get("properties", {})
    return {key: keys_of(value) for key, value in properties.items() if key != "stages"}


SECTIONS = {key: inner for key, inner in keys_of(SCHEMA).items() if inner}
RECIPE_KEY = re.compile(rf"(?<![\w.])(?:{'|'.join(SECTIONS)})\.[\w.<>*]+")


def is_key(dotted: str) -> bool:
    """Whether the schema has a key; `*` and `<name>` stand for any key of their section."""
    section: dict[str, Any] = SECTIONS
    for part in dotted.split("."):
        if part in ("*", "<name>"):
            return bool(section)
        if part not in section:
            return False
        section = section[part]
    return True


@pytest.mark.parametrize("page", PAGES)
def test_recipe_keys_are_keys_of_the_schema(page: str) -> None:
    named = [key for token in tokens(page) for key in RECIPE_KEY.findall(token)]
    ours = [key for key in named if not key.endswith((".py", ".yaml"))]
    assert [key for key in ours if not is_key(key)] == []


def test_the_tables_of_keys_are_read() -> None:
    rows = [key for token in tokens("recipes/README.md") for key in RECIPE_KEY.findall(token)]
    assert len(set(rows)) > 40
    assert not is_key("loss.edges_weight")
    assert not is_key("data.lensfun.maker")


PATH = re.compile(r"[\w.*/-]*\.(?:py|yaml|sbatch|md|json|png|html|cfg|toml)")
ROOTED = ("recipes/", "launch/", "tests/", "warp_train/", ".github/", ".ci/")
WRITTEN = (  # by the program
    "recipe.yaml",
    "config.json",
    "summary.json",
    "scores.json",
    "report.html",
    "lenses.json",
)


@pytest.mark.parametrize("page", PAGES)
def test_named_files_are_there(page: str) -> None:
    named = [token for token in tokens(page) if PATH.fullmatch(token) or token.startswith(ROOTED)]
    named = [token for token in named if " " not in token and token not in WRITTEN]
    assert [token for token in named if not exists_somewhere(page, token)] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for link in links(page):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


def test_the_readme_leads_to_every_other_page() -> None:
    assert {*PAGES} - {"README.md"} <= set(links("README.md"))


def test_the_map_lists_every_room() -> None:
    rooms = re.findall(r"^\| `(\w+)/` \|", PAGES[".github/CONTRIBUTING.md"], re.MULTILINE)
    assert sorted(rooms) == sorted(package_rooms())


# ------------------------------------------------------------------------------------------ Python

PYTHON = [(page, block) for page in PAGES for block in blocks(page, "python")]


@pytest.mark.parametrize(("page", "block"), PYTHON, ids=lambda part: part[:30])
def test_python_compiles_and_imports_what_is_there(page: str, block: str) -> None:
    for node in ast.walk(ast.parse(block, filename=page)):
        if isinstance(node, ast.ImportFrom) and node.module:
            module = importlib.import_module(node.module)
            assert [name.name for name in node.names if not hasattr(module, name.name)] == []


def test_the_lines_of_the_readme_straighten_a_photo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = blocks("README.md", "python")
    save_lens_model(tmp_path / "outputs/runs/quickstart", BARREL)
    monkeypatch.chdir(tmp_path)
    rgb = pixels(96, 144, 3)
    names: dict[str, Any] = {"rgb": rgb}
    exec(compile(block, "README.md", "exec"), names)
    result = names["result"]
    assert result.image.shape == rgb.shape
    assert result.image.dtype == np.uint8
    for token in tokens("README.md"):
        if token.startswith("result."):
            assert hasattr(result, token.removeprefix("result."))


# ------------------------------------------------------------------------------ four contributions

CONTRIBUTING = ".github/CONTRIBUTING.md"
MOST_FILES = {"loss term": 3, "guardrail": 2, "data source": 2, "backbone": 2}


@pytest.mark.parametrize("title", MOST_FILES)
def test_a_contribution_touches_few_files(title: str) -> None:
    sections = PAGES[CONTRIBUTING].split("\n## ")
    (section,) = (text for text in sections if text.startswith(f"Add a {title}\n"))
    files = {file for _, file, text in edits(CONTRIBUTING) if text in section}
    assert 2 <= len(files) <= MOST_FILES[title]


def test_a_package_with_the_four_contributions_trains(tmp_path: Path) -> None:
    """The term is logged, the guardrail warns, and source and backbone can be named."""
    shutil.copytree(ROOT / "warp_train", tmp_path / "warp_train")
    apply_edits(CONTRIBUTING, tmp_path / "warp_train")
    keys = (
        "data.source=boards",
        "model.backbone=plain",
        "loss.outside_weight=0.1",
        "guardrails.min_effective_votes=1e9",
        "train.max_steps=2",
    )
    recipe = str(ROOT / "recipes/stage2_hybrid.yaml")
    trained = subprocess.run(
        [sys.executable, "-m", "warp_train", "train", recipe, "--run-name", "all", *SMALL, *keys],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        check=False,
    )
    assert trained.returncode == 0, trained.stderr
    assert "below guardrails.min_effective_votes 1e+09: raise data.size" in trained.stderr
    rows = metrics(tmp_path / "outputs/runs/all")
    assert [row["loss/outside"] >= 0 for row in rows] == [True, True]
    config = json.loads((tmp_path / "outputs/runs/all/last/config.json").read_text())
    assert config["model"]["backbone"] == "plain"
