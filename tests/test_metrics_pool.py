"""The scoring processes: what they do with errors, signals, deaths and the program's end."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import wait
from pathlib import Path

import pool_functions
import pytest

from warp_train.runtime.scoring_pool import ScoringError, ScoringPool

HERE = Path(__file__).resolve().parent


def children() -> set[int]:
    return {process.pid or 0 for process in multiprocessing.active_children()}


def test_workers_share_the_calls_with_one_thread_each_and_end_with_the_pool() -> None:
    before = children()
    with ScoringPool(pool_functions.describe, 2) as pool:
        workers = children() - before
        results = [call.result(30) for call in [pool.submit(n) for n in range(40)]]
    assert [result["number"] for result in results] == list(range(40))
    assert {result["pid"] for result in results} <= workers
    assert {result["threads"] for result in results} == {1}
    assert len(workers) == 2
    assert children() == before


def test_an_error_is_the_calls_own() -> None:
    with ScoringPool(pool_functions.fail, 1) as pool:
        for text in ("no\nidea", "again"):
            with pytest.raises(ScoringError, match=f"^RuntimeError: {text.splitlines()[0]}$"):
                pool.submit(text).result(30)


def test_a_worker_that_dies_costs_one_call_and_is_replaced() -> None:
    with ScoringPool(pool_functions.die_of, 1) as pool:
        calls = [pool.submit(number) for number in (1, -1, 2)]
        assert calls[0].result(30) == 1
        with pytest.raises(ScoringError, match=r"its process died \(exit code -9\)"):
            calls[1].result(30)
        assert calls[2].result(30) == 2


def test_workers_do_not_heed_the_signals_of_a_terminal_from_the_start() -> None:
    before = children()
    with ScoringPool(pool_functions.describe, 1) as pool:
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
        "import os, signal, threading, time, pool_functions\n"
        "from multiprocessing import util\n"
        "from warp_train.runtime.scoring_pool import ScoringPool\n"
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
        "        ScoringPool(pool_functions.describe, 1)\n"
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
    pool = ScoringPool(pool_functions.sleep, 1)
    calls = [pool.submit(600.0) for _ in range(3)]
    time.sleep(0.2)
    began = time.monotonic()
    pool.close()
    pool.close()
    assert time.monotonic() - began < 2
    assert not wait(calls, 5).not_done
    with pytest.raises(ScoringError):
        calls[0].result()
    assert calls[1].cancelled()
    assert calls[2].cancelled()


def test_a_hanging_worker_does_not_keep_the_program_from_ending() -> None:
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(
        [sys.executable, str(HERE / "pool_functions.py")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_workers_end_with_a_program_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import multiprocessing, os, time, pool_functions\n"
        "from warp_train.runtime.scoring_pool import ScoringPool\n"
        "if __name__ == '__main__':\n"
        "    pool = ScoringPool(pool_functions.describe, 1)\n"
        "    for process in multiprocessing.active_children():\n"
        "        os.kill(process.pid, 15)\n"  # the first worker of a program, and from the start
        "    print(pool.submit(0).result()['pid'], flush=True)\n"
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
    worker = int(program.stdout.readline())
    program.kill()
    program.communicate()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and is_running(worker):
        time.sleep(0.05)
    assert not is_running(worker)


def is_running(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
