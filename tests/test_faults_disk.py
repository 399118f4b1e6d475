"""A disk that is full, a folder that is gone: one line or one warning, and nothing is lost."""

import json
import logging
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from errno import EACCES, ENOSPC
from pathlib import Path
from typing import Any

import pytest
from runs_helpers import assert_same_weights, losses, one_line_error, train
from training_toy import ToyRun

from warp_train.training import engine
from warp_train.training.checkpoints import folder as checkpoint_folder
from warp_train.training.run import Run

STAGE = "stage1_param_only"
MORE = ("train.max_steps=8", "checkpoint.every_steps=2", "validate.every_steps=4")
MORE = (*MORE, "tracking.images_every=1", "data.val_samples=4")
WARN = "checkpoint.on_error=warn"
AUTO = ("--resume-from", "auto")


@dataclass
class Faults:
    """A disk that refuses, half-way, to write any path that holds one of `refused`."""

    refused: tuple[str, ...] = ()
    at_step: dict[int, Callable[[Run], object]] = field(default_factory=dict)
    """What happens before a step is taken."""

    def refuses(self, path: object) -> bool:
        return any(name in str(path) for name in self.refused)

    def fill(self, *names: str, first: int = 3, until: int = 10**9) -> None:
        self.at_step[first] = lambda run: setattr(self, "refused", names)
        self.at_step[until] = lambda run: setattr(self, "refused", ())


class _HalfFile:
    """Takes half of what it is given, and then no more; like `write(2)`, it says how much."""

    def __init__(self, file: Any, buffering: int) -> None:
        self._file, self._says = file, buffering == 0

    def write(self, content: bytes) -> int:
        written = int(self._file.write(content[: len(content) // 2]))
        if self._says:
            return written
        raise OSError(ENOSPC, os.strerror(ENOSPC))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "_HalfFile":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    disk = Faults()
    opened, saved, stepped = Path.open, checkpoint_folder.save_file, engine.optimizer_step

    def open_(path: Path, mode: str = "r", buffering: int = -1, **more: Any) -> Any:
        file = opened(path, mode, buffering, **more)
        return _HalfFile(file, buffering) if "r" not in mode and disk.refuses(path) else file

    def save_file(tensors: Any, path: Path, metadata: Any) -> None:
        saved(tensors, path, metadata)
        if disk.refuses(path):
            os.truncate(path, path.stat().st_size // 2)
            raise OSError(ENOSPC, os.strerror(ENOSPC))

    def optimizer_step(run: Run, *more: Any) -> Any:
        disk.at_step.get(run.step, lambda run: None)(run)
        return stepped(run, *more)

    monkeypatch.setattr(Path, "open", open_)
    monkeypatch.setattr(checkpoint_folder, "save_file", save_file)
    monkeypatch.setattr(engine, "optimizer_step", optimizer_step)
    return disk


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing happens to."""
    output = tmp_path_factory.mktemp("whole")
    assert train(STAGE, output, *MORE) == 0
    return output / STAGE


def nothing_is_half_written(run: Path) -> None:
    for link in ("best", "last"):
        assert (run / link / "model.safetensors").is_file()
    assert not [path for path in run.rglob("*") if path.name.startswith(".")]
    for line in (run / "metrics.jsonl").read_text().splitlines():
        json.loads(line)
    for picture in run.glob("images/*"):
        assert picture.read_bytes()[-2:] in (b"\xff\xd9", b"\x60\x82")  # the ends of JPEG and PNG
    steps = [path for path in (run / "checkpoints").iterdir() if checkpoint_folder._STEP]
    assert all((path / "rng-0.safetensors").is_file() for path in steps)


@pytest.mark.parametrize(
    "path",
    [
        "model.safetensors",
        "trainer_state.json",
        "metrics.jsonl",
        "images/.incoming-step",
        "images/.incoming-before_after",
        "summary.json",
    ],
)
def test_a_full_disk_stops_the_run_with_one_line(
    path: str, faults: Faults, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faults.fill(path)
    assert train(STAGE, tmp_path, *MORE) == 1
    message, run = one_line_error(capsys), tmp_path / STAGE
    assert str(run) in message
    assert "No space left on device" in message
    assert "bytes" in message
    assert "too few" in message or "are free there" in message
    assert "Error:" not in message  # an exception that nobody has put into words
    assert not (run / "summary.json").exists()
    nothing_is_half_written(run)
    faults.refused, faults.at_step = (), {}
    assert train(STAGE, tmp_path, *MORE, *AUTO) == 0
    assert_same_weights(whole, run)
    assert losses(run) == losses(whole)
    assert losses(run, "val") == losses(whole, "val")


def test_with_warn_training_goes_on_and_saves_once_there_is_room(
    faults: Faults, whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    faults.fill("model.safetensors", "metrics.jsonl", "images/", until=6)
    assert train(STAGE, tmp_path, *MORE, WARN) == 0
    run = tmp_path / STAGE
    nothing_is_half_written(run)
    assert_same_weights(whole, run)
    assert [step for step, _ in losses(run)] == [1, 2, 3, 7, 8]
    assert not (run / "checkpoints" / "step-000000004").exists()
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    # Each failed save, as it is new work that is at risk; what is lost anyway, once.
    assert sum("step-000000004: the checkpoint could not be written" in line for line in said) == 1
    for path in ("metrics.jsonl", "images"):
        assert sum(f"{run / path}: cannot be written" in line for line in said) == 1
    state = json.loads((run / "best" / "trainer_state.json").read_text())
    assert state["best"]["step"] == state["step"]  # not a best that was never written


@pytest.mark.parametrize("first", [3, 7], ids=["interrupted", "the last"])
def test_the_checkpoint_that_ends_a_run_must_be_written(
    first: int, faults: Faults, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faults.fill("optimizer.safetensors", first=first)
    if first == 3:
        faults.at_step[4] = lambda run: os.kill(os.getpid(), signal.SIGTERM)
    assert train(STAGE, tmp_path, *MORE, WARN) == 1
    assert f"step-00000000{5 if first == 3 else 8}: " in one_line_error(capsys)
    nothing_is_half_written(tmp_path / STAGE)


def _no_checkpoints(run: Run) -> None:
    shutil.rmtree(run.run_dir / "checkpoints")


def _no_folder(run: Run) -> None:
    shutil.rmtree(run.run_dir)


@pytest.mark.parametrize("vanish", [_no_checkpoints, _no_folder])
@pytest.mark.parametrize("on_error", ["raise", "warn"])
def test_what_has_vanished_is_said_and_training_is_not_lost(
    on_error: str,
    vanish: Callable[[Run], None],
    faults: Faults,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    faults.at_step[5] = vanish
    code = train(STAGE, tmp_path, *MORE, f"checkpoint.on_error={on_error}")
    assert code == (1 if on_error == "raise" else 0)
    run = tmp_path / STAGE
    said = one_line_error(capsys) if code else caplog.text
    assert str(run) in said
    assert "vanished" in said or "No such file or directory" in said
    if vanish is _no_checkpoints:  # `best` may lead nowhere, but what was trained is there
        assert int((run / "last").resolve().name[5:]) == (6 if code else 8)
    faults.at_step = {}
    assert train(STAGE, tmp_path, *MORE, *AUTO) == 0
    assert (run / "summary.json").exists()
    nothing_is_half_written(run)


@pytest.mark.parametrize("on_error", ["raise", "warn"])
def test_no_permission_is_said_as_well(
    on_error: str,
    faults: Faults,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    mkdir = os.mkdir

    stat = os.stat
    denied = PermissionError(EACCES, os.strerror(EACCES))

    def refuse(path: Any, *more: Any, **named: Any) -> None:
        raise denied

    def look(path: Any, *more: Any, **named: Any) -> Any:
        if str(path).endswith("/best"):
            raise denied
        return stat(path, *more, **named)

    def give_back(run: Run) -> None:
        monkeypatch.setattr(os, "mkdir", mkdir)
        monkeypatch.setattr(os, "stat", stat)
        # The best is out of reach, not gone; a better one that was not written is none.
        assert run.best is not None
        assert run.best.step == 0

    faults.at_step[3] = lambda run: monkeypatch.setattr(os, "mkdir", refuse)
    faults.at_step[1] = lambda run: monkeypatch.setattr(os, "stat", look)
    faults.at_step[5] = give_back
    more = (f"checkpoint.on_error={on_error}", "validate.best_mode=max")
    code = train(STAGE, tmp_path, *MORE, *more)
    assert code == (1 if on_error == "raise" else 0)
    said = one_line_error(capsys) if code else caplog.text
    assert "checkpoints/step-000000004: the checkpoint could not be written" in said
    assert "Permission denied" in said


def test_what_stands_in_the_place_of_a_folder_is_named(
    faults: Faults, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def replace(run: Run) -> None:
        shutil.rmtree(run.run_dir / "checkpoints")
        (run.run_dir / "checkpoints").write_text("")

    faults.at_step[3] = replace
    assert train(STAGE, tmp_path, *MORE, WARN) == 1
    assert f"{tmp_path / STAGE}/checkpoints/step-000000008: " in one_line_error(capsys)


def test_the_last_one_and_an_interrupted_one_outlive_a_failed_resume(
    faults: Faults, tmp_path: Path
) -> None:
    faults.at_step[5] = lambda run: os.kill(os.getpid(), signal.SIGTERM)
    assert train(STAGE, tmp_path, *MORE, "train.max_steps=8") == 143
    run = tmp_path / STAGE
    assert (run / "interrupted").resolve() == (run / "last").resolve()
    faults.at_step = {}
    faults.refused = ("optimizer.safetensors",)
    assert train(STAGE, tmp_path, *MORE, "train.max_steps=8", *AUTO) == 1
    assert (run / "interrupted" / "model.safetensors").is_file()
    faults.refused = ()
    assert train(STAGE, tmp_path, *MORE, "train.max_steps=8", *AUTO) == 0
    assert (run / "last").resolve().name == "step-000000008"


@pytest.mark.parametrize("operation", ["rename", "fsync"])
def test_a_checkpoint_that_cannot_be_replaced_stays(
    operation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = ToyRun()
    before = toy.save(tmp_path, 1)
    was = (before / "raw.safetensors").read_bytes()
    toy.train(0, 1)
    done, calls = getattr(os, operation), []

    def refuse(*paths: Any) -> None:
        calls.append(paths)
        in_place = operation == "rename" and ".incoming-" in str(paths[0])
        if in_place or len(calls) == 8:  # of the folder that the checkpoints lie in
            raise OSError(ENOSPC, os.strerror(ENOSPC))
        done(*paths)

    monkeypatch.setattr(os, operation, refuse)
    with pytest.raises(checkpoint_folder.CheckpointError, match="No space left"):
        toy.save(tmp_path, 1)
    assert (tmp_path / "last" / "raw.safetensors").read_bytes() == was
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [before.name]
