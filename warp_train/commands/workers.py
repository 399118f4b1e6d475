"""The rule of `--workers`: how many worker processes a command may have, and has by default."""

from __future__ import annotations

from dataclasses import dataclass

from warp_train.runtime.cores import usable_cores
from warp_train.runtime.ranks import ranks


@dataclass(frozen=True)
class WorkerRule:
    """The numbers of worker processes that a command allows."""

    least: int = 0
    """0 where the command can do the work in its own process."""
    most: int = 256
    most_by_default: int = 256
    """Largest number that is chosen where the user asks for none."""

    @property
    def default(self) -> int:
        """The number for any amount of work."""
        return min(usable_cores(), self.most_by_default)


def chosen_workers(
    rule: WorkerRule, asked: int | None, items: int, items_per_worker: int = 1
) -> int:
    """The number asked for; otherwise one per usable core, as far as each has enough work.

    A single worker is replaced by the command's own process where the rule allows that. The
    processes of one launch divide the cores of their machine.

    Args:
        asked: `--workers`; None where it is not given.
        items_per_worker: starting a process takes about as long as so many items.
    """
    if asked is not None:
        return asked
    cores = max(1, usable_cores() // ranks().local_world)
    workers = min(cores, rule.default, items // items_per_worker)
    return max(workers if workers > 1 else 0, rule.least)
