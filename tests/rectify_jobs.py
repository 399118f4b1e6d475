"""Work for worker processes: light to import, since each test starts some."""

import os
import signal
import sys
import time
from collections.abc import Callable

from warp_train.runtime.errors import WarpTrainError


def load() -> Callable[[str], str]:
    return work


def work(item: str) -> str:
    """Does what the item says."""
    if item == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "crashed":
        os._exit(3)
    if item.startswith("slow "):  # says that it ends in a file of that name
        try:
            time.sleep(60)
        except SystemExit:
            with open(item[5:], "w") as file:  # noqa: PTH123
                file.write("cleared up")
            raise
    return f"{item} {os.environ['OMP_NUM_THREADS']}"


def refuse() -> Callable[[str], str]:
    raise WarpTrainError("no such model")


def die() -> Callable[[str], str]:
    sys.exit(7)
