"""The typed recipe: every section is frozen and strict.

The docstring under a key is its documentation, also in the JSON schema that editors complete keys
from.
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
    """Stages that are trained one after the other, each from the best weights of the one before.

    A stage's own `run_name` starts with the chain's, so that `stages` are ready to run.
    """

    run_name: str
    output_dir: Path
    stages: tuple[Recipe, ...]
    path: Path = field(compare=False)


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
