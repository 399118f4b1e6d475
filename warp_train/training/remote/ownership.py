"""Whose run a folder elsewhere is: no run replaces another one's copy."""

import json
from contextlib import suppress
from pathlib import Path

from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.urls import Remote
from warp_train.training.checkpoints.folder import newest_checkpoint
from warp_train.training.checkpoints.state import STATE_FILE, read_trainer_state
from warp_train.training.remote.places import KEY, open_place, pointers, read


def run_elsewhere(push_to: str | None, name: str) -> str | None:
    """The URL of the run called `name` at a place; None if it has none, or cannot be read now.

    What a run has left that was killed before its first checkpoint was copied is no run.
    """
    if push_to is None:
        return None
    # The place was tried out at the start; a later failure must not end a chain of stages.
    with suppress(Exception):
        run = open_place(push_to) / name
        return run.url if pointers(run) else None
    return None


def require_not_elsewhere(push_to: str | None, run_dir: Path) -> None:
    """Raises WarpTrainError if a run of this name lies at a place and not here: an automatic resume
    would begin another one."""
    there = run_elsewhere(push_to, run_dir.name)
    if there is not None:
        raise WarpTrainError(
            f"{there}: holds a run that is not in {run_dir.parent}: resume from {push_to} to "
            "continue it"
        )


def newest_state(run: Remote) -> tuple[int, str | None] | None:
    """Step and id of the newest checkpoint that a run elsewhere points at; None if it has none."""
    states = [read(run / target / STATE_FILE) for target in {*pointers(run).values()}]
    found = [json.loads(state) for state in states if state]
    return max(((int(x["step"]), x.get("wandb_run_id")) for x in found), default=None)


def require_ours(push_to: str | None, run_dir: Path) -> None:
    """Makes sure that the copy of an earlier run may be continued from its folder here.

    Raises:
        WarpTrainError: another run lies there, or the same run has gone further elsewhere.
    """
    newest = newest_checkpoint(run_dir)
    if push_to is None or newest is None:
        return
    state, there, copy = read_trainer_state(newest), None, ""
    with suppress(Exception):  # see `run_elsewhere`
        run = open_place(push_to) / run_dir.resolve().name
        there, copy = newest_state(run), run.url
    if there is None:
        return
    step, identity = there
    if identity != state.wandb_run_id:
        raise WarpTrainError(
            f"{KEY}: {copy} holds another run than {run_dir}: push to another place, or rename one"
        )
    if step > state.step:
        raise WarpTrainError(
            f"{KEY}: {copy} has gone on to step {step}, {run_dir} only to {state.step}: resume "
            f"from {push_to}"
        )
