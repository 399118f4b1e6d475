"""Worker processes that score: one thread each, and never in the way of the program's end."""

import atexit
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from typing import Any

_HEARTBEAT_S = 1.0


class ScoringError(Exception):
    """A call that brought no result: it raised, or its process died. `str()` says which."""


class ScoringPool:
    """Calls one function in worker processes.

    Not `concurrent.futures`, which waits for its workers when the program ends, nor
    `multiprocessing.Pool`, which waits forever for what a killed worker was busy with. Here a
    thread per worker hands it one call at a time; a worker that dies costs the call it was busy
    with, and is replaced. Processes are spawned, not forked: the program may hold torch's threads.
    """

    def __init__(self, function: Callable[..., Any], workers: int) -> None:
        """`function` is of a module's top level; its process imports that module and no more."""
        self._function = function
        self._calls: SimpleQueue[tuple[Future[Any], tuple[Any, ...]] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._processes: list[BaseProcess] = []
        self._closed = False
        # Before `multiprocessing` joins workers that do not heed its SIGTERM.
        atexit.register(self.close)
        # It would lift the block on signals when it starts along with the first process.
        resource_tracker.ensure_running()
        # By a thread, where no KeyboardInterrupt is raised: a signal that is blocked here reaches
        # any other thread of the program, and would cut a process off from what it is to run.
        with _signals_blocked(), ThreadPoolExecutor(1) as starter:
            for first in [starter.submit(self._start) for _ in range(workers)]:
                threading.Thread(target=self._serve, args=(first.result(),), daemon=True).start()

    def submit(self, *arguments: Any) -> Future[Any]:
        """The result to come; its error is a `ScoringError`. Must not follow `close`."""
        future: Future[Any] = Future()
        self._calls.put((future, arguments))
        return future

    def close(self) -> None:
        """Ends the workers at once, and cancels what they have not begun."""
        with self._lock:
            self._closed = True
            for process in self._processes:
                process.kill()
        atexit.unregister(self.close)
        for process in self._processes:
            process.join()
            self._calls.put(None)  # wakes its thread

    def __enter__(self) -> "ScoringPool":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _start(self) -> tuple[BaseProcess, Connection]:
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, self._function), daemon=True)
        process.start()
        theirs.close()  # or its end would not be noticed here
        self._processes.append(process)
        return process, ours

    def _serve(self, worker: tuple[BaseProcess, Connection]) -> None:
        """One worker's calls, and its successors', until the pool is closed."""
        while (call := self._calls.get()) is not None:
            future, arguments = call
            if self._closed:
                future.cancel()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                good, value = _ask(*worker, arguments)
            except (EOFError, OSError):
                future.set_exception(ScoringError(_how_it_ended(worker[0])))
                worker = self._successor(worker)
                continue
            if good:
                future.set_result(value)
            else:
                future.set_exception(ScoringError(value))

    def _successor(self, dead: tuple[BaseProcess, Connection]) -> tuple[BaseProcess, Connection]:
        """A new worker; the dead one, which the next call replaces, if there can be none now."""
        with self._lock, suppress(OSError):
            if not self._closed:
                worker = self._start()
                self._processes.remove(dead[0])
                return worker
        return dead


def _ask(process: BaseProcess, pipe: Connection, arguments: tuple[Any, ...]) -> tuple[bool, Any]:
    """A worker's answer; EOFError or OSError if it dies meanwhile."""
    pipe.send(arguments)
    # A fork of this program may hold the other end open: a dead worker's pipe then stays silent.
    while not pipe.poll(_HEARTBEAT_S):
        if not process.is_alive():
            raise EOFError
    answer: tuple[bool, Any] = pipe.recv()
    return answer


def _how_it_ended(process: BaseProcess) -> str:
    process.join(_HEARTBEAT_S)
    return f"its process died (exit code {process.exitcode})"


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Processes and threads that start meanwhile never see Ctrl-C or SIGTERM.

    A terminal sends them to every process of the group; which of them end is the program's to say.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(pipe: Connection, function: Callable[..., Any]) -> None:
    """A worker's whole life: it ends with the program at the other end of the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _be_single_threaded()
    while True:
        try:
            arguments = pipe.recv()
        except EOFError:
            return
        try:
            answer = True, function(*arguments)
        except Exception as error:  # whatever it is, it is the caller's to judge
            answer = False, f"{type(error).__name__}: {error}".splitlines()[0]
        try:
            pipe.send(answer)
        except OSError:
            return


def _be_single_threaded() -> None:
    import cv2
    import threadpoolctl

    os.environ["OMP_NUM_THREADS"] = "1"  # for what the function may yet import
    cv2.setNumThreads(0)
    threadpoolctl.threadpool_limits(1)
