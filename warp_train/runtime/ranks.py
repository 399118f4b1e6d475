"""This process among those that `accelerate launch`, `torchrun` or `srun` started together."""

from __future__ import annotations

import os
from dataclasses import dataclass

from warp_train.runtime.errors import WarpTrainError


@dataclass(frozen=True)
class Ranks:
    """The place of this process in its launch."""

    rank: int = 0
    """0..world - 1."""
    world: int = 1
    """Number of processes on all machines."""
    local_rank: int = 0
    """Among the processes of this machine."""
    local_world: int = 1
    """Number of processes on this machine."""


def ranks() -> Ranks:
    """As the launcher has set RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE.

    A process with only one of RANK and WORLD_SIZE is alone.

    Raises:
        WarpTrainError: they are not the numbers of a launch.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    given = {name: os.environ[name] for name in names if name in os.environ}
    if not {"RANK", "WORLD_SIZE"} <= given.keys():
        return Ranks()
    try:
        number = {name: int(value) for name, value in given.items()}
    except ValueError:
        number = {"RANK": -1, "WORLD_SIZE": 0}
    found = Ranks(
        number["RANK"],
        number["WORLD_SIZE"],
        number.get("LOCAL_RANK", 0),
        number.get("LOCAL_WORLD_SIZE", 1),
    )
    if not (0 <= found.rank < found.world and found.local_rank >= 0 and found.local_world >= 1):
        values = ", ".join(f"{name}={value}" for name, value in given.items())
        raise WarpTrainError(f"{values}: these variables are not those of a launcher; unset them")
    return found
