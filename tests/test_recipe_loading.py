"""Which value wins, how scalars read, and what a chain is made of."""

from pathlib import Path

import pytest

from warp_train.recipe import Chain, Recipe, load_recipe, recipe_warnings
from warp_train.runtime.errors import WarpTrainError

STAGE1 = "stage: stage1_param_only\n"
STAGE2 = "stage: stage2_hybrid\nloss: {flow_tv_weight: 0.05}\n"


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)


def stage(path: Path, *overrides: str) -> Recipe:
    recipe = load_recipe(path, overrides)
    assert isinstance(recipe, Recipe)
    return recipe


def chain(path: Path, *overrides: str) -> Chain:
    recipe = load_recipe(path, overrides)
    assert isinstance(recipe, Chain)
    return recipe


def test_extends_merges_section_by_section(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path, base="seed: 5\noptim: {lr: 1e-3, eps: 1e-6}\ndata: {size: [64, 96]}\n")
    write(tmp_path / "sub", mid="extends: ../base.yaml\noptim: {lr: 2e-3}\n")
    write(tmp_path, top="extends: sub/mid.yaml\ndata: {size: [32, 32]}\n" + STAGE1)
    recipe = stage(tmp_path / "top.yaml")
    assert (recipe.seed, recipe.optim.lr, recipe.optim.eps) == (5, 2e-3, 1e-6)
    assert recipe.data.size == (32, 32)


def test_the_command_line_wins_and_its_last_word_counts(tmp_path: Path) -> None:
    write(tmp_path, r=STAGE1 + "train: {epochs: 2, batch_size: 4}\n")
    recipe = stage(tmp_path / "r.yaml", "train.epochs=3", "train={epochs: 5}", "train.epochs=7")
    assert (recipe.train.epochs, recipe.train.batch_size) == (7, 4)


def test_override_values_are_yaml(tmp_path: Path) -> None:
    write(tmp_path, r=STAGE1)
    recipe = stage(
        tmp_path / "r.yaml",
        "data.size=[96, 128]",
        "train.grad_clip=null",
        "optim.lr=1e-4",
        "tracking.tags=[a, b=c]",
        "data.flip=false",
        "data.root=a/b c",
    )
    assert recipe.data.size == (96, 128)
    assert recipe.train.grad_clip is None
    assert recipe.optim.lr == 0.0001
    assert recipe.tracking.tags == ("a", "b=c")
    assert recipe.data.flip is False
    assert recipe.data.root == Path("a/b c")


@pytest.mark.parametrize(
    ("written", "expected"),
    [("2e-4", 2e-4), ("1E-4", 1e-4), (".5", 0.5), ("3", 3.0), ("+1.5e+0", 1.5), ("010", 10.0)],
)
def test_numbers_read_as_they_look(tmp_path: Path, written: str, expected: float) -> None:
    write(tmp_path, r=STAGE1 + f"optim: {{lr: {written}}}\n")
    assert stage(tmp_path / "r.yaml").optim.lr == expected


@pytest.mark.parametrize("name", ["off", "no", "2024-01-31", "y", "1e", "12_30"])
def test_words_stay_words(tmp_path: Path, name: str) -> None:
    write(tmp_path, r=STAGE1 + f"run_name: {name}\n")
    assert stage(tmp_path / "r.yaml").run_name == name


@pytest.mark.parametrize(
    ("written", "mode"),
    [("off", "off"), ("false", "off"), ("on", "online"), ("true", "online"), ("offline",) * 2],
)
def test_wandb_takes_what_yaml_1_1_makes_of_off_and_on(
    tmp_path: Path, written: str, mode: str
) -> None:
    write(tmp_path, r=STAGE1 + f"tracking: {{wandb: {written}}}\n")
    assert stage(tmp_path / "r.yaml").tracking.wandb == mode


def test_mixed_precision_no_is_a_word(tmp_path: Path) -> None:
    write(tmp_path, r=STAGE1 + "train: {mixed_precision: no}\n")
    assert stage(tmp_path / "r.yaml").train.mixed_precision == "no"


def test_an_empty_section_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, base="optim: {lr: 1e-3}\n", r=STAGE1 + "extends: base.yaml\noptim:\ntrain:\n")
    recipe = stage(tmp_path / "r.yaml")
    assert recipe.optim.lr == 1e-3
    assert recipe.train == stage(tmp_path / "r.yaml", "seed=0").train


def test_null_takes_back_what_a_base_set(tmp_path: Path) -> None:
    write(tmp_path, base="init_from: x\n", r=STAGE1 + "extends: base.yaml\ninit_from: null\n")
    assert stage(tmp_path / "r.yaml").init_from is None


def test_anchors_are_expanded(tmp_path: Path) -> None:
    write(tmp_path, r=STAGE1 + "optim: {lr: &rate 1e-3}\nscheduler: {min_lr: *rate}\n")
    assert stage(tmp_path / "r.yaml").scheduler.min_lr == 1e-3


def test_a_run_is_called_like_its_file_unless_it_says_otherwise(tmp_path: Path) -> None:
    (tmp_path / "my run (2).yaml").write_text(STAGE1)
    recipe = stage(tmp_path / "my run (2).yaml")
    assert recipe.run_name == "my-run-2"
    assert recipe.run_dir == Path("outputs/runs/my-run-2")
    write(tmp_path, base="run_name: base\n" + STAGE1, r="extends: base.yaml\n")
    assert stage(tmp_path / "r.yaml").run_name == "base"
    named = load_recipe(tmp_path / "r.yaml", ["run_name=b"], run_name="007", init_from="1")
    assert isinstance(named, Recipe)
    assert (named.run_name, named.init_from) == ("007", "1")


def test_the_stem_of_an_extended_file_is_not_inherited(tmp_path: Path) -> None:
    write(tmp_path, base=STAGE1, mine="extends: base.yaml\n")
    assert stage(tmp_path / "mine.yaml").run_name == "mine"


def test_chain_precedence(tmp_path: Path) -> None:
    write(tmp_path, one=STAGE1 + "seed: 1\noptim: {lr: 1e-1, eps: 1e-1, weight_decay: 0.1}\n")
    write(
        tmp_path,
        c="seed: 2\noptim: {lr: 2e-2, eps: 2e-2}\nstages:\n"
        "- one.yaml\n"
        "- extends: one.yaml\n  run_name: again\n  optim: {lr: 3e-3}\n",
    )
    first, second = chain(tmp_path / "c.yaml").stages
    assert (first.seed, first.optim.lr, first.optim.weight_decay) == (2, 2e-2, 0.1)
    assert (second.optim.lr, second.optim.eps, second.optim.weight_decay) == (3e-3, 2e-2, 0.1)
    first, second = chain(tmp_path / "c.yaml", "optim.lr=4e-4").stages
    assert first.optim.lr == second.optim.lr == 4e-4
    assert second.optim.eps == 2e-2


def test_chain_names_folders_and_starts(tmp_path: Path) -> None:
    write(tmp_path, one=STAGE1, two=STAGE2)
    write(tmp_path, c="init_from: x\noutput_dir: out\nstages: [one.yaml, two.yaml]\n")
    made = load_recipe(tmp_path / "c.yaml", ["seed=4"], run_name="night", init_from="y")
    assert isinstance(made, Chain)
    assert [stage.run_name for stage in made.stages] == ["night-one", "night-two"]
    assert [stage.run_dir for stage in made.stages] == [
        Path("out/night-one"),
        Path("out/night-two"),
    ]
    assert [stage.init_from for stage in made.stages] == ["y", None]
    assert (made.run_name, made.output_dir, made.path) == (
        "night",
        Path("out"),
        tmp_path / "c.yaml",
    )
    assert chain(tmp_path / "c.yaml", "run_name=day").stages[1].run_name == "day-two"


def test_a_chain_can_extend_a_chain_of_another_folder(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    write(tmp_path / "recipes", one=STAGE1, two=STAGE2, c="stages: [one.yaml, two.yaml]\n")
    write(tmp_path, mine="extends: recipes/c.yaml\ndata: {source: pairs, root: photos}\n")
    made = chain(tmp_path / "mine.yaml")
    assert [stage.run_name for stage in made.stages] == ["mine-one", "mine-two"]
    assert {stage.data.root for stage in made.stages} == {Path("photos")}


def test_a_stage_can_be_written_in_the_chain(tmp_path: Path) -> None:
    write(tmp_path, c="stages:\n- stage: stage1_param_only\n  seed: 9\n")
    (only,) = chain(tmp_path / "c.yaml").stages
    assert (only.run_name, only.seed) == ("c-stage1_param_only", 9)


def test_a_later_stage_from_scratch_is_a_warning_outside_a_chain(tmp_path: Path) -> None:
    write(tmp_path, one=STAGE1, two=STAGE2, c="stages: [one.yaml, two.yaml]\n")
    (warning,) = recipe_warnings(load_recipe(tmp_path / "two.yaml"))
    assert "stage2_hybrid" in warning
    assert "init_from" in warning
    assert recipe_warnings(load_recipe(tmp_path / "two.yaml", init_from="x")) == []
    assert recipe_warnings(load_recipe(tmp_path / "one.yaml")) == []
    assert recipe_warnings(load_recipe(tmp_path / "c.yaml")) == []


def test_recipes_cannot_be_changed(tmp_path: Path) -> None:
    write(tmp_path, r=STAGE1)
    with pytest.raises(ValueError, match="frozen"):
        stage(tmp_path / "r.yaml").seed = 3


@pytest.mark.parametrize(
    ("mode", "metric", "higher"),
    [
        ("auto", "epe_px", False),
        ("auto", "loss/total", False),
        ("auto", "warp_negative_det_pct", False),
        ("auto", "proxy/total_score", True),
        ("auto", "warp_det_min", True),
        ("max", "epe_px", True),
        ("min", "proxy/total_score", False),
    ],
)
def test_direction_of_the_best_metric(tmp_path: Path, mode: str, metric: str, higher: bool) -> None:
    write(tmp_path, r=STAGE1)
    recipe = stage(tmp_path / "r.yaml", f"validate.best_mode={mode}")
    assert recipe.validation.higher_is_better(metric) is higher


def test_errors_are_warp_train_errors_in_python_too(tmp_path: Path) -> None:
    with pytest.raises(WarpTrainError, match="no such file"):
        load_recipe(tmp_path / "none.yaml")
