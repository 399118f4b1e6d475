"""Worker processes: what they do with errors, signals, deaths and the program's end."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pool_work
import pytest

from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.worker_pool import WorkerPool, run_jobs
from warp_train.runtime.worker_process import JobError, worker_environment

HERE = Path(__file__).resolve().parent


def scoring(work: Callable[[Any], Any], workers: int) -> WorkerPool[Any, Any]:
    """A pool as training's scorer has it."""
    return WorkerPool(partial(pool_work.given, work), workers, patience=0)


def children() -> set[int]:
    return {process.pid or 0 for process in multiprocessing.active_children()}


def test_workers_share_the_calls_with_one_thread_each_and_end_with_the_pool() -> None:
    before = children()
    with scoring(pool_work.describe, 2) as pool:
        workers = children() - before
        results = [call.result(30) for call in [pool.submit(n) for n in range(40)]]
    assert [result["number"] for result in results] == list(range(40))
    assert {result["pid"] for result in results} <= workers
    assert {result["threads"] for result in results} == {1}
    assert len(workers) == 2
    assert children() == before


def test_an_error_is_the_calls_own() -> None:
    with scoring(pool_work.fail, 1) as pool:
        for text in ("no\nidea", "again"):
            with pytest.raises(JobError, match=f"^raised RuntimeError: {text.splitlines()[0]}$"):
                pool.submit(text).result(30)


def test_a_worker_that_dies_costs_one_call_and_is_replaced() -> None:
    with scoring(pool_work.double, 1) as pool:
        calls = [pool.submit(number) for number in (1, -1, 2)]
        assert calls[0].result(30) == 2
        with pytest.raises(JobError, match=r"^was killed by signal 9 \(out of memory\?\)$"):
            calls[1].result(30)
        assert calls[2].result(30) == 4


def test_workers_do_not_heed_the_signals_of_a_terminal_from_the_start() -> None:
    before = children()
    with scoring(pool_work.describe, 1) as pool:
        (worker,) = children() - before
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(worker, number)  # while it is still importing
        assert pool.submit(1).result(30)["pid"] == worker
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(worker, number)
        assert pool.submit(2).result(30)["pid"] == worker
    # Neither are they kept from this process for good.
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & {signal.SIGINT, signal.SIGTERM}


def test_ctrl_c_does_not_cut_off_a_worker_that_is_being_started(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        "import os, signal, threading, time, pool_work\n"
        "from functools import partial\n"
        "from multiprocessing import util\n"
        "from warp_train.runtime.worker_pool import WorkerPool\n"
        "spawn = util.spawnv_passfds\n"
        "def interrupted(path, arguments, passed):\n"
        "    child = spawn(path, arguments, passed)\n"  # which now waits for what it is to run
        "    if b'spawn_main' in b''.join(map(os.fsencode, arguments)):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        time.sleep(0.05)\n"
        "    return child\n"
        "if __name__ == '__main__':\n"
        # As one of numpy's does, it takes the signals that the main thread blocks.
        "    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
        "    util.spawnv_passfds = interrupted\n"
        "    try:\n"
        "        WorkerPool(partial(pool_work.given, pool_work.describe), 1, patience=0)\n"
        "    except KeyboardInterrupt:\n"
        "        print('interrupted')\n"
    )
    done = subprocess.run(
        [sys.executable, str(tmp_path / "program.py")],
        env={**os.environ, "PYTHONPATH": f"{HERE.parent}:{HERE}"},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", "")


def test_closing_waits_for_nothing() -> None:
    pool = scoring(pool_work.sleep, 1)
    calls = [pool.submit(600.0) for _ in range(3)]
    time.sleep(0.2)
    began = time.monotonic()
    pool.close()
    pool.close()
    assert time.monotonic() - began < 2
    assert not wait(calls, 5).not_done
    with pytest.raises(JobError):
        calls[0].result()
    assert calls[1].cancelled()
    assert calls[2].cancelled()


def test_a_hanging_worker_does_not_keep_the_program_from_ending() -> None:
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(
        [sys.executable, str(HERE / "pool_work.py")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


@pytest.mark.parametrize("forks", [0, 1])
def test_workers_end_with_a_program_that_is_killed(forks: int, tmp_path: Path) -> None:
    code = (
        "import multiprocessing, os, time, pool_work\n"
        "from functools import partial\n"
        "from warp_train.runtime.worker_pool import WorkerPool\n"
        "if __name__ == '__main__':\n"
        "    pool = WorkerPool(partial(pool_work.given, pool_work.describe), 1, patience=0)\n"
        "    for process in multiprocessing.active_children():\n"
        "        os.kill(process.pid, 15)\n"  # the first worker of a program, and from the start
        "    worker = pool.submit(0).result()['pid']\n"
        # The fork holds the pipe open, as a data loader's worker does.
        f"    fork = os.fork() if {forks} else -1\n"
        "    if fork:\n"
        "        print(worker, fork, flush=True)\n"
        "    time.sleep(600)\n"
    )
    (tmp_path / "program.py").write_text(code)
    program = subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py")],
        env={**os.environ, "PYTHONPATH": f"{HERE.parent}:{HERE}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    worker, fork = map(int, program.stdout.readline().split())
    program.kill()
    program.wait()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and is_running(worker):
        time.sleep(0.05)
    try:
        assert not is_running(worker)
    finally:
        if forks:
            os.kill(fork, signal.SIGKILL)
        program.communicate()


def test_a_dead_worker_is_noticed_where_its_end_of_the_pipe_stays_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    open_ends: list[Connection] = []
    monkeypatch.setattr(Connection, "close", lambda end: open_ends.append(end))
    with scoring(pool_work.double, 1) as pool, pytest.raises(JobError, match="by signal 9"):
        pool.submit(-1).result(30)
    assert open_ends


def test_a_worker_that_dies_while_it_waits_costs_nothing() -> None:
    before = children()
    with scoring(pool_work.double, 1) as pool:
        assert pool.submit(1).result(30) == 2
        (worker,) = children() - before
        os.kill(worker, signal.SIGKILL)
        while is_running(worker):
            time.sleep(0.01)
        assert pool.submit(3).result(30) == 6


def test_what_cannot_be_sent_is_the_calls_own_error(capfd: pytest.CaptureFixture[str]) -> None:
    with scoring(pool_work.cannot_be_sent, 1) as pool:
        with pytest.raises(AttributeError):
            pool.submit(lambda: 0).result(30)
        with pytest.raises(JobError, match=r"^ended with exit code 1$"):
            pool.submit(1).result(30)
    assert "lambda" in capfd.readouterr().err


def test_a_worker_that_dies_costs_its_own_job_only() -> None:
    items = ["a", "killed", "b", "crashed", "c", "d"]
    results = dict(run_jobs(items, pool_work.load, 2))
    assert {item: results[item] for item in "abcd"} == {item: f"{item} 1 0" for item in "abcd"}
    killed, crashed = results["killed"], results["crashed"]
    assert isinstance(killed, JobError)
    assert killed.how == "was killed by signal 9 (out of memory?)"
    assert isinstance(crashed, JobError)
    assert crashed.how == "ended with exit code 3"


def test_a_worker_that_cannot_load_ends_the_run() -> None:
    with pytest.raises(WarpTrainError, match="no such model"):
        list(run_jobs(["a"], pool_work.refuse, 1))
    with pytest.raises(WarpTrainError, match="loaded the model ended with exit code 7"):
        list(run_jobs(["a", "b"], pool_work.die, 2))
    assert list(run_jobs([], pool_work.refuse, 2)) == []


@pytest.mark.parametrize("in_order", [True, False])
def test_items_are_made_as_workers_get_to_them(in_order: bool) -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in (*range(12), 13, -1, *range(14, 30)):
            made.append(number)
            yield number

    yielded = []
    doubling = partial(pool_work.given, pool_work.double)
    for item, result in run_jobs(items(), doubling, 2, in_order=in_order):
        yielded.append(item)
        # Four are under way, and one more is taken before a result is yielded.
        assert len(made) <= len(yielded) + 4
        how = {13: "raised RuntimeError: 13", -1: "was killed by signal 9 (out of memory?)"}
        assert (str(result) if item in how else result) == how.get(item, 2 * item)
    assert (yielded == made) is in_order
    assert sorted(yielded) == sorted(made)


def test_workers_clear_up_when_the_run_is_left(tmp_path: Path) -> None:
    note = tmp_path / "note"
    results = run_jobs(["a", f"slow {note}"], pool_work.load, 2)
    next(results)
    time.sleep(1.0)  # the other one has begun
    results.close()
    assert note.read_text() == "cleared up"


def test_workers_that_do_not_clear_up_in_time_are_killed() -> None:
    before = children()
    load = partial(pool_work.given, pool_work.ignore_sigterm)
    results = run_jobs([0.0, 600.0], load, 1, patience=0.5)
    next(results)
    time.sleep(0.2)
    began = time.monotonic()
    results.close()
    assert 0.4 < time.monotonic() - began < 10
    assert children() == before


def test_the_environment_of_workers_is_theirs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MALLOC_MMAP_MAX_", raising=False)
    with worker_environment():
        assert os.environ["OMP_NUM_THREADS"] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MALLOC_MMAP_MAX_" not in os.environ


def is_running(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
