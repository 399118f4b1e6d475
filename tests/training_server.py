"""Training processes that cost no import of torch each: the client of `fork_server.py`.

`conftest.py` has one server for all tests, the fixture `server`.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from runs_helpers import ENVIRONMENT

PATIENCE_S = 60


class Server:
    """Starts one training process, or several ranks, at a time."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._pids: list[int] = []
        self._running = False
        """Whether the end of what was started last has not been asked for yet."""
        self._logged_before = 0
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "fork_server.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env={**ENVIRONMENT, "LOG": str(log)},
        )

    def start(self, *argv: str, env: dict[str, str] | None = None) -> int:
        """Starts `warp-train argv` and returns its process id."""
        return self.start_ranks([list(argv)], env=env)[0]

    def start_ranks(
        self,
        argvs: list[list[str]],
        cwd: Path | None = None,
        before: str | None = None,
        env: dict[str, str] | None = None,
    ) -> list[int]:
        """Starts `warp-train argv` for each, as the ranks of one run, on CPUs over gloo.

        `before` names a function that each process calls first, as `module:function`.
        """
        port, world = _free_port(), len(argvs)
        requests = [
            {
                "argv": argv,
                "env": {**(launched(rank, world, port) if world > 1 else {}), **(env or {})},
                "cwd": str(cwd or Path.cwd()),
                "before": before,
            }
            for rank, argv in enumerate(argvs)
        ]
        return self._start(requests)

    def start_rank(self, rank: int, world: int, *argv: str) -> int:
        """Starts one of the ranks of a run, and returns its process id."""
        place = launched(rank, world)
        request = {"argv": argv, "env": place, "cwd": str(Path.cwd()), "before": None}
        return self._start([request])[0]

    def _start(self, requests: list[dict[str, Any]]) -> list[int]:
        if self._running:  # left behind by a test that has failed
            self._kill()
        self._logged_before = self.log.stat().st_size if self.log.exists() else 0
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(requests) + "\n")
        self.process.stdin.flush()
        pids: list[int] = self._answer()
        self._pids, self._running = pids, True
        return pids

    def have_ended(self, within_s: float = 0) -> bool:
        """Whether all started ranks have."""
        return bool(select.select([self.process.stdout], [], [], within_s)[0])

    def exit_status(self) -> int:
        """Waits for the started process; a signal's number is negative."""
        return self.exit_statuses()[0]

    def exit_statuses(self) -> list[int]:
        """Waits for all started ranks; those that do not end are killed, and the test fails."""
        if self.have_ended(PATIENCE_S):
            self._running = False
            return self._answer()
        self._kill()
        raise AssertionError(f"not ended after {PATIENCE_S} s: {self.log.read_text()[-2000:]}")

    def _kill(self) -> None:
        for pid in self._pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)  # a child of the server, which still waits for it
        self._answer()
        self._running = False

    def printed(self) -> str:
        """The output of what was started last."""
        return self.log.read_bytes()[self._logged_before :].decode()

    def close(self) -> None:
        assert self.process.stdin is not None
        if self._running:
            self._kill()
        # A loading process of a run in the test's own process may hold the pipe open as well.
        self.process.stdin.write("end\n")
        self.process.stdin.close()
        self.process.wait(timeout=30)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())


def launched(rank: int, world: int, port: int = 29500) -> dict[str, str]:
    """The variables that a launcher sets, on one machine without GPUs."""
    meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    size = {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world)}
    return {**meet, **size, "RANK": str(rank), "LOCAL_RANK": str(rank)}


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
