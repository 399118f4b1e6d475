"""Jobs spread over worker processes. A worker that dies costs its own job only."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from multiprocessing import resource_tracker
from operator import length_hint
from queue import SimpleQueue
from types import TracebackType
from typing import Generic

from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.worker_process import Item, JobError, Result, Worker, signals_blocked

_PATIENCE_S = 20.0
_ITEMS_AHEAD = 2
"""Items per worker that are taken before their results are yielded: one at work, one waiting."""


def run_jobs(
    items: Iterable[Item],
    load: Callable[[], Callable[[Item], Result]],
    workers: int,
    *,
    in_order: bool = False,
    patience: float = _PATIENCE_S,
) -> Generator[tuple[Item, Result | JobError], None, None]:
    """Yields each item with its result from `workers` processes of one thread each.

    Each process calls `load` once, which returns the work. When the generator is closed, or an
    exception passes through it, the processes are ended.

    Args:
        items: taken as workers become free; an iterator can therefore make them on the way.
        in_order: yield in the order of the items instead of as each ends.
        patience: as of `WorkerPool`.

    Raises:
        WarpTrainError: from `load`, or because a process died while it loaded.
    """
    workers = min(workers, length_hint(items, workers))
    if not workers:
        return
    with WorkerPool(load, workers, patience=patience) as pool:
        coming = iter(items)
        pending = {pool.submit(item): item for item in islice(coming, workers * _ITEMS_AHEAD)}
        while pending:
            awaited = list(islice(pending, 1)) if in_order else list(pending)
            done = wait(awaited, return_when=FIRST_COMPLETED).done
            for future in [future for future in awaited if future in done]:
                item = pending.pop(future)
                for following in islice(coming, 1):
                    pending[pool.submit(following)] = following
                outcome = _outcome(future)
                yield item, outcome


def _outcome(future: Future[Result]) -> Result | JobError:
    try:
        return future.result()
    except JobError as failed:
        if failed.loading:
            message = f"the process that loaded the model {failed.how}"
            raise WarpTrainError(message) from None
        return failed


class WorkerPool(Generic[Item, Result]):
    """Worker processes, each with a thread here that hands it one job at a time.

    `concurrent.futures` waits for its workers when the program ends, and `multiprocessing.Pool`
    waits forever for the job of a killed worker. This pool does neither, and replaces a worker that
    has died when there is a job for it.
    """

    def __init__(
        self, load: Callable[[], Callable[[Item], Result]], workers: int, *, patience: float
    ) -> None:
        """Starts the processes. Args:

        load: called once in each process; returns the work. See `Worker`.
        patience: seconds that busy workers get to clear up when the pool is closed: SIGTERM raises
            SystemExit in their work, and those that are left are killed. For work that leaves
            something half done, such as files. With 0, they are killed at once, and SIGTERM has no
            effect on them: then a signal for the whole job leaves them to finish the results that
            the program still waits for.
        """
        self._load = load
        self._patience = patience
        self._calls = SimpleQueue[tuple[Future[Result], Item] | None]()
        self._lock = threading.Lock()
        self._workers: list[Worker[Item, Result]] = []
        self._closed = False
        # Runs before the exit handler of `multiprocessing`, which waits for workers that do not
        # heed SIGTERM.
        atexit.register(self.close)
        # If it started along with the first process, it would lift the block of the signals.
        resource_tracker.ensure_running()
        try:
            # A thread starts them, because KeyboardInterrupt is raised in the main thread only: a
            # signal blocked here reaches any other thread of the program, and could interrupt a
            # start before the new process has received its work.
            with signals_blocked(), ThreadPoolExecutor(1) as starter:
                for start in [starter.submit(self._start) for _ in range(workers)]:
                    worker = start.result()
                    threading.Thread(target=self._feed, args=(worker,), daemon=True).start()
        except BaseException:
            self.close()
            raise

    def submit(self, item: Item) -> Future[Result]:
        """The result to come. Not allowed after `close`.

        Its error is a JobError, or a WarpTrainError from `load`.
        """
        future = Future[Result]()
        self._calls.put((future, item))
        return future

    def close(self) -> None:
        """Ends the workers and cancels the jobs that have not begun."""
        with self._lock:
            self._closed = True
            processes = [worker.process for worker in self._workers]
        try:
            if self._patience:
                deadline = time.monotonic() + self._patience
                for process in processes:
                    process.terminate()
                for process in processes:
                    process.join(max(0.0, deadline - time.monotonic()))
        finally:
            for process in processes:
                process.kill()
            for process in processes:
                process.join()
                self._calls.put(None)  # ends its thread
            atexit.unregister(self.close)

    def __enter__(self) -> WorkerPool[Item, Result]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _start(self, replaced: Worker[Item, Result] | None = None) -> Worker[Item, Result]:
        with self._lock:
            if self._closed:
                raise RuntimeError("the pool of workers is closed")
            worker = Worker(self._load, heeds_sigterm=self._patience > 0)
            self._workers = [*(other for other in self._workers if other is not replaced), worker]
        return worker

    def _feed(self, worker: Worker[Item, Result]) -> None:
        """Hands one worker, and those that replace it, one job after the other."""
        while (call := self._calls.get()) is not None:
            future, item = call
            if self._closed:
                future.cancel()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                worker = self._living(worker)
                future.set_result(worker.ask(item))
            except Exception as error:
                future.set_exception(error)

    def _living(self, worker: Worker[Item, Result]) -> Worker[Item, Result]:
        """The worker, or one in its place if it has died."""
        if worker.process.is_alive():
            return worker
        try:
            return self._start(replaced=worker)
        except (OSError, RuntimeError) as error:
            how = f"died and could not be replaced: {error}"
            raise JobError(worker.process.pid or 0, how) from None
