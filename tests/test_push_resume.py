"""Runs that are copied elsewhere go on from there, on a machine that has nothing of them."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import yaml
from push_helpers import named, steps, wait_until
from runs_helpers import (
    ROOT,
    STAGES,
    arguments,
    assert_same_weights,
    losses,
    metrics,
    one_line_error,
    train,
)
from s3_server import s3_server
from training_server import Server

from warp_train.training import engine
from warp_train.training.run import Run
from warp_train.training.run_state import save

STAGE = STAGES[0]
SMALL = ("data.val_samples=2", "train.max_steps=8", "checkpoint.keep_last=1", "train.log_every=3")
BUCKET = "warps"
TIMES = ("samples_per_sec", "data_wait_frac", "save_frac")


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    with s3_server(BUCKET) as environment:
        yield environment


def objects() -> list[str]:
    client = fsspec.filesystem("s3")
    client.invalidate_cache()
    return sorted(client.find(BUCKET))


def numbers(run: Path) -> list[dict[str, object]]:
    """All metrics but the seconds that they took."""
    rows = [row for split in ("train", "val") for row in metrics(run, split)]
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


def test_a_run_killed_while_it_pushes_to_s3_goes_on_elsewhere_bit_for_bit(
    s3: dict[str, str], server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, here, there = f"s3://{BUCKET}/runs", tmp_path / "here", tmp_path / "there"
    more = (*SMALL, "checkpoint.every_steps=1", "validate.every_steps=4")
    assert train(STAGE, tmp_path / "whole", *more) == 0
    # One command line starts the run and continues it.
    push = (*more, f"checkpoint.push_to={url}", "--resume-from", url)
    before = "push_helpers:hang_at_the_second_state"
    argv = arguments(STAGE, here, *push)
    [process] = server.start_ranks([argv], before=before, env=s3)
    run = f"{BUCKET}/runs/{STAGE}"

    def half_a_checkpoint() -> bool:
        folders = {name.rpartition("/")[0] for name in objects() if "/step-" in name}
        return any(f"{folder}/trainer_state.json" not in objects() for folder in folders)

    wait_until(lambda: f"{run}/last" in objects() and half_a_checkpoint())
    # Training has gone on meanwhile, to its end, and only the copy is behind.
    wait_until((here / STAGE / "summary.json").exists)
    os.kill(process, signal.SIGKILL)
    assert server.exit_status() == -signal.SIGKILL
    assert f"{url}: no run named {STAGE} lies there yet" in server.printed()
    pushed = max(step for step, _ in losses(here / STAGE))
    shutil.rmtree(here)

    capsys.readouterr()
    assert train(STAGE, there, *push) == 0
    printed = capsys.readouterr().err
    begun = next(s for s in range(1, 9) if f"{url}/{STAGE} (step {s}) to {there}" in printed)
    assert begun < pushed
    assert f"steps {begun}…8" in printed
    assert_same_weights(tmp_path / "whole" / STAGE, there / STAGE)
    assert numbers(there / STAGE) == numbers(tmp_path / "whole" / STAGE)
    assert (there / STAGE / "summary.json").read_bytes() == (
        tmp_path / "whole" / STAGE / "summary.json"
    ).read_bytes()

    # What lies at S3 in the end is the run: a plain copy of it is one.
    fsspec.filesystem("s3").get(run, str(tmp_path / "copy"), recursive=True)
    copy = tmp_path / "copy"
    assert steps(copy) == sorted({named(copy, "best"), named(copy, "last")})
    assert named(copy, "last") == 8
    assert_same_weights(tmp_path / "whole" / STAGE, _with_links(copy))
    assert numbers(copy) == numbers(there / STAGE)
    assert sorted(path.name for path in tmp_path.rglob(".*")) == []


def _with_links(run: Path) -> Path:
    """The same run, with links that other programs follow."""
    target = (run / "last").read_text().strip()
    (run / "last").unlink()
    (run / "last").symlink_to(target)
    return run


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    stages = [{"extends": f"{ROOT}/recipes/{stage}.yaml"} for stage in STAGES[:2]]
    path.write_text(yaml.safe_dump({"stages": stages}))
    return path


def test_a_chain_goes_on_elsewhere_in_the_stage_where_it_was_killed(
    chain: Path, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (f"small-{stage}" for stage in STAGES[:2])
    there, url = tmp_path / "there", f"file://{tmp_path}/there"
    more = (*SMALL, "train.max_steps=6", "checkpoint.every_steps=2", f"checkpoint.push_to={url}")
    argv = arguments(str(chain), tmp_path / "one", *more)
    server.start_ranks([argv], before="push_helpers:die_in_stage_2")
    assert server.exit_status() == -signal.SIGKILL
    assert (tmp_path / "one" / second / ".push").is_dir()
    shutil.rmtree(tmp_path / "one")
    finished = (there / first / "summary.json").read_bytes()
    assert not (there / "small" / "summary.json").exists()

    capsys.readouterr()
    assert train(str(chain), tmp_path / "two", *more, "--resume-from", url) == 0
    printed = capsys.readouterr()
    assert f"{tmp_path}/two/{first}: already finished, skipped" in printed.err
    assert f"fetching {url}/{second} (step " in printed.err
    # The table has the stage that was trained elsewhere, since its run lies beside.
    table = printed.out.partition(f"{second}: the same unseen samples")[2]
    assert all(f"\n{stage} " in table for stage in STAGES[:2])
    assert (there / first / "summary.json").read_bytes() == finished
    for name in ("small", first, second):
        ours = tmp_path / "two" / name
        assert (there / name / "summary.json").read_bytes() == (ours / "summary.json").read_bytes()
        assert named(there / name, "best") == int((ours / "best").resolve().name[5:])
    assert train(str(chain), tmp_path / "three", *more, "--resume-from", f"{url}/small") == 0
    assert f"{second}: already finished, skipped" in capsys.readouterr().err
    # Another chain of the same name does not replace the one that lies there.
    shutil.copytree(tmp_path / "three", tmp_path / "four", symlinks=True)
    for state in (tmp_path / "four" / first).rglob("trainer_state.json"):
        content = json.loads(state.read_text())
        state.write_text(json.dumps({**content, "wandb_run_id": "other"}))
    assert train(str(chain), tmp_path / "four", *more, "--resume-from", "auto") == 1
    assert f"{url}/{first} holds another run than" in one_line_error(capsys)


@pytest.fixture(scope="module")
def four_steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("four")
    push = f"checkpoint.push_to=file://{folder}/there"
    more = (*SMALL, "train.max_steps=4", "validate.every_steps=2", push)
    assert train(STAGE, folder / "one", *more) == 0
    return folder


@pytest.fixture
def pushed(four_steps: Path, tmp_path: Path) -> tuple[Path, str]:
    """A run of four steps in the folder `one`, and the URL of where it lies."""
    shutil.copytree(four_steps, tmp_path, symlinks=True, dirs_exist_ok=True)
    return tmp_path / "there" / STAGE, f"file://{tmp_path}/there"


def test_the_newer_of_here_and_there_goes_on(
    pushed: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there, url = pushed
    push = (*SMALL, f"checkpoint.push_to={url}")
    capsys.readouterr()
    # The same machine, which has gone on without pushing.
    auto = ("--resume-from", "auto")
    assert train(STAGE, tmp_path / "one", *SMALL, "train.max_steps=6", *auto) == 0
    assert train(STAGE, tmp_path / "one", *push, "train.max_steps=7", "--resume-from", url) == 0
    printed = capsys.readouterr().err
    assert f"{tmp_path}/one/{STAGE} is at step 6, {url}/{STAGE} at 4: nothing is fetched" in printed
    assert named(there, "last") == 7
    # Another one, which has an older state.
    assert train(STAGE, tmp_path / "two", *push, "train.max_steps=8", "--resume-from", url) == 0
    assert train(STAGE, tmp_path / "one", *push, *auto) == 1
    assert f"has gone on to step 8, {tmp_path}/one/{STAGE} only to 7" in one_line_error(capsys)
    assert train(STAGE, tmp_path / "one", *push, "--resume-from", url) == 0
    assert f"fetching {url}/{STAGE} (step 8)" in capsys.readouterr().err
    assert losses(tmp_path / "one" / STAGE) == losses(tmp_path / "two" / STAGE)
    assert_same_weights(tmp_path / "one" / STAGE, tmp_path / "two" / STAGE)


def test_no_run_takes_the_place_of_another_one(
    pushed: tuple[Path, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    there, url = pushed
    before = {path: path.read_bytes() for path in there.rglob("*") if path.is_file()}
    push = (*SMALL, "train.max_steps=2", f"checkpoint.push_to={url}")
    # A new run of the same name on another machine goes to another name, here and there.
    assert train(STAGE, tmp_path / "two", *push) == 0
    assert f"{url}/{STAGE}: holds a run, which can be resumed; this run goes to" in caplog.text
    assert named(there.with_name(f"{STAGE}-2"), "last") == 2
    # A run that has got the name while nothing was pushed.
    other = tmp_path / "three"
    assert train(STAGE, other, *SMALL, "train.max_steps=2") == 0
    for resume in ("auto", f"{url}/{STAGE}"):
        assert train(STAGE, other, *push, "--resume-from", resume) == 1
        error = one_line_error(capsys)
        assert "another run than" in error
        assert f"{url}/{STAGE}" in error
    assert train(STAGE, tmp_path / "four", *push, "--resume-from", "auto") == 1
    assert f"resume from {url}" in one_line_error(capsys)
    assert {path: path.read_bytes() for path in there.rglob("*") if path.is_file()} == before
    assert not (tmp_path / "four").exists()


def test_a_run_or_one_of_its_checkpoints_is_resumed_by_its_own_url(
    pushed: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, url = pushed
    more = (*SMALL, "train.max_steps=4", "--resume-from")
    for number, place in enumerate(("", "/last", "/checkpoints/step-000000004")):
        assert train(STAGE, tmp_path / f"{number}", *more, f"{url}/{STAGE}{place}") == 0
        assert "steps 4…4" in capsys.readouterr().err
    assert train(STAGE, tmp_path / "no", *more, f"{url}/nothing") == 1
    assert f"no run named {STAGE} lies there" in one_line_error(capsys)
    damaged = tmp_path / "there" / STAGE / "checkpoints" / "step-000000004" / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    assert train(STAGE, tmp_path / "no", *more, f"{url}/{STAGE}") == 1
    assert "not a complete checkpoint" in one_line_error(capsys)
    assert list((tmp_path / "no").iterdir()) == []
    validate = ("--validate-only", *more, url)
    assert train(STAGE, tmp_path / "no", *validate) == 1
    assert "weights are measured on a disk of this machine" in one_line_error(capsys)


def test_two_ranks_resume_what_one_of_them_has_fetched(
    pushed: tuple[Path, str], server: Server, tmp_path: Path
) -> None:
    _, url = pushed
    more = (*SMALL, "train.batch_size=2", f"checkpoint.push_to={url}", "--resume-from", url)
    server.start_ranks([arguments(STAGE, tmp_path / "two", *more)] * 2)
    assert server.exit_statuses() == [0, 0], server.printed()
    assert server.printed().count("fetching") == 1
    assert named(tmp_path / "there" / STAGE, "last") == 8
    assert [step for step, _ in losses(tmp_path / "two" / STAGE)] == [3, 4, 6, 8]


def test_a_prolonged_run_is_not_finished_there_before_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, run = tmp_path / "place", tmp_path / "runs" / STAGE
    few = ("data.val_samples=2", "checkpoint.every_steps=1", f"checkpoint.push_to=file://{place}")
    assert train(STAGE, run.parent, *few, "train.max_steps=2") == 0
    assert (place / STAGE / "summary.json").exists()
    longer = ("train.max_steps=4", "--resume-from", "auto")
    monkeypatch.setattr("warp_train.training.stage_run.train", lambda run, *_: save(run) and 15)
    assert train(STAGE, run.parent, *few, *longer) == 128 + 15  # as interrupted at once
    assert not (place / STAGE / "summary.json").exists()
    monkeypatch.undo()
    older = tmp_path / "older" / STAGE
    shutil.copytree(run, older, symlinks=True)
    (older / "summary.json").write_text("{}")  # as on the machine where it had finished
    assert train(STAGE, run.parent, *few, *longer) == 0
    (place / STAGE / "summary.json").unlink()  # as if killed before it was copied
    there = ("train.max_steps=5", "--resume-from", f"file://{place}")
    finished: list[bool] = []

    def watched(run: Run, *more: Any) -> int | None:
        finished.append((run.run_dir / "summary.json").exists())
        return engine.train(run, *more)

    monkeypatch.setattr("warp_train.training.stage_run.train", watched)
    assert train(STAGE, older.parent, *few, *there) == 0
    assert finished == [False]
    assert [step for step, _ in losses(older)] == [1, 2, 3, 4, 5]
