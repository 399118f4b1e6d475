"""Locks of folders and files, as other processes meet them."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from runs_helpers import ENVIRONMENT

from warp_train.runtime import lock_files, locks
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.lock_files import InUseError, LockFile, take_lock
from warp_train.runtime.locks import held, lock_file, lock_folder, release_all

HOLD = """
import sys
from pathlib import Path
from warp_train.runtime.locks import held, lock_folder
with held(lock_folder(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def rewrite(lock: Path, **changes: object) -> None:
    lock.write_text(json.dumps(json.loads(lock.read_text()) | changes))


def test_a_living_owner_is_named_by_host_and_process(tmp_path: Path) -> None:
    with holder(tmp_path) as other, pytest.raises(InUseError) as refused:
        lock_folder(tmp_path)
    assert str(tmp_path) in str(refused.value)
    assert f"process {other.pid} on {socket.gethostname()}" in str(refused.value)


@pytest.mark.parametrize(
    ("end", "status", "left"),
    [
        (signal.SIGTERM, 128 + signal.SIGTERM, False),
        (signal.SIGINT, None, False),
        (signal.SIGKILL, -signal.SIGKILL, True),
    ],
)
def test_no_lock_outlives_its_process(
    end: signal.Signals,
    status: int | None,
    left: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with holder(tmp_path / "run") as other:
        other.send_signal(end)
        ended = other.wait(10)
        assert status is None or ended == status
        assert (tmp_path / "run").exists() == left  # with the folder that was made for it
        with held(lock_folder(tmp_path / "run")):
            pass
    said = capsys.readouterr().err
    assert (f"taken over from process {other.pid}" in said) == left
    assert list(tmp_path.rglob("*")) == ([tmp_path / "run"] if left else [])


def test_a_zombie_holds_nothing(tmp_path: Path) -> None:
    with holder(tmp_path) as other:
        os.kill(other.pid, signal.SIGKILL)
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # dead, and still in the list
        lock_folder(tmp_path).release()


def test_a_number_that_another_process_got_is_no_owner(tmp_path: Path) -> None:
    with holder(tmp_path):
        rewrite(tmp_path / ".lock", started="1")
        lock_folder(tmp_path).release()


def test_an_owner_elsewhere_lives_as_long_as_it_renews_its_lock(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    first = lock_folder(tmp_path)
    rewrite(lock, machine="another", host="node7", token="x")
    with pytest.raises(InUseError, match=r"process \d+ on node7, which was alive 0 s ago"):
        lock_folder(tmp_path)
    renewed = lock.stat().st_mtime - lock_files.STALE_S - 1
    os.utime(lock, (renewed, renewed))
    second = lock_folder(tmp_path)
    with pytest.raises(WarpTrainError, match="taken over by process"):
        first.require()
    second.require()
    first.release()  # not its own any more
    second.require()
    second.release()
    assert list(tmp_path.iterdir()) == []


def test_a_thread_renews_the_lock_and_makes_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "RENEWAL_S", 0.01)
    with held(lock_folder(tmp_path)) as lock:
        os.utime(lock.path, (1, 1))
        while lock.path.stat().st_mtime == 1:
            pass
        lock.path.unlink()
        while not lock.path.exists():
            pass
        lock.require()


def test_an_incomplete_lock_has_an_owner_while_it_is_new(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    with pytest.raises(InUseError, match="in use by another process"):
        lock_folder(tmp_path)
    os.utime(tmp_path / ".lock", (1, 1))
    lock_folder(tmp_path).release()


def test_a_lock_works_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*paths: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with held(lock_folder(tmp_path)), pytest.raises(InUseError):
        lock_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_link_whose_answer_was_lost_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS: the request is repeated, and the repeated one finds the link in place."""
    link = os.link

    def twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", twice)
    lock_folder(tmp_path).release()


def test_a_folder_that_cannot_be_written_to_is_an_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*paths: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        lock_folder(tmp_path / "runs" / "quick")
    assert list(tmp_path.iterdir()) == []


def test_a_file_has_a_lock_of_its_own(tmp_path: Path) -> None:
    out = tmp_path / "warps.lock.jsonl"
    (tmp_path / "link.jsonl").symlink_to(out)
    with held(lock_file(out)):
        with pytest.raises(InUseError) as refused:
            lock_file(tmp_path / "link.jsonl")
        lock_file(tmp_path / "other.jsonl").release()
    assert str(refused.value).startswith(f"{out}: in use")
    assert [path.name for path in tmp_path.iterdir()] == ["link.jsonl"]


def test_a_process_that_ends_at_once_leaves_no_lock_and_a_fork_removes_none(tmp_path: Path) -> None:
    lock_folder(tmp_path)
    child = os.fork()
    if child == 0:
        release_all()
        os._exit(0)
    os.waitpid(child, 0)
    assert (tmp_path / ".lock").exists()
    release_all()
    assert list(tmp_path.iterdir()) == []


def leave_dead_lock(folder: Path) -> None:
    with holder(folder) as dead:
        dead.kill()
        dead.wait()


def test_of_two_that_find_a_dead_owner_the_slower_one_takes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_dead_lock(tmp_path)
    judge, quicker = lock_files.require_dead, holder(tmp_path)
    with ExitStack() as stack:

        def judged_and_overtaken(lock: Path, found: LockFile) -> None:
            judge(lock, found)
            monkeypatch.setattr(lock_files, "require_dead", judge)
            stack.enter_context(quicker)

        monkeypatch.setattr(lock_files, "require_dead", judged_and_overtaken)
        with pytest.raises(InUseError):
            lock_folder(tmp_path)


def test_only_one_at_a_time_replaces_the_lock_of_a_dead_owner(tmp_path: Path) -> None:
    leave_dead_lock(tmp_path)
    take_lock(tmp_path / ".lock-next")
    with pytest.raises(InUseError):
        lock_folder(tmp_path)
    rewrite(tmp_path / ".lock-next", started="1")  # killed meanwhile
    lock_folder(tmp_path).release()
    assert list(tmp_path.iterdir()) == []
