"""What changes where a run is resumed: each key is applied, or has no effect, or is refused.

A resumed run trains, from its next step on, what its recipe asks for. The keys in `_SPENT` have
done their work before that step; they keep the values that the run began with, so that
`recipe.yaml` records what really ran.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from warp_train.recipe import Recipe
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.section import config_differences, flatten
from warp_train.training.checkpoints.state import RunPosition, TrainerState, read_trainer_state
from warp_train.training.disk import is_there
from warp_train.training.feeding import Data
from warp_train.weights import model_folder

_SPENT = ("init_from", "model.pretrained")
_PLACE = ("run_name", "output_dir")
_OF_VALIDATION = ("data.", "model.", "warp.", "validate.best_", "validate.max_samples")
_OF_TRAINING_ALONE = (
    "data.cache_dir",
    "data.cache_gb",
    "data.workers",
    "data.train_samples",
    "data.flip",
    "data.photometric",
    "data.max_bad_fraction",
    "model.pretrained",
)
_OF_METRICS = {"loss/": "loss.", "proxy/": "proxy.", "warp_safety": "guardrails.safety."}
"""Sections that only metrics of these names depend on."""


def as_resumed(recipe: Recipe, checkpoint: Path, run_dir: Path) -> Recipe:
    """The recipe that a run follows after `checkpoint`: with the folder that it stays in, and the
    values that the keys without an effect had at its start.

    Raises:
        WarpTrainError: the checkpoint is of another stage.
    """
    state = read_trainer_state(checkpoint)
    if state.stage != recipe.stage:
        raise WarpTrainError(
            f"{checkpoint}: a checkpoint of {state.stage} cannot be resumed as {recipe.stage}: "
            "start from its weights instead (init_from)"
        )
    if not _is_folder_of(recipe, run_dir):
        place = {"run_name": run_dir.name, "output_dir": run_dir.parent}
        recipe = recipe.model_copy(update=place)
    before = recorded_recipe(state)
    if before is None:
        return recipe
    model = recipe.model.model_copy(update={"pretrained": before.model.pretrained})
    start = recipe.init_from if _moved(before, recipe) else before.init_from
    return recipe.model_copy(update={"model": model, "init_from": start})


def describe_changes(asked: Recipe, resumed: Recipe, checkpoint: Path) -> Iterator[str]:
    """One line for each key that differs: what it was, what it is, and whether that has an effect.

    Args:
        asked: the recipe as given.
        resumed: what `as_resumed` made of it.
    """
    state = read_trainer_state(checkpoint)
    before, given, now = _recorded(state), _plain(asked), _plain(resumed)
    for key in _SPENT:
        for difference in config_differences(_only(now, key), _only(given, key)):
            yield f"{difference} has no effect: the run goes on from its own weights"
    for key in _PLACE:
        if given[key] != now[key]:
            yield f"{key}: {given[key]} has no effect: the run stays in {resumed.run_dir}"
    hidden = {key: now[key] for key in _PLACE}
    for difference in config_differences({**before, **hidden}, now):
        yield f"changed since the checkpoint: {difference}"
    if before.get("seed") != now["seed"]:
        yield (
            f"the samples come in the order of seed {now['seed']} from step {state.step} on: some "
            "may come again in this epoch or not at all"
        )


def may_be_longer(recipe: Recipe, checkpoint: Path) -> bool:
    """Whether a stage that has ended with `checkpoint` may have steps left to do by this recipe."""
    before = recorded_recipe(read_trainer_state(checkpoint))
    if before is None:
        return True
    limits = [
        (math.inf if value is None else value)
        for old in (before, recipe)
        for value in (old.train.epochs, old.train.max_steps, old.validation.patience)
    ]
    return any(now > old for old, now in zip(limits[:3], limits[3:], strict=True))


def as_ended(recipe: Recipe, checkpoint: Path) -> Recipe:
    """The recipe that a finished stage has followed, under the names that `recipe` gives it."""
    before = recorded_recipe(read_trainer_state(checkpoint))
    if before is None:
        return recipe
    names = ("run_name", "output_dir", "init_from")
    return before.model_copy(update={name: getattr(recipe, name) for name in names})


def differences(before: Recipe, now: Recipe) -> list[str]:
    """Keys in which two recipes differ, as `train.max_steps: 100 -> 200`."""
    return config_differences(_plain(before), _plain(now))


def measured_now(recipe: Recipe, data: Data) -> str:
    """Identifies what a validation measures, and on which samples. Values of runs in which it
    differs compare with each other no more than those of two data sets do."""
    metric = recipe.validation.best_metric
    if metric == "auto":
        metric = "epe_px" if data.warps_known else "loss/total"
    sections = [section for name, section in _OF_METRICS.items() if metric.startswith(name)]
    keys = {
        key: value
        for key, value in flatten(_plain(recipe)).items()
        if key.startswith((*_OF_VALIDATION, *sections)) and key not in _OF_TRAINING_ALONE
    }
    text = json.dumps([keys, data.val_listing], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def recorded_recipe(state: RunPosition) -> Recipe | None:
    """The recipe in a checkpoint, with the defaults of keys that later versions have added; None
    where it has a key or a value that this version does not have."""
    try:
        return Recipe.model_validate_json(json.dumps(state.recipe))
    except ValidationError:
        return None


def saved_rate(state: TrainerState) -> float | None:
    """The learning rate of the step after a checkpoint, as its own recipe set it."""
    rates = state.scheduler.get("_last_lr")
    rate = rates[0] if isinstance(rates, list) and rates else None
    return rate if isinstance(rate, float) else None


def _recorded(state: RunPosition) -> Mapping[str, Any]:
    recipe = recorded_recipe(state)
    return state.recipe if recipe is None else _plain(recipe)


def _is_folder_of(recipe: Recipe, run_dir: Path) -> bool:
    """Whether a run of this recipe may have got the folder: its name, or with a number behind."""
    name, _, number = run_dir.name.rpartition("-")
    named = recipe.run_name in (run_dir.name, name if number.isdigit() else run_dir.name)
    return named and recipe.output_dir.resolve() == run_dir.parent.resolve()


def _moved(before: Recipe, now: Recipe) -> bool:
    """Whether both start from the same run, which lies elsewhere by now, as in a moved chain."""
    old, new = before.init_from, now.init_from
    if old is None or new is None or Path(old).name != Path(new).name:
        return False
    return not is_there(model_folder(old))


def _only(recipe: Mapping[str, Any], dotted: str) -> dict[str, Any]:
    section, _, key = dotted.partition(".")
    return {section: {key: recipe[section][key]} if key else recipe[section]}


def _plain(recipe: Recipe) -> dict[str, Any]:
    return recipe.model_dump(mode="json", by_alias=True)
