"""Places to push to that are slow or fail, and what lies at them."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from warp_train.runtime.links import followed
from warp_train.runtime.urls import Remote
from warp_train.training.checkpoints.folder import is_complete
from warp_train.training.remote import writers

PATIENCE_S = 30.0


class OddFileSystem(LocalFileSystem):
    """A local disk under `odd://` that waits, or fails, when a test asks for it."""

    protocol = "odd"
    cachable = False
    gate = threading.Event()
    """The files of checkpoints wait for it."""
    failures = 0
    """So many writes fail from now on."""
    written: ClassVar[list[str]] = []
    """Names of the files, in the order in which they came to their places."""

    @classmethod
    def begin(cls, *, is_open: bool = True, failures: int = 0) -> None:
        cls.gate, cls.failures, cls.written = threading.Event(), failures, []
        if is_open:
            cls.gate.set()

    def _fail(self) -> None:
        if type(self).failures > 0:
            type(self).failures -= 1
            raise ConnectionError("the network is down\nsecond line")

    def pipe_file(self, path: str, *arguments: Any, **more: Any) -> None:
        self._fail()
        super().pipe_file(path, *arguments, **more)

    def put_file(self, local: str, path: str, *arguments: Any, **more: Any) -> None:
        assert type(self).gate.wait(PATIENCE_S), "nothing has opened the gate"
        self._fail()
        super().put_file(local, path, *arguments, **more)

    def mv(self, source: str, path: str, **more: Any) -> None:
        super().mv(source, path, **more)
        type(self).written.append(path)


fsspec.register_implementation("odd", OddFileSystem, clobber=True)


def hang_at_the_second_state() -> None:
    """Makes this process push one state and half of a file of the next one, and then hang."""
    put, pointers = writers._put, []

    def hanging(target: Remote, content: Path | bytes) -> None:
        if target.name == "optimizer.safetensors" and pointers:
            half = Path(str(content)).read_bytes()[:5000]
            target.files.pipe_file(target.path, half)
            time.sleep(1000)
        put(target, content)
        if target.name == "last":
            pointers.append(target)

    writers._put = hanging


def die_in_stage_2() -> None:
    """Makes this process die when stage 2 has been pushed for the first time."""
    put = writers._put

    def dying(target: Remote, content: Path | bytes) -> None:
        put(target, content)
        if target.name == "last" and target.parent.name.endswith("stage2_hybrid"):
            os.kill(os.getpid(), signal.SIGKILL)

    writers._put = dying


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "has not happened in time"
        time.sleep(0.02)


def steps(run: Path) -> list[int]:
    """The steps of a run's checkpoints, all of which must be complete."""
    folders = sorted((run / "checkpoints").iterdir())
    assert all(is_complete(folder) for folder in folders), folders
    return [int(folder.name.partition("-")[2]) for folder in folders]


def named(run: Path, link: str) -> int:
    """The step that a pointer names. It must be a text."""
    assert (run / link).is_file()
    folder = followed(run / link)
    assert is_complete(folder)
    return int(folder.name.partition("-")[2])
