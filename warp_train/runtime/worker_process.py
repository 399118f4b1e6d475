"""One worker process: how it starts, works, answers and dies."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, Generic, TypeVar

from warp_train.runtime.errors import WarpTrainError

Item = TypeVar("Item")
Result = TypeVar("Result")

_ENVIRONMENT = {
    **dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"),
        "1",
    ),
    # The next photo reuses the memory of the last one. By default glibc returns large blocks to
    # the system and requests them again, page by page, which can take half as long as decoding.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
}
"""Variables that worker processes have in addition to those of the program."""
_HEARTBEAT_S = 1.0
"""Time between two checks that the other side is still alive."""
_EXIT_S = 20.0
"""Time that a process has to exit after it has closed its pipe."""


class JobError(Exception):
    """A job without a result: its work raised an error, or its process died.

    Attributes:
        process: the process's id.
        how: completes a sentence whose subject is the process, such as `was killed by signal 9`.
        loading: whether the process died before it was ready for its first job.
    """

    def __init__(self, process: int, how: str, *, loading: bool = False) -> None:
        super().__init__(how)
        self.process = process
        self.how = how
        self.loading = loading


class Worker(Generic[Item, Result]):
    """A process of one thread that calls `load` once, and what `load` returns with each item.

    It is spawned, not forked: a fork of a program that uses CUDA or OpenMP can hang. The thread
    that starts it should have its signals blocked (see `signals_blocked`).
    """

    def __init__(
        self, load: Callable[[], Callable[[Item], Result]], *, heeds_sigterm: bool
    ) -> None:
        """Starts the process. Args:

        load: pickled by name, so it is a function at the top level of a module, or a `partial` of
            one. The process imports that module and the program's main module, and nothing else.
        heeds_sigterm: whether SIGTERM raises SystemExit in the process, or has no effect.
        """
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._loaded = False
        self.process = context.Process(
            target=_serve, args=(theirs, load, heeds_sigterm), daemon=True
        )
        with worker_environment():
            self.process.start()
        theirs.close()  # with a copy open here, reading would not end when the process does

    def ask(self, item: Item) -> Result:
        """The result of one item.

        Raises:
            JobError: the work raised an error, or the process died.
            WarpTrainError: from `load`.
        """
        try:
            if not self._loaded:
                succeeded, content = self._receive()
                if not succeeded:
                    raise WarpTrainError(content)
                self._loaded = True
            self._pipe.send(item)
            succeeded, content = self._receive()
        except (EOFError, OSError):
            raise self._death() from None
        if not succeeded:
            raise JobError(self.process.pid or 0, f"raised {content}")
        result: Result = content
        return result

    def _receive(self) -> tuple[bool, Any]:
        # A fork of this program may hold a copy of the process's end of the pipe. The pipe then
        # stays open when the process dies.
        while not self._pipe.poll(_HEARTBEAT_S):
            if not self.process.is_alive():
                raise EOFError
        answer: tuple[bool, Any] = self._pipe.recv()
        return answer

    def _death(self) -> JobError:
        self.process.join(_EXIT_S)
        self.process.kill()
        self.process.join()
        code = self.process.exitcode or 0
        how = f"ended with exit code {code}"
        if code < 0:
            memory = " (out of memory?)" if code == -signal.SIGKILL else ""
            how = f"was killed by signal {-code}{memory}"
        return JobError(self.process.pid or 0, how, loading=not self._loaded)


@contextlib.contextmanager
def worker_environment() -> Iterator[None]:
    """Processes started within use one thread each and keep the memory that they allocate."""
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Processes and threads that are started within inherit the block of SIGINT and SIGTERM.

    A terminal sends Ctrl-C to every process of its group, and a scheduler sends SIGTERM to every
    process of a job. Without the block, a signal that arrives before `_serve` has chosen how to
    treat it would end the worker with a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Connection, load: Callable[[], Callable[[Any], Any]], heeds_sigterm: bool) -> None:
    """All that a worker process does. It ends when the program at the other end has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave if heeds_sigterm else signal.SIG_IGN)
    if heeds_sigterm and hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    try:
        work = load()
    except WarpTrainError as error:
        pipe.send((False, str(error)))
        return
    with contextlib.suppress(EOFError, OSError):  # the program has ended
        pipe.send((True, None))
        while _has_item(pipe):
            pipe.send(_answer(work, pipe.recv()))


def _leave(number: int, frame: FrameType | None) -> None:
    # The signal may arrive twice, for the whole group and from the pool. The second one must not
    # interrupt the clearing up.
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _has_item(pipe: Connection) -> bool:
    """Waits for the next item; False if the program has ended."""
    program = multiprocessing.parent_process()
    while not pipe.poll(_HEARTBEAT_S):
        # A fork of the program may hold the pipe open after the program has been killed.
        if program is None or os.getppid() != program.pid:
            return False
    return True


def _answer(work: Callable[[Any], Any], item: Any) -> tuple[bool, Any]:
    try:
        return True, work(item)
    except Exception as error:  # one job's error must not end the process
        return False, f"{type(error).__name__}: {error}".splitlines()[0]
