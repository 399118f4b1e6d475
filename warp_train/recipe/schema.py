"""The typed recipe: what a YAML file may say, and how files become runs.

    recipe = load_recipe("recipes/stage1_param_only.yaml", ["train.epochs=3"])

Every section is frozen and strict. The docstring under a key is its documentation, also in the
JSON schema that editors complete keys from.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import Self

from warp_train.data.config import DataConfig
from warp_train.losses.config import LossConfig
from warp_train.models.config import ModelConfig
from warp_train.recipe.checks import conflicts
from warp_train.recipe.errors import RUN_NAME, explain, keys_of
from warp_train.recipe.loading import (
    Document,
    RecipeFile,
    folder_name,
    overrides_document,
    read_recipe_file,
)
from warp_train.recipe.sections import (
    CheckpointConfig,
    GuardrailsConfig,
    OptimConfig,
    ProxyConfig,
    SchedulerConfig,
    TrackingConfig,
    TrainConfig,
    ValidationConfig,
    WarpConfig,
)
from warp_train.recipe.yaml_io import dump_yaml
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.section import Section

Stage = Literal["stage1_param_only", "stage2_hybrid", "stage3_finetune"]
SectionT = TypeVar("SectionT", bound=Section)
RunName = Annotated[str, Field(pattern=RUN_NAME, max_length=200)]


class Recipe(Section):
    """One stage of training."""

    stage: Stage
    """What is trained: `stage1_param_only` the lens alone; `stage2_hybrid` the lens and a small
    smooth residual flow; `stage3_finetune` the same at lower rates."""
    run_name: RunName
    """Names the run's folder. Default: the recipe file's name."""
    init_from: Annotated[str, Field(min_length=1)] | None = None
    """Run folder or checkpoint folder whose weights the stage starts from; null: from scratch. In a
    chain it is for the first stage."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Fixes initial weights, sample order and every drawn sample, 0 ... 2^32 - 1."""
    output_dir: Path = Field(default=Path("outputs/runs"), validate_default=False)
    """Folder of the run folders, relative to the working directory."""
    model: ModelConfig = ModelConfig()
    """Which network, and how far its lens and residual may go."""
    loss: LossConfig = LossConfig()
    """What a good correction is: the weight of each term."""
    data: DataConfig = DataConfig()
    """Where samples come from, and at which size the network sees them."""
    optim: OptimConfig = OptimConfig()
    """The optimizer."""
    scheduler: SchedulerConfig = SchedulerConfig()
    """How the learning rate moves."""
    train: TrainConfig = TrainConfig()
    """How long, how much at once, on what."""
    validation: ValidationConfig = Field(default=ValidationConfig(), alias="validate")
    """When to validate, and which checkpoint is the best."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """When to save, and how much to keep."""
    guardrails: GuardrailsConfig = GuardrailsConfig()
    """When to warn that a run goes astray."""
    tracking: TrackingConfig = TrackingConfig()
    """W&B, TensorBoard and pictures."""
    warp: WarpConfig = WarpConfig()
    """Who applies the warp, and how pixels are read."""
    proxy: ProxyConfig = ProxyConfig()
    """The optional score of validation pictures."""

    @model_validator(mode="after")
    def _sections_fit(self) -> Self:
        for key, message in conflicts(self):
            context = {"key": key, "message": message}
            raise PydanticCustomError("recipe_key", "{message}", context)
        return self

    @property
    def run_dir(self) -> Path:
        """Folder of this run."""
        return self.output_dir / self.run_name


@dataclass(frozen=True)
class Chain:
    """Stages that are trained one after the other, each from the best weights of the one before.

    A stage's own `run_name` starts with the chain's, so that `stages` are ready to run.
    """

    run_name: str
    output_dir: Path
    stages: tuple[Recipe, ...]
    path: Path = field(compare=False)


class _ChainHeader(Section):
    """What a chain says about itself, not about its stages."""

    run_name: RunName
    output_dir: Path = Field(
        default=Recipe.model_fields["output_dir"].default, validate_default=False
    )


def load_recipe(
    path: Path | str,
    overrides: Iterable[str] = (),
    *,
    run_name: str | None = None,
    init_from: str | None = None,
) -> Recipe | Chain:
    """Reads, resolves, types and checks a recipe.

    Args:
        path: YAML file of a stage or of a chain.
        overrides: `key.sub=value` in YAML, laid over the file, or every stage of a chain.
        run_name: replaces `run_name`; a chain's own, not its stages'.
        init_from: replaces `init_from`; in a chain the first stage's.

    Raises:
        WarpTrainError: one line that names file, key, value and what is allowed.
    """
    file = read_recipe_file(Path(path))
    literals = {"run_name": run_name, "init_from": init_from}
    over = overrides_document(file.path, overrides, literals)
    if file.stages is None:
        return _recipe(file.document.under(over), folder_name(file.path.stem))
    return _chain(file, over)


def dump_recipe(recipe: Recipe | Chain) -> str:
    """YAML with every key in it, that `load_recipe` reads back as an equal recipe."""
    if isinstance(recipe, Recipe):
        return dump_yaml(_plain(recipe))
    header = {"run_name": recipe.run_name, "output_dir": str(recipe.output_dir)}
    stages = [_plain(stage) for stage in recipe.stages]
    for stage in stages:
        del stage["output_dir"]
        stage["run_name"] = stage["run_name"].removeprefix(f"{recipe.run_name}-")
    return dump_yaml({**header, "stages": stages})


def recipe_warnings(recipe: Recipe | Chain) -> list[str]:
    """One line for each thing that is allowed but seldom meant."""
    if isinstance(recipe, Chain) or recipe.stage == "stage1_param_only" or recipe.init_from:
        return []
    return [
        f"{recipe.stage} starts from scratch: `init_from` names no run of the stage before"
        " (--init-from RUN sets it)"
    ]


def recipe_schema() -> dict[str, Any]:
    """JSON schema of recipe files: a stage, a base for others (no key is required), or a chain."""
    schema = Recipe.model_json_schema()
    del schema["required"]
    properties = schema["properties"]
    properties["extends"] = {
        "type": "string",
        "description": "Another recipe, relative to this file, that this one changes.",
    }
    stage = {key: {"$ref": f"#/properties/{key}"} for key in properties}
    schema["$defs"]["Stage"] = {
        "type": "object",
        "additionalProperties": False,
        "properties": stage,
    }
    properties["stages"] = {
        "type": "array",
        "minItems": 1,
        "items": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/Stage"}]},
        "description": "Makes the recipe a chain: recipes, or their sections, in training order. "
        "Other sections beside it apply to every stage.",
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _plain(recipe: Recipe) -> dict[str, Any]:
    return recipe.model_dump(mode="json", by_alias=True)


def _recipe(document: Document, default_name: str) -> Recipe:
    named = Document({"run_name": default_name}, {(): document.origin(())}).under(document)
    return _typed(named, Recipe)


def _typed(document: Document, model: type[SectionT]) -> SectionT:
    values = _without_empty_sections(document.values, model)
    try:
        # As JSON, because strict means: a list may be a tuple and text a path, but "8" no number.
        return model.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        raise WarpTrainError(explain(error, document, model)) from error


def _without_empty_sections(values: Any, model: Any) -> Any:
    keys = keys_of(model)
    if not keys or not isinstance(values, dict):
        return values
    return {
        key: _without_empty_sections(value, keys.get(key))
        for key, value in values.items()
        if value is not None or not keys_of(keys.get(key))
    }


def _chain(file: RecipeFile, over: Document) -> Chain:
    stage_key = file.document.under(over).only("stage")
    if stage_key.values:
        raise WarpTrainError(
            f"{stage_key.origin(('stage',)).where}: stage: not allowed in a chain, whose stages"
            " each say their own"
        )
    top = file.document.under(over).only("run_name", "output_dir")
    named = Document({"run_name": folder_name(file.path.stem)}, {(): top.origin(())}).under(top)
    header = _typed(named, _ChainHeader)
    stages: list[Recipe] = []
    for number, entry in enumerate(file.stages or ()):
        not_passed_on = ("run_name",) if number == 0 else ("run_name", "init_from")
        shared, last = file.document.without(*not_passed_on), over.without(*not_passed_on)
        document = entry.base.under(shared).under(entry.own).under(last)
        stage = _recipe(document, entry.name)
        name = f"{header.run_name}-{stage.run_name}"
        if number and stage.init_from:
            raise WarpTrainError(
                f"{document.origin(('init_from',)).where}: init_from: {stage.init_from} is not"
                f" allowed in stage {number + 1} of a chain (it starts from the stage before)"
            )
        if name in [other.run_name for other in stages]:
            raise WarpTrainError(
                f"{file.path}: stages: two stages are called {stage.run_name} (set run_name)"
            )
        update = {"run_name": name, "output_dir": header.output_dir}
        stages.append(stage.model_copy(update=update))
    return Chain(header.run_name, header.output_dir, tuple(stages), file.path)
