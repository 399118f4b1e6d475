"""Several processes: one that dies, one that is told to stop, and another number of them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from runs_helpers import (
    ENVIRONMENT,
    ROOT,
    arguments,
    assert_same_weights,
    command,
    losses,
    metrics,
    train,
)
from training_server import Server

STAGE = "stage1_param_only"
MORE = ("data.train_samples=104", "checkpoint.every_steps=4", "validate.every_steps=1000")
LAUNCH = (
    *(sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch"),
    *("--config_file", f"{ROOT}/launch/cpu_2proc.yaml"),
)
STATED_TIMEOUT_S = 60  # README: within a minute of a rank's death all ranks have ended


def launch(output: Path, *more: str) -> subprocess.Popen[str]:
    """Two processes with half the batch each."""
    arguments = command(STAGE, output, *MORE, "train.batch_size=2", *more)[1:]
    return subprocess.Popen(
        [*LAUNCH, *arguments],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def two(server: Server, output: Path, *more: str) -> str:
    """The same without `accelerate launch`, to its end; returns what it printed."""
    server.start_ranks([arguments(STAGE, output, *MORE, "train.batch_size=2", *more)] * 2)
    assert server.exit_statuses() == [0, 0], server.printed()
    return server.printed()


def rank_of(launcher: subprocess.Popen[str], rank: int) -> psutil.Process:
    for child in psutil.Process(launcher.pid).children(recursive=True):
        if child.environ().get("RANK") == str(rank):
            return child
    raise AssertionError(f"no rank {rank}")


def after_steps(run: Path, steps: int, launcher: subprocess.Popen[str]) -> None:
    log = run / "metrics.jsonl"
    while not (log.exists() and len(log.read_text().splitlines()) > steps):
        assert launcher.poll() is None, launcher.communicate()[0]
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of two processes that nothing happens to."""
    output = tmp_path_factory.mktemp("whole")
    two(server, output)
    return output / STAGE


def kill(process: psutil.Process) -> None:
    process.kill()


def ask(process: psutil.Process) -> None:
    process.send_signal(signal.SIGTERM)


@pytest.mark.parametrize("harm", [kill, ask])
def test_what_happens_to_one_rank_happens_to_all_and_loses_nothing(
    harm: Callable[[psutil.Process], None], whole: Path, server: Server, tmp_path: Path
) -> None:
    run = tmp_path / STAGE
    launcher = launch(tmp_path)
    after_steps(run, 9, launcher)
    others = [rank_of(launcher, rank) for rank in (0, 1)]
    harm(others[1])
    printed, _ = launcher.communicate(timeout=STATED_TIMEOUT_S)
    assert launcher.returncode != 0
    assert not any(process.is_running() for process in others)
    assert (run / "interrupted").exists() == (harm is ask)
    assert ("rank 0 lost the connection" in printed) == (harm is kill)
    two(server, tmp_path, "--resume-from", "auto")
    assert_same_weights(whole, run)
    assert losses(run) == losses(whole)


def test_one_process_goes_on_for_two_with_the_same_samples(
    whole: Path, server: Server, tmp_path: Path
) -> None:
    run = tmp_path / STAGE
    ranks = server.start_ranks([arguments(STAGE, tmp_path, *MORE, "train.batch_size=2")] * 2)
    while not (run / "metrics.jsonl").exists() or len(losses(run)) < 9:
        assert not server.have_ended(0.02)
    os.kill(ranks[0], signal.SIGTERM)
    assert server.exit_statuses() == [143, 143]
    assert train(STAGE, tmp_path, *MORE, "--resume-from", "auto") == 0
    for (step, value), (_, expected) in zip(losses(run), losses(whole), strict=True):
        assert value == pytest.approx(expected, rel=1e-4), step


def test_two_processes_go_on_for_one_and_say_what_changed(
    whole: Path, server: Server, tmp_path: Path
) -> None:
    assert train(STAGE, tmp_path, *MORE, "train.max_steps=12") == 0
    printed = two(server, tmp_path, "--resume-from", "auto", "train.max_steps=null")
    assert "1 process before, 2 now" in printed
    assert "the same samples" in printed
    same = losses(whole)[12:]
    # The first twelve steps had a learning rate that fell sooner.
    assert [step for step, _ in losses(tmp_path / STAGE)[12:]] == [step for step, _ in same]


def test_another_global_batch_is_said_with_what_it_means(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert train(STAGE, tmp_path, *MORE, "train.max_steps=8") == 0
    caplog.clear()
    arguments = ("train.max_steps=10", "train.batch_size=8", "--resume-from", "auto")
    assert train(STAGE, tmp_path, *MORE, *arguments) == 0
    assert "global batch 4 before, 8 now" in caplog.text


def test_metrics_over_an_uneven_last_batch_are_those_of_one_process(
    server: Server, tmp_path: Path
) -> None:
    more = ("train.max_steps=1", "data.val_samples=7")
    two(server, tmp_path / "two", *more)
    assert train(STAGE, tmp_path / "one", *MORE, *more) == 0
    one, other = (metrics(tmp_path / name / STAGE, "val")[0] for name in ("one", "two"))
    assert {**one, "split": 0} == pytest.approx({**other, "split": 0}, rel=1e-6, abs=1e-9)


def test_ranks_with_different_recipes_stop_with_a_message(server: Server, tmp_path: Path) -> None:
    server.start_ranks([arguments(STAGE, tmp_path, *MORE, f"seed={rank}") for rank in (0, 1)])
    assert server.exit_statuses() == [1, 1]
    assert "rank 1 has another recipe than rank 0: seed: 0 -> 1" in server.printed()
    assert not list(tmp_path.rglob("step-*"))
