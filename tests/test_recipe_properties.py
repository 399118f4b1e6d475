"""Whatever is valid survives a round trip; whatever is not ends in a WarpTrainError."""

import string
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from warp_train.recipe import Chain, Recipe, dump_recipe, load_recipe
from warp_train.runtime.errors import WarpTrainError

RECIPES = Path(__file__).parents[1] / "recipes"
TEXT = (RECIPES / "stage2_hybrid.yaml").read_text().replace("base.yaml", str(RECIPES / "base.yaml"))

relaxed = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

# Strings that some reader of YAML takes for something else.
TRICKY = ["off", "no", "null", "~", "1e-6", "010", "0o17", "0x1f", "1_000", "12:30", "2024-01-31"]
TRICKY += [".inf", ".nan", "true", "<<", "=", "- a", "a: b", "# x", "*a", "&a", "!a", "%", "'", '"']
text = st.one_of(
    st.sampled_from(TRICKY),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=20),
)
positive = st.floats(min_value=1e-12, max_value=1e6, exclude_min=True)

recipes = st.fixed_dictionaries(
    {
        "stage": st.just("stage2_hybrid"),
        "run_name": st.text(string.ascii_letters + string.digits, min_size=1, max_size=12),
        "init_from": st.none() | text,
        "seed": st.integers(0, 2**32 - 1),
        "output_dir": text,
        "loss": st.fixed_dictionaries({"flow_tv_weight": positive, "pixel_weight": positive}),
        "data": st.fixed_dictionaries(
            {
                "root": st.none() | text,
                "size": st.lists(st.integers(32, 512), min_size=2, max_size=2),
                "flip": st.booleans(),
            }
        ),
        "optim": st.fixed_dictionaries({"lr": positive.filter(lambda lr: lr >= 1e-6)}),
        "tracking": st.fixed_dictionaries(
            {
                "wandb": st.sampled_from(["off", "offline", "online"]),
                "project": text,
                "entity": st.none() | text,
                "tags": st.lists(text, max_size=3),
            }
        ),
        "train": st.fixed_dictionaries({"mixed_precision": st.sampled_from(["no", "bf16"])}),
    }
)


def reloaded(recipe: Recipe | Chain, folder: Path) -> Recipe | Chain:
    again = folder / "again.yaml"
    again.write_text(dump_recipe(recipe), encoding="utf-8")
    return load_recipe(again)


@relaxed
@given(values=recipes)
def test_a_dumped_recipe_loads_back_equal(values: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(values, default_style='"'), encoding="utf-8")
    recipe = load_recipe(path)
    assert isinstance(recipe, Recipe)
    assert recipe.tracking.project == values["tracking"]["project"]
    assert recipe.optim.lr == values["optim"]["lr"]
    assert recipe.init_from == values["init_from"]
    assert reloaded(recipe, tmp_path) == recipe
    # Programs that read YAML 1.1 see the same values.
    plain = yaml.safe_load(dump_recipe(recipe))
    assert plain["tracking"]["tags"] == values["tracking"]["tags"]
    assert plain["train"]["mixed_precision"] == values["train"]["mixed_precision"]


@pytest.mark.parametrize("name", ["debug_smoke", "quickstart", "three_stages", "stage3_finetune"])
def test_a_dumped_shipped_recipe_loads_back_equal(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(RECIPES / f"{name}.yaml", ["seed=3"])
    assert reloaded(recipe, tmp_path) == recipe


def is_recipe_or_complaint(path: Path, *overrides: str) -> None:
    try:
        recipe = load_recipe(path, overrides)
    except WarpTrainError as error:
        complaint = str(error)
    else:
        assert isinstance(recipe, Recipe | Chain)
        return
    assert complaint.startswith((str(path.parent), str(RECIPES)))
    assert len(complaint.splitlines()) == 1


@relaxed
@given(data=st.data())
def test_a_mutated_recipe_loads_or_is_refused_in_one_line(
    data: st.DataObject, tmp_path: Path
) -> None:
    mutated = TEXT
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(mutated)))
        stop = data.draw(st.integers(start, min(len(mutated), start + 8)))
        piece = data.draw(
            st.text(max_size=4)
            | st.sampled_from(["\n", ": ", "- ", "[", "}", "&a ", "*a", "!!int "])
        )
        mutated = mutated[:start] + piece + mutated[stop:]
    path = tmp_path / "r.yaml"
    path.write_bytes(mutated.encode("utf-8", "surrogatepass"))
    is_recipe_or_complaint(path)


@relaxed
@given(noise=st.binary(max_size=60))
def test_bytes_load_or_are_refused_in_one_line(noise: bytes, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(noise)
    is_recipe_or_complaint(path)


@relaxed
@given(key=st.sampled_from(["seed", "optim.lr", "data", "data.size", "a.b", "loss.x"]), value=text)
def test_an_override_loads_or_is_refused_in_one_line(key: str, value: str, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("stage: stage1_param_only\n")
    is_recipe_or_complaint(path, f"{key}={value}")
