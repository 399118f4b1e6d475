"""How many worker processes a command starts."""

import os

from warp_train.commands.parsers.options import MOST_WORKERS


def chosen_workers(
    asked: int | None,
    items: int,
    items_per_worker: int = 1,
    *,
    least: int = 0,
    most: int = MOST_WORKERS,
) -> int:
    """The requested number; otherwise one per usable core, as far as each has enough work.

    Args:
        asked: the value of `--workers`; None where it is not given.
        items_per_worker: starting a process takes about as long as so many items.
        least: 0 where the command can do the work in its own process, which then replaces a single
            worker.
        most: largest number that is chosen by default.
    """
    if asked is not None:
        return asked
    workers = min(usable_cores(), items // items_per_worker, most)
    return max(workers if workers > 1 else 0, least)


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
