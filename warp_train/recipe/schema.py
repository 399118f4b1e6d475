"""The typed recipe: every section is frozen and strict.

The docstring under a key is its documentation. It is also part of the JSON schema, from which
editors complete keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import Self

from warp_train.data.config import DataConfig
from warp_train.losses.config import LossConfig
from warp_train.models.config import ModelConfig
from warp_train.recipe.checks import Stage, conflicts
from warp_train.recipe.errors import RUN_NAME
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
from warp_train.runtime.section import Section

RunName = Annotated[str, Field(pattern=RUN_NAME, max_length=200)]


class Recipe(Section):
    """One stage of training."""

    stage: Stage
    """What is trained. `stage1_param_only`: the lens alone; `stage2_hybrid`: the lens and a small
    smooth residual flow; `stage3_finetune`: the same, usually at lower learning rates."""
    run_name: RunName
    """Name of the run's folder. Default: the recipe file's name."""
    init_from: Annotated[str, Field(min_length=1)] | None = None
    """`tiny`, which comes with the package, or a run folder or checkpoint folder with the initial
    weights; null: the stage starts from scratch. In a chain, it applies to the first stage."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Determines the initial weights, the sample order and every random choice about a sample,
    0 ... 2^32 - 1."""
    output_dir: Path = Field(default=Path("outputs/runs"), validate_default=False)
    """Parent folder of the run folders, relative to the working directory."""
    model: ModelConfig = ModelConfig()
    """The network, and the bounds of its lens and residual flow."""
    loss: LossConfig = LossConfig()
    """The weight of each term of the loss."""
    data: DataConfig = DataConfig()
    """The source of the samples, and the size of the training frames."""
    optim: OptimConfig = OptimConfig()
    """The optimizer."""
    scheduler: SchedulerConfig = SchedulerConfig()
    """The learning-rate schedule."""
    train: TrainConfig = TrainConfig()
    """Duration, batch size, precision and device of training."""
    validation: ValidationConfig = Field(default=ValidationConfig(), alias="validate")
    """When to validate, and which checkpoint is the best."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """When to save, and how many checkpoints to keep."""
    guardrails: GuardrailsConfig = GuardrailsConfig()
    """Limits beyond which a run prints warnings."""
    tracking: TrackingConfig = TrackingConfig()
    """W&B, TensorBoard and pictures."""
    warp: WarpConfig = WarpConfig()
    """The implementation of the warp, and how pixels are read."""
    proxy: ProxyConfig = ProxyConfig()
    """The optional score of validation pictures."""

    @model_validator(mode="after")
    def _sections_fit(self) -> Self:
        for key, message in conflicts(
            self.stage, self.model, self.loss, self.optim, self.scheduler, self.validation
        ):
            context = {"key": key, "message": message}
            raise PydanticCustomError("recipe_key", "{message}", context)
        return self

    @property
    def run_dir(self) -> Path:
        """Folder of this run."""
        return self.output_dir / self.run_name


@dataclass(frozen=True)
class Chain:
    """Stages that are trained in order, each from the best weights of the previous one.

    In `stages`, each stage's `run_name` already starts with the chain's.
    """

    run_name: str
    output_dir: Path
    stages: tuple[Recipe, ...]
    path: Path = field(compare=False)
    """The recipe file of the chain."""


def recipe_warnings(recipe: Recipe | Chain) -> list[str]:
    """One line for each setting that is allowed but probably a mistake."""
    if isinstance(recipe, Chain) or recipe.stage == "stage1_param_only" or recipe.init_from:
        return []
    return [
        f"{recipe.stage} starts from scratch; set `init_from` to a run of the previous stage to"
        " start from its weights"
    ]


def recipe_schema() -> dict[str, Any]:
    """JSON schema of recipe files: a stage, a base for others (no key is required), or a chain."""
    schema = Recipe.model_json_schema()
    del schema["required"]
    properties = schema["properties"]
    properties["extends"] = {
        "type": "string",
        "description": "Path, relative to this file, of the recipe that this one is based on.",
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
        "description": "Makes the recipe a chain: paths of recipes, or their contents, in training "
        "order. The recipe's other sections apply to every stage.",
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
