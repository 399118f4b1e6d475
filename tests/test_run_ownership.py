"""Two processes and one folder: a run folder, a chain's, or one of another command."""

import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from data_helpers import save, textured
from runs_helpers import ROOT, STAGES, arguments, losses, one_line_error, train
from training_server import Server

from warp_train.cli import main
from warp_train.runtime.locks import held, lock_file, lock_folder
from warp_train.training import engine
from warp_train.training.interrupts import Interrupts
from warp_train.training.run import Run

STAGE = STAGES[0]
SHORT = ("train.max_steps=2", "data.val_samples=2")
AUTO = ("--resume-from", "auto")
US = f"in use by process {os.getpid()} on {socket.gethostname()}"


def locks(folder: Path) -> list[Path]:
    return list(folder.rglob(".*"))


def test_a_second_run_goes_elsewhere_or_is_refused_and_harms_nothing(
    server: Server,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    process = server.start(*arguments(STAGE, tmp_path, "data.train_samples=1000"))
    run = tmp_path / STAGE
    while not (run / "last").exists():
        assert not server.have_ended(0.02)
    os.kill(process, signal.SIGSTOP)  # it lives, and does not respond
    for resume in (AUTO, ("--resume-from", str(run)), ("--resume-from", str(run / "last"))):
        assert train(STAGE, tmp_path, *SHORT, *resume) == 1
        error = one_line_error(capsys)
        assert f"{run}: in use by process {process} on {socket.gethostname()}" in error
    assert train(STAGE, tmp_path, *SHORT) == 0
    assert f"process {process} on" in caplog.text
    assert f"this run goes to {run}-2" in caplog.text
    assert [step for step, _ in losses(tmp_path / f"{STAGE}-2")] == [1, 2]

    os.kill(process, signal.SIGKILL)
    server.exit_status()
    capsys.readouterr()
    rest = ("data.train_samples=1000", f"train.max_steps={len(losses(run)) + 1}")
    assert train(STAGE, tmp_path, *rest, "--resume-from", str(run)) == 0
    said = capsys.readouterr().err
    assert f"taken over from process {process} on {socket.gethostname()}" in said
    steps = [step for step, _ in losses(run)]
    assert steps == list(range(1, len(steps) + 1))
    assert locks(tmp_path) == []


def test_all_ranks_find_a_folder_in_use_before_they_wait_for_each_other(
    server: Server, tmp_path: Path
) -> None:
    assert train(STAGE, tmp_path, *SHORT) == 0
    with held(lock_folder(tmp_path / STAGE)):
        began = time.monotonic()
        server.start_ranks([arguments(STAGE, tmp_path, *SHORT, *AUTO)] * 2)
        assert server.exit_statuses() == [1, 1]
        assert time.monotonic() - began < 30
    assert server.printed().count(US) == 1


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    stages = [{"extends": f"{ROOT}/recipes/{stage}.yaml"} for stage in STAGES[:2]]
    path.write_text(yaml.safe_dump({"stages": stages}))
    return path


def test_a_chain_and_each_of_its_stages_have_one_owner(
    chain: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    runs = tmp_path / "runs"
    assert train(str(chain), runs, *SHORT) == 0
    for folder in (runs / "small", runs / "small-stage2_hybrid"):
        with held(lock_folder(folder)):
            assert train(str(chain), runs, *SHORT, *AUTO) == 1
        assert f"{folder}: {US}" in one_line_error(capsys)
    (runs / "small-stage2_hybrid" / "summary.json").unlink()
    with held(lock_folder(runs / "small")):
        assert train(str(chain), runs, *SHORT) == 0
    assert f"{US}; wait for its end, or end it; this run goes to {runs}/small-2" in caplog.text
    assert (runs / "small-2" / "summary.json").exists()
    assert not (runs / "small-stage2_hybrid" / "summary.json").exists()
    assert locks(tmp_path) == []


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    for number in range(4):
        for side in ("original", "generated"):
            photo = textured(60, 90, number)
            save(tmp_path / "pairs" / f"house{number}_g0_{side}.png", photo)
    return tmp_path / "pairs"


def test_prepare_and_recover_do_not_share_their_output(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = f"{ROOT}/recipes/{STAGE}.yaml"
    keys = ("data.source=pairs", f"data.root={pairs}", "data.size=[32,48]", "data.val_fraction=0.3")
    cache, warps = tmp_path / "cache", tmp_path / "warps.jsonl"
    prepare = ["prepare", recipe, *keys, "--out", str(cache), "--workers", "0"]
    recover = ["recover", str(pairs), "--out", str(warps), "--workers", "0"]
    with held(lock_folder(cache)), held(lock_file(warps)):
        for command, out in ((prepare, cache), (recover, warps)):
            assert main(command) == 1
            assert f"{out}: {US}" in one_line_error(capsys)
    assert not cache.exists()
    for command in (prepare, recover):
        assert main(command) == 0
        assert main(command) == 0  # continued
    assert locks(tmp_path) == []
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> dict[int, Any]:
    """What happens before a step is taken."""
    stepped, actions = engine.optimizer_step, dict[int, Any]()

    def step(run: Run, *more: Any) -> Any:
        actions.get(run.step, lambda run: None)(run)
        return stepped(run, *more)

    monkeypatch.setattr(engine, "optimizer_step", step)
    return actions


def test_a_run_whose_lock_was_taken_over_writes_nothing_more(
    at_step: dict[int, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / STAGE

    def take_over(_: Run) -> None:
        (run / ".lock").unlink()
        lock_folder(run)

    at_step[2] = take_over
    more = ("train.log_every=100", "checkpoint.every_steps=4", "train.max_steps=8")
    assert train(STAGE, tmp_path, *more) == 1
    assert f"{run}: taken over by process {os.getpid()}" in one_line_error(capsys)
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-000000000"]
    assert (run / ".lock").exists()


def test_a_second_signal_ends_the_process_without_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []
    monkeypatch.setattr("os._exit", ended.append)
    monkeypatch.setattr("warp_train.training.interrupts._ECHO_SECONDS", -1.0)
    with Interrupts():
        lock_folder(tmp_path / "run")
        os.kill(os.getpid(), signal.SIGTERM)
        assert locks(tmp_path) != []
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended == [143]
    assert list(tmp_path.iterdir()) == []
