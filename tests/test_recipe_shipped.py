"""The recipes and launch files in the repository."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from warp_train.recipe import Chain, Recipe, dump_recipe, load_recipe, recipe_schema

RECIPES = Path(__file__).parents[1] / "recipes"
FILES = sorted(RECIPES.glob("*.yaml"))
RUNNABLE = [path for path in FILES if path.stem != "base"]
COMMITTED = json.loads((RECIPES / "recipe.schema.json").read_text())


def schema_errors(values: Any) -> list[str]:
    return [
        error.message for error in jsonschema.Draft202012Validator(COMMITTED).iter_errors(values)
    ]


def with_floats(path: Path) -> Any:
    """The file as YAML 1.2 reads it, by way of a reader of 1.1 and JSON's floats."""
    values = yaml.safe_load(path.read_text())
    return json.loads(json.dumps(values), object_hook=_floats)


def _floats(mapping: dict[str, Any]) -> dict[str, Any]:
    rates = ("lr", "residual_lr", "min_lr")
    return {key: float(v) if key in rates else v for key, v in mapping.items()}


def test_the_committed_schema_is_up_to_date() -> None:
    assert recipe_schema() == COMMITTED, "run: warp-train schema --out recipes/recipe.schema.json"


def test_the_schema_is_a_schema_and_documents_every_key() -> None:
    jsonschema.Draft202012Validator.check_schema(COMMITTED)
    definitions = COMMITTED["$defs"]
    sections = [COMMITTED, *(d for name, d in definitions.items() if name != "Stage")]
    keys = [(key, value) for section in sections for key, value in section["properties"].items()]
    assert len(keys) > 90
    for key, value in keys:
        section_of_key = definitions.get(value.get("$ref", "").removeprefix("#/$defs/"), {})
        assert "description" in {**section_of_key, **value}, key


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_shipped_recipes_fit_the_schema(path: Path) -> None:
    assert schema_errors(with_floats(path)) == []
    assert path.read_text().startswith("# yaml-language-server: $schema=recipe.schema.json\n")


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda path: path.stem)
def test_shipped_recipes_load_without_data_and_resolve_within_the_schema(path: Path) -> None:
    recipe = load_recipe(path)
    stages = recipe.stages if isinstance(recipe, Chain) else (recipe,)
    source = path.stem if path.stem in ("photos", "pairs") else "scenes"
    assert {stage.data.source for stage in stages} == {source}
    assert {stage.model.backbone for stage in stages} == {"tiny"}
    assert schema_errors(yaml.safe_load(dump_recipe(recipe))) == []


@pytest.mark.parametrize(
    "values",
    [
        {"optim": {"lrr": 1}},
        {"stages": []},
        {"stages": [{"stage": "stage9"}]},
        {"train": {"epochs": 0}},
        {"guardrails": {"safety": {"max_oob": 1}}},
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(values: Any) -> None:
    assert schema_errors(values)


def test_the_chain_runs_the_three_stages_in_order() -> None:
    chain = load_recipe(RECIPES / "three_stages.yaml", ["data.source=pairs", "data.root=photos"])
    assert isinstance(chain, Chain)
    assert [stage.stage for stage in chain.stages] == [
        "stage1_param_only",
        "stage2_hybrid",
        "stage3_finetune",
    ]
    rates = [stage.optim.lr for stage in chain.stages]
    assert rates == sorted(rates, reverse=True)
    alone = load_recipe(RECIPES / "stage2_hybrid.yaml")
    assert isinstance(alone, Recipe)
    assert chain.stages[1].loss == alone.loss
