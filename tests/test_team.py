"""Processes that share a command's work: how they meet, exchange values, fail and die."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from warp_train.commands.workers import WorkerRule, chosen_workers
from warp_train.runtime import team as module
from warp_train.runtime.cores import usable_cores
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.ranks import Ranks, ranks
from warp_train.runtime.team import PeerError, Team, together

Work = Callable[[Team], Any]


def run(out: Path, *works: Work, late: float = 0.0) -> list[Any]:
    """What each process's work returns or raises; each in a thread, rank 0 first."""
    results: list[Any] = [None] * len(works)

    def process(rank: int, work: Work) -> None:
        time.sleep(late * rank)
        try:
            with together(out, Ranks(rank, len(works))) as team:
                results[rank] = work(team)
        except Exception as error:
            results[rank] = error

    threads = [threading.Thread(target=process, args=pair) for pair in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return results


def test_values_are_exchanged_by_rank_and_nothing_stays(tmp_path: Path) -> None:
    def work(team: Team) -> Any:
        everyone = team.exchange("halves", [0.1, float("inf"), team.rank])
        return everyone, team.share(range(7)), team.finish(team.rank)

    results = run(tmp_path / "out", *[work] * 3)
    assert [everyone for everyone, _, _ in results] == [
        [[0.1, float("inf"), rank] for rank in range(3)]
    ] * 3
    assert sorted(item for _, share, _ in results for item in share) == list(range(7))
    assert [last for _, _, last in results] == [[0, 1, 2], None, None]
    assert list(tmp_path.iterdir()) == []


def test_a_process_alone_leaves_no_files(tmp_path: Path) -> None:
    with together(tmp_path / "out", Ranks()) as team:
        assert team.exchange("value", 5) == [5]
        assert team.share([1, 2]) == [1, 2]
        assert team.finish("x") == ["x"]
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("late", [0.0, 0.3])
def test_what_an_earlier_run_has_left_is_no_answer(late: float, tmp_path: Path) -> None:
    def dies(team: Team) -> Any:
        team.exchange("value", "old")
        raise ValueError("disk")

    run(tmp_path / "out", dies, lambda team: team.finish(team.exchange("value", "old")))
    (folder,) = tmp_path.iterdir()
    before = {path.name for path in folder.iterdir()}
    assert {"hello-0.json", "hello-1.json"} < before
    assert any("-end-1" in name for name in before)

    def work(team: Team) -> Any:
        return team.exchange("value", "new"), team.finish("new")

    first, second = run(tmp_path / "out", work, work, late=late)
    assert first == (["new", "new"], ["new", "new"])
    assert second == (["new", "new"], None)
    assert list(tmp_path.iterdir()) == []


def test_the_error_of_one_ends_those_who_wait(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(team: Team) -> Any:
        raise WarpTrainError("no\ndisk")

    first, second, third = run(tmp_path / "out", Team.finish, fails, lambda t: t.exchange("v", 1))
    assert isinstance(first, PeerError)
    assert str(first) == "rank 1 failed: no disk"
    assert str(second) == "no\ndisk"
    assert str(third) == str(first)
    assert capsys.readouterr().err == ""  # rank 0 prints it


def test_an_error_that_rank_0_never_meets_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SAME_ERROR_S", 0.1)

    def fails(team: Team) -> Any:
        raise WarpTrainError("no disk")

    run(tmp_path / "out", lambda team: time.sleep(0.5), fails)
    assert capsys.readouterr().err == "warp-train: error: rank 1: no disk\n"


def test_a_process_without_a_sign_of_life_is_taken_for_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SILENCE_S", 0.6)
    monkeypatch.setattr(module, "_BEAT_S", 0.05)
    ended = threading.Event()

    def dies(team: Team) -> None:
        team._rest()  # as a killed process: it writes nothing any more
        ended.wait(20)

    def waits(team: Team) -> Any:
        try:
            return team.finish()
        finally:
            ended.set()

    first, _ = run(tmp_path / "out", waits, dies)
    assert "rank 1 has died: no sign of life for 1 s" in str(first)

    def slow(team: Team) -> Any:
        time.sleep(1.5)
        return team.finish()

    assert run(tmp_path / "out", Team.finish, slow) == [[None, None], None]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_does_not_start_is_named(
    rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "START_S", 0.2)
    with (
        pytest.raises(WarpTrainError, match=f"rank {1 - rank} has not started within 0 s"),
        together(tmp_path / "out", Ranks(rank, 2)),
    ):
        pass


def test_processes_with_other_photos_are_refused(tmp_path: Path) -> None:
    def work(team: Team) -> Any:
        team.agree("photos", ["a", "b"][: 2 - team.rank])

    first, second = run(tmp_path / "out", work, work)
    assert "rank 1 finds other photos than rank 0 (1 and 2)" in str(first)
    assert str(second) == str(first)


def test_files_of_others_stay(tmp_path: Path) -> None:
    folder = tmp_path / "out.ranks"
    folder.mkdir()
    (folder / "mine.txt").write_text("x")
    run(tmp_path / "out", Team.finish, Team.finish)
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


def launched(monkeypatch: pytest.MonkeyPatch, **given: str) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)


def test_the_place_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    launched(monkeypatch, WORLD_SIZE="4")  # as some machines have it for all programs
    assert ranks() == Ranks()
    launched(monkeypatch, RANK="5", WORLD_SIZE="8", LOCAL_RANK="1", LOCAL_WORLD_SIZE="4")
    assert ranks() == Ranks(5, 8, 1, 4)
    for wrong in ({"RANK": "2"}, {"RANK": "x"}, {"RANK": "-1"}):
        launched(monkeypatch, WORLD_SIZE="2", **wrong)
        with pytest.raises(WarpTrainError, match=f"RANK={wrong['RANK']}, .*WORLD_SIZE=2"):
            ranks()


def test_processes_of_one_machine_divide_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = WorkerRule(least=1)
    launched(monkeypatch)
    assert chosen_workers(rule, None, 10_000) == min(usable_cores(), 256)
    monkeypatch.setattr("warp_train.commands.workers.usable_cores", lambda: 12)
    launched(monkeypatch, RANK="0", WORLD_SIZE="8", LOCAL_WORLD_SIZE="4")
    assert chosen_workers(rule, None, 10_000) == 3
    assert chosen_workers(rule, 7, 10_000) == 7
    launched(monkeypatch, RANK="0", WORLD_SIZE="16", LOCAL_WORLD_SIZE="16")
    assert chosen_workers(rule, None, 10_000) == 1


def test_each_process_of_a_machine_takes_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from warp_train.inference.predictor import _device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    launched(monkeypatch, RANK="9", WORLD_SIZE="16", LOCAL_RANK="3", LOCAL_WORLD_SIZE="6")
    assert [str(_device(name)) for name in ("auto", "cuda", "cpu")] == ["cuda:3", "cuda:3", "cpu"]
    launched(monkeypatch, RANK="5", WORLD_SIZE="6", LOCAL_RANK="5", LOCAL_WORLD_SIZE="6")
    assert str(_device("auto")) == "cuda:1"
    launched(monkeypatch)
    assert str(_device("auto")) == "cuda:0"


def test_a_value_appears_whole(tmp_path: Path) -> None:
    """A process that polls never reads half a value."""
    large = ["x" * 1000] * 2000

    def work(team: Team) -> Any:
        everyone = team.exchange("large", large)
        team.finish()
        return everyone

    assert run(tmp_path / "out", work, work) == [[large, large]] * 2
