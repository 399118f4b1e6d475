"""Jobs over processes, each of which may die without taking the others' work along."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Any, Generic, TypeVar

from warp_train.runtime.errors import WarpTrainError

Item = TypeVar("Item")
Result = TypeVar("Result")

_ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    # A photo's pixels lie where those of the one before did: glibc would give that memory back and
    # ask for it again, page by page, which can take half as long as decoding does.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
}
"""Of worker processes, beside what this one has."""
_PATIENCE = 20.0
"""Seconds that a worker has to leave its photo and clear up once it is told to end."""


@dataclass(frozen=True)
class Died:
    """What comes of an item whose worker was killed, or crashed."""

    process: int
    how: str
    """Such as `was killed by signal 9`."""


@dataclass
class _Worker(Generic[Item]):
    process: SpawnProcess
    pipe: Connection
    loaded: bool = False
    item: Item | None = None


def run_jobs(
    items: Sequence[Item], load: Callable[[], Callable[[Item], Result]], workers: int
) -> Generator[tuple[Item, Result | Died], None, None]:
    """Yields (item, result) as each ends, from `workers` processes of one thread each.

    Each process knows no more of this one than `load`, which it calls once and which returns the
    work. When the generator is closed, or an exception passes through it, busy processes are told
    to end (SIGTERM, which the work sees as SystemExit) and waited for.

    Raises:
        WarpTrainError: from `load`, or because a process ended while it loaded.
    """
    waiting, team = deque(items), list[_Worker[Item]]()
    try:
        while waiting or any(worker.item is not None for worker in team):
            idle = sum(worker.item is None for worker in team)
            for _ in range(min(workers - len(team), len(waiting) - idle)):
                team.append(_start(load))
            ready = connection.wait([worker.pipe for worker in team])
            for worker in [worker for worker in team if worker.pipe in ready]:
                item, result = worker.item, _receive(worker)
                if isinstance(result, Died):
                    team.remove(worker)
                elif waiting:
                    _hand(worker, waiting)
                if item is not None:
                    yield item, result
    finally:
        _end(team)


@contextlib.contextmanager
def worker_environment() -> Iterator[None]:
    """Processes that are started within have one thread each, and keep the memory they had."""
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _start(load: Callable[[], Callable[[Any], Any]]) -> _Worker[Any]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, load), daemon=True)
    # Ctrl-C reaches the whole group, but the workers' end is this process's to decide; they must
    # not notice it before they can say so themselves.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with worker_environment():
            process.start()
    finally:
        signal.signal(signal.SIGINT, before)
    theirs.close()  # so that reading from it ends when the worker does
    return _Worker(process, ours)


def _serve(pipe: Connection, load: Callable[[], Callable[[Any], Any]]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    try:
        work = load()
    except WarpTrainError as error:
        pipe.send((False, str(error)))
        return
    with contextlib.suppress(EOFError, ConnectionError):  # the other side has ended
        pipe.send((True, None))
        while True:
            pipe.send((True, work(pipe.recv())))


def _leave(number: int, frame: FrameType | None) -> None:
    # The group's and the parent's may both arrive: the second must not disturb the leaving.
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _receive(worker: _Worker[Item]) -> Any:
    try:
        well, content = worker.pipe.recv()
    except (EOFError, ConnectionError):
        died = _death(worker)
        if not worker.loaded:
            raise WarpTrainError(f"the process that loaded the model {died.how}") from None
        return died
    if not well:
        raise WarpTrainError(content)
    worker.loaded, worker.item = True, None
    return content


def _hand(worker: _Worker[Item], waiting: deque[Item]) -> None:
    """Gives a worker the next item; one that has died in the meantime is noticed when read from."""
    with contextlib.suppress(ConnectionError):
        worker.pipe.send(waiting[0])
    worker.item = waiting.popleft()


def _death(worker: _Worker[Any]) -> Died:
    worker.pipe.close()
    worker.process.join()
    code = worker.process.exitcode or 0
    how = f"ended with exit code {code}"
    if code < 0:
        memory = " (out of memory?)" if code == -signal.SIGKILL else ""
        how = f"was killed by signal {-code}{memory}"
    return Died(worker.process.pid or 0, how)


def _end(team: list[_Worker[Any]]) -> None:
    for worker in team:
        if worker.item is not None or not worker.loaded:
            worker.process.terminate()
        worker.pipe.close()  # an idle one ends when it reads
    for worker in team:
        worker.process.join(_PATIENCE)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
