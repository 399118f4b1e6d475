"""How a program that may run in many processes talks to its user: on standard error, in lines."""

import os
import sys
from contextlib import suppress
from typing import TextIO


def say(line: str, stream: TextIO | None = None) -> None:
    """One line to the user (on standard error if None), under the program's name."""
    print(f"warp-train: {line}", file=stream or sys.stderr)


def tell(line: str, stream: TextIO | None = None) -> None:
    """One line of progress (to standard error if None); a full log does not stop the program."""
    with suppress(OSError):
        print(line, file=stream or sys.stderr, flush=True)


def rank() -> int:
    """This process's rank under `accelerate launch`; 0 alone."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")))
