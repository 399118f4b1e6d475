"""Resuming from a URL: which run is meant, and where it lies here once it is fetched."""

from pathlib import Path

from warp_train.models.pretrained import MODEL_FILE
from warp_train.recipe import Chain, Recipe
from warp_train.runtime.console import rank, tell
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.urls import Remote, is_url, reason
from warp_train.training.checkpoints.folder import newest_checkpoint
from warp_train.training.checkpoints.links import LINKS
from warp_train.training.remote.fetching import fetch_files, fetch_run
from warp_train.training.remote.places import is_same, names, open_place, pointers
from warp_train.training.run_folder import RECIPE_FILE, latest_first, run_folders


def is_elsewhere(recipe: Recipe | Chain, resume_from: str | None) -> bool:
    """Whether `resume_from` is a URL, or the hub id that the recipe pushes to."""
    if resume_from is None:
        return False
    return is_url(resume_from) or resume_from in _push_to(recipe)


def fetched(recipe: Recipe | Chain, resume_from: str) -> str | None:
    """Fetches the run that a URL names, and returns what to resume here: `auto` or a folder.

    The URL is that of a run, of one of its checkpoints, or of a place where runs of this name lie,
    such as the recipe's `checkpoint.push_to`: the latest of them then. If none lies at the recipe's
    own place yet, the run begins. Rank 0 fetches, before any process group exists; None on all
    others, which learn from it where the run goes on.

    Raises:
        WarpTrainError: there is no such run, it is damaged, or the place cannot be read.
    """
    if rank() != 0:
        return None
    try:
        return _fetch(recipe, open_place(resume_from), resume_from)
    except WarpTrainError:
        raise
    except Exception as error:  # a file system may raise anything
        raise WarpTrainError(f"{resume_from}: cannot be fetched ({reason(error)})") from error


def _push_to(recipe: Recipe | Chain) -> set[str | None]:
    stages = recipe.stages if isinstance(recipe, Chain) else (recipe,)
    return {stage.checkpoint.push_to for stage in stages}


def _fetch(recipe: Recipe | Chain, place: Remote, text: str) -> str:
    found = _fetch_chain(recipe, place) if isinstance(recipe, Chain) else _fetch_run(recipe, place)
    if found is not None:
        return found
    own = (open_place(push_to) for push_to in _push_to(recipe) if push_to)
    if not any(is_same(place, other) for other in own):
        raise WarpTrainError(
            f"{text}: neither a run nor a checkpoint, and no run named {recipe.run_name} lies there"
        )
    tell(f"{text}: no run named {recipe.run_name} lies there yet")
    return "auto"


def _fetch_run(recipe: Recipe, place: Remote) -> str | None:
    """The folder or checkpoint to resume here; None if there is nothing."""
    run, checkpoint = _named(place)
    if run is None:
        name = next(
            (n for n in latest_first(names(place), recipe.run_name) if pointers(place / n)), None
        )
        if name is None:
            return None
        run = place / name
        here = [f for f in run_folders(recipe.output_dir, recipe.run_name) if newest_checkpoint(f)]
        if later := _later(here, name, recipe.run_name):
            return _kept(later, run)
    run_dir = recipe.output_dir / run.name
    fetch_run(run, run_dir)
    return str(run_dir / checkpoint)


def _named(place: Remote) -> tuple[Remote | None, str]:
    """The run that a URL names itself, and the checkpoint in it, or `.` for the newest."""
    if MODEL_FILE in names(place) and place.parent.name == "checkpoints":
        return place.parent.parent, f"checkpoints/{place.name}"
    if pointers(place):
        return place, "."
    if place.name in LINKS and place.name in pointers(place.parent):
        return place.parent, place.name
    return None, "."


def _fetch_chain(chain: Chain, place: Remote) -> str | None:
    """`auto`; None if there is nothing."""
    if latest_first([place.name], chain.run_name) and RECIPE_FILE in names(place):
        place, found = place.parent, [place.name]  # the folder of the chain itself
    else:
        found = latest_first(names(place), chain.run_name)
    name = next((name for name in found if RECIPE_FILE in names(place / name)), None)
    if name is None:
        return None
    folders = run_folders(chain.output_dir, chain.run_name)
    here = [folder for folder in folders if (folder / RECIPE_FILE).exists()]
    if later := _later(here, name, chain.run_name):
        _kept(later, place / name)
        return "auto"
    for stage in chain.stages:
        stage_name = name + stage.run_name.removeprefix(chain.run_name)
        if pointers(place / stage_name):
            fetch_run(place / stage_name, stage.output_dir / stage_name)
    fetch_files(place / name, chain.output_dir / name)
    return "auto"


def _later(here: list[Path], name: str, run_name: str) -> Path | None:
    """The latest run here, if it has a higher number than that elsewhere."""
    latest = latest_first([name, *(folder.name for folder in here)], run_name)[0]
    return next((folder for folder in here if folder.name == latest != name), None)


def _kept(later: Path, run: Remote) -> str:
    tell(f"{later} is later than {run.url}: nothing is fetched")
    return str(later)
