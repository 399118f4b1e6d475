"""One thread a process: the frames are tiny, and sums come out the same in every process."""

import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from training_server import Server

os.environ["OMP_NUM_THREADS"] = "1"  # before anything imports torch

# A suite that a script starts in the background inherits that Ctrl-C is ignored, and so would the
# programs that it interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Server]":
    """Processes that have imported torch already; see `training_server.py`."""
    from training_server import Server

    with Server(tmp_path_factory.mktemp("server") / "log.txt") as started:
        yield started


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=20, help="kills of tests/test_faults.py")
    parser.addoption("--kill-seed", type=int, default=0, help="their instants")
    parser.addoption("--fuzz", type=int, default=60, help="mutants of each photo format")
    parser.addoption("--fuzz-seed", type=int, default=0, help="their mutations")
