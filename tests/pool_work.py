"""What the pool's workers run in the tests: light to import, since each test starts some."""

import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from warp_train.runtime.errors import WarpTrainError

Work = TypeVar("Work")


def given(work: Work) -> Work:
    """Loads nothing: `partial(given, work)` is a worker's `load`."""
    return work


def describe(number: int) -> dict[str, Any]:
    import cv2
    import threadpoolctl

    blas = [library["num_threads"] for library in threadpoolctl.threadpool_info()]
    return {
        "number": number,
        "pid": os.getpid(),
        "threads": max([cv2.getNumThreads(), int(os.environ["OMP_NUM_THREADS"]), *blas]),
    }


def fail(message: str) -> None:
    raise RuntimeError(message)


def double(number: int) -> int:
    """Twice the number. Raises if it is 13, dies if it is negative, takes longer if it is even."""
    if number == 13:
        raise RuntimeError("13")
    if number < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05 * (number % 2 == 0))
    return 2 * number


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def ignore_sigterm(seconds: float) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(seconds)


def cannot_be_sent(number: int) -> Any:
    return lambda: number


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
            Path(item[5:]).write_text("cleared up")
            raise
    return f"{item} {os.environ['OMP_NUM_THREADS']} {os.environ['MALLOC_MMAP_MAX_']}"


def refuse() -> Callable[[str], str]:
    raise WarpTrainError("no such model")


def die() -> Callable[[str], str]:
    sys.exit(7)


if __name__ == "__main__":  # a program that ends while a worker hangs
    from warp_train.runtime.worker_pool import WorkerPool

    WorkerPool(partial(given, sleep), 1, patience=0).submit(600.0)
    time.sleep(0.5)
    print("end", flush=True)
