"""The W&B run that the environment names, as the agent of a sweep does for each combination."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from warp_train.recipe.sections import TrackingConfig
from warp_train.runtime.errors import WarpTrainError
from warp_train.training.checkpoints.state import WANDB_RUN_ID

_RUN_ID = "WANDB_RUN_ID"
_OF_THE_RUN = (_RUN_ID, "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH")


def given_run_id(tracking: TrackingConfig) -> str | None:
    """The id in `WANDB_RUN_ID`; None where it is not set or W&B is off.

    Raises:
        WarpTrainError: a checkpoint could not hold the id.
    """
    given = os.environ.get(_RUN_ID)
    if not (tracking.uses_wandb and given):
        return None
    if not re.fullmatch(WANDB_RUN_ID, given):
        raise WarpTrainError(
            f"{_RUN_ID}: '{given}' is not allowed (1 to 64 letters, digits, '_' and '-')"
        )
    return given


@contextmanager
def environment_for(run_id: str) -> Iterator[None]:
    """The environment in which W&B opens the run `run_id`.

    In a sweep, W&B prefers the id in the environment to that in its arguments. While another run
    is opened, an earlier stage of a chain, the run of the environment and its sweep are hidden.
    """
    if not os.environ.get(_RUN_ID):
        yield
        return
    if "wandb" in sys.modules:  # W&B reads the environment once, for the first run of a process
        sys.modules["wandb"].teardown()
    hidden = () if os.environ[_RUN_ID] == run_id else _OF_THE_RUN
    saved = {name: os.environ.pop(name) for name in hidden if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(saved)
