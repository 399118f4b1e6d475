"""`recover` in the processes of one launch."""

import os
import signal
import time
from pathlib import Path

import cv2
import pytest
from data_helpers import opencv_maps, save
from recover_helpers import drawn, lines
from training_server import Server, launched

from warp_train.cli import main
from warp_train.runtime import team

LENS = (-0.2, 0.06, -0.02, 0, 0, 0, 0, 0.93)
PAIRS = 11


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    for seed in range(PAIRS):
        bent = drawn(90, 120, seed=seed)
        save(folder / f"{seed}_original.png", bent)
        straight = cv2.remap(bent, *opencv_maps(LENS, 90, 120), cv2.INTER_CUBIC)
        save(folder / f"{seed}_generated.png", straight)
    (folder / "3_original.png").write_bytes(b"nothing")
    return folder


@pytest.fixture(scope="module")
def alone(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What one process writes."""
    out = tmp_path_factory.mktemp("alone") / "pairs.jsonl"
    assert main(command(pairs, out)) == 1
    return out.read_bytes()


def command(pairs: Path, out: Path) -> list[str]:
    return ["recover", str(pairs), "--out", str(out), "--workers", "0"]


def test_two_processes_write_what_one_writes(
    pairs: Path, alone: bytes, server: Server, tmp_path: Path
) -> None:
    out = tmp_path / "pairs.jsonl"
    server.start_ranks([command(pairs, out)] * 2)
    # Only rank 0 reports the pair that failed: a launcher ends all where one fails.
    assert server.exit_statuses() == [1, 0]
    assert out.read_bytes() == alone
    assert list(tmp_path.iterdir()) == [out]
    error, summary = server.printed().splitlines()
    assert "3_original.png" in error
    assert summary.startswith(f"warp-train: 1 failed, {PAIRS - 1} ")
    server.start_ranks([command(pairs, out)] * 2)
    assert server.exit_statuses() == [1, 0]
    assert sorted(out.read_bytes().splitlines()) == sorted(alone.splitlines())
    assert "3_original.png" in out.read_text().splitlines()[-1]  # it was tried again
    assert f"{PAIRS - 1} of {PAIRS} pairs are in {out} already" in server.printed()


@pytest.mark.parametrize("together", [True, False], ids=["launch", "process"])
def test_a_killed_process_is_named_and_what_it_did_is_kept(
    together: bool,
    pairs: Path,
    alone: bytes,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "pairs.jsonl"
    monkeypatch.setattr(team, "SILENCE_S", 5.0)
    journals = [tmp_path / f"pairs.jsonl.ranks/journal-{rank}.jsonl" for rank in range(2)]
    pid = server.start_rank(1, 2, *command(pairs, out))
    with monkeypatch.context() as context:
        for name, value in launched(0, 2).items():
            context.setenv(name, value)
        from warp_train.commands import recover

        work = recover._run

        def kills(*arguments: object) -> None:
            while not (journals[1].exists() and journals[1].stat().st_size):
                time.sleep(0.005)
            os.kill(pid, signal.SIGKILL)
            work(*arguments)  # type: ignore[arg-type]

        context.setattr(recover, "_run", kills)
        assert main(command(pairs, out)) == 1
    assert server.exit_status() == -signal.SIGKILL
    assert "error: rank 1 has died: no sign of life for 5 s" in capsys.readouterr().err
    assert lines(out) == [] if out.exists() else True
    done = sum(len(path.read_text().splitlines()) for path in journals)
    assert (PAIRS + 1) // 2 < done < PAIRS

    if together:
        server.start_ranks([command(pairs, out)] * 2)
        assert server.exit_statuses() == [1, 0]
        printed = server.printed()
    else:
        assert main(command(pairs, out)) == 1
        printed = capsys.readouterr().err
    failed_before = 1  # of rank 1's pairs, if it came to it
    assert f"{done} of {PAIRS} pairs" in printed or f"{done - failed_before} of" in printed
    assert sorted(out.read_bytes().splitlines()) == sorted(alone.splitlines())
    assert list(tmp_path.iterdir()) == [out]


def test_one_error_of_all_processes_is_one_line(server: Server, tmp_path: Path) -> None:
    server.start_ranks([command(tmp_path / "nowhere", tmp_path / "out.jsonl")] * 2)
    assert server.exit_statuses() == [1, 1]
    (line,) = server.printed().splitlines()
    assert line.startswith("warp-train: error: ")
    assert "nowhere" in line
