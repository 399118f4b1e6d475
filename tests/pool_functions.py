"""What the pool's workers run in the tests: of a module's top level, as they have to be."""

import os
import signal
import time
from typing import Any


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


def die_of(number: int) -> int:
    """Dies if it is asked to."""
    if number < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


if __name__ == "__main__":  # a program that ends while a worker hangs
    from warp_train.runtime.scoring_pool import ScoringPool

    ScoringPool(sleep, 1).submit(600.0)
    time.sleep(0.5)
    print("end", flush=True)
