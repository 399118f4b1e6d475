"""Retention spares what something points at: a link of the run, or another run's start."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runs_helpers import train
from training_toy import ToyRun

from warp_train.runtime.errors import WarpTrainError
from warp_train.training.checkpoints.folder import (
    find_checkpoint,
    find_start,
    newest_checkpoint,
    prune_checkpoints,
)

STAGE = "stage1_param_only"
AUTO = ("--resume-from", "auto")
FEW = ("checkpoint.every_steps=2", "validate.every_steps=1000", "checkpoint.keep_last=1")


def steps(run: Path) -> list[int]:
    return sorted(int(path.name[5:]) for path in (run / "checkpoints").iterdir())


@pytest.mark.parametrize("named", ["checkpoints/step-000000002", "best"])
def test_what_another_run_started_from_is_never_pruned(named: str, tmp_path: Path) -> None:
    first, second = tmp_path / STAGE, tmp_path / "stage2_hybrid"
    assert train(STAGE, tmp_path, *FEW, "checkpoint.keep_last=50", "train.max_steps=4") == 0
    (first / "best").unlink()
    (first / "best").symlink_to("checkpoints/step-000000002")
    start = ("--init-from", str(first / named), "train.max_steps=3")
    assert train("stage2_hybrid", tmp_path, *FEW, *start) == 0
    # Resumed, with a best of its own, and pruning: what the second started from stays.
    (first / "best").unlink()
    assert train(STAGE, tmp_path, *FEW, "train.max_steps=8", "train.log_every=9", *AUTO) == 0
    assert 2 in steps(first)
    assert 4 not in steps(first)
    started = json.loads((second / "summary.json").read_text())["stages"][STAGE]
    resumed = ("train.max_steps=4", "--init-from", str(first / named), *AUTO)
    assert train("stage2_hybrid", tmp_path, *FEW, *resumed) == 0
    assert json.loads((second / "summary.json").read_text())["stages"][STAGE] == started
    for pin in (first / "pinned").iterdir():
        pin.unlink()
    prune_checkpoints(first, 1)
    assert steps(first) == [8]


def test_a_run_that_cannot_be_written_to_is_started_from_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert train(STAGE, tmp_path, *FEW, "train.max_steps=2") == 0
    (tmp_path / STAGE / "pinned").write_text("in the way, as a right that is missing would be")
    start = ("--init-from", str(tmp_path / STAGE), "train.max_steps=2")
    assert train("stage2_hybrid", tmp_path, *FEW, *start) == 0
    assert "may be removed by its own run's retention" in caplog.text


def test_names_that_no_file_can_have() -> None:
    for name in ("x" * 5000, "a\0b", "\udcff", ""):
        with pytest.raises(WarpTrainError) as refused:
            find_checkpoint(Path(name) / "run", "best")
        assert str(refused.value).isprintable()
        assert newest_checkpoint(Path(name) / "run") is None


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ToyRun().save(tmp_path_factory.mktemp("sound"), 1)


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_links_to_anywhere(data: st.DataObject, tmp_path: Path, sound: Path) -> None:
    run = tmp_path / "run"
    for step in (1, 2):
        place = run / "checkpoints" / f"step-00000000{step}"
        if not place.exists():
            shutil.copytree(sound, place)
    for folder in ("checkpoints/step-000000002-copy", "pinned"):
        (run / folder).mkdir(exist_ok=True)
    to = st.sampled_from(
        [".", "..", "best", "last", "checkpoints", "nowhere", "x" * 300, "/dev/zero", "/"]
        + [f"checkpoints/step-00000000{step}" for step in (1, 2, 7)]
        + ["checkpoints/step-000000001/model.safetensors", "../run/best", "pinned/a"]
    )
    for name in ("best", "last", "interrupted", "pinned/a", "checkpoints/step-000000007"):
        (run / name).unlink(missing_ok=True)
        if data.draw(st.booleans()):
            (run / name).symlink_to(data.draw(to))
    complete = [(run / "checkpoints" / f"step-00000000{step}").resolve() for step in (1, 2)]
    assert newest_checkpoint(run) in complete
    spared = [p for link in ("best", "last", "interrupted", "pinned/a") if (p := led(run / link))]
    spared = [place for place in spared if place in complete]
    for path in (run, *run.iterdir()):
        complaint, found = str(path), []
        try:
            found = [find_checkpoint(path, "best"), find_checkpoint(path, "last")]
            found.append(find_start(path, tmp_path))
        except WarpTrainError as error:
            complaint = str(error)
        assert str(path) in complaint
        assert all((place / "model.safetensors").is_file() for place in found)
    prune_checkpoints(run, 10)
    assert all(place.is_dir() for place in complete)
    prune_checkpoints(run, 1)
    assert all(place.exists() for place in spared)
    assert (run / "checkpoints" / "step-000000002-copy").is_dir()


def led(link: Path) -> Path | None:
    """Where a link leads."""
    try:
        return link.resolve(strict=True)
    except (OSError, RuntimeError):
        return None
