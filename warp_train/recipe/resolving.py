"""Recipe files and overrides become typed recipes, and recipes become YAML.

recipe = load_recipe("recipes/stage1_param_only.yaml", ["train.epochs=3"])
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError

from warp_train.recipe.errors import explain, keys_of
from warp_train.recipe.loading import (
    Document,
    RecipeFile,
    folder_name,
    overrides_document,
    read_recipe_file,
)
from warp_train.recipe.schema import Chain, Recipe, RunName
from warp_train.recipe.yaml_io import dump_yaml
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.section import Section

SectionT = TypeVar("SectionT", bound=Section)


class _ChainHeader(Section):
    """The keys of a chain that are not for its stages."""

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
    """Reads, resolves and validates a recipe.

    Args:
        path: YAML file of a stage or of a chain.
        overrides: `key.sub=value` in YAML; they replace values of the file, for a chain in every
            stage.
        run_name: replaces `run_name`; for a chain, the chain's and not its stages'.
        init_from: replaces `init_from`; for a chain, that of the first stage.

    Raises:
        WarpTrainError: one line that names the file, the key, the value and the allowed values.
    """
    file = read_recipe_file(Path(path))
    literals = {"run_name": run_name, "init_from": init_from}
    over = overrides_document(file.path, overrides, literals)
    if file.stages is None:
        return _recipe(file.document.under(over), folder_name(file.path.stem))
    return _chain(file, over)


def dump_recipe(recipe: Recipe | Chain) -> str:
    """YAML that contains every key; `load_recipe` returns an equal recipe for it."""
    if isinstance(recipe, Recipe):
        return dump_yaml(_plain(recipe))
    header = {"run_name": recipe.run_name, "output_dir": str(recipe.output_dir)}
    stages = [_plain(stage) for stage in recipe.stages]
    for stage in stages:
        del stage["output_dir"]
        stage["run_name"] = stage["run_name"].removeprefix(f"{recipe.run_name}-")
    return dump_yaml({**header, "stages": stages})


def _plain(recipe: Recipe) -> dict[str, Any]:
    return recipe.model_dump(mode="json", by_alias=True)


def _recipe(document: Document, default_name: str) -> Recipe:
    named = Document({"run_name": default_name}, {(): document.origin(())}).under(document)
    return _typed(named, Recipe)


def _typed(document: Document, model: type[SectionT]) -> SectionT:
    values = _without_empty_sections(document.values, model)
    try:
        # Pydantic's strict mode converts JSON lists to tuples and text to paths, but not "8" to 8.
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
            f"{stage_key.origin(('stage',)).where}: stage: not allowed in a chain (set it in each"
            " of its stages)"
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
                f" allowed in stage {number + 1} of a chain (it starts from the previous stage)"
            )
        if name in [other.run_name for other in stages]:
            raise WarpTrainError(
                f"{file.path}: stages: two stages have the run_name {stage.run_name} (set another"
                " in one of them)"
            )
        update = {"run_name": name, "output_dir": header.output_dir}
        stages.append(stage.model_copy(update=update))
    return Chain(header.run_name, header.output_dir, tuple(stages), file.path)
