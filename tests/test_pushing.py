"""Pushing beside training: nothing waits for it, failures are repeated, and the copy is a run."""

import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from fsspec.registry import known_implementations
from hub_server import hub_server
from huggingface_hub import constants
from push_helpers import OddFileSystem, named, steps, wait_until
from runs_helpers import ROOT, STAGES, assert_same_weights, metrics, one_line_error, train
from training_toy import ToyRun

from warp_train.training import stages
from warp_train.training.checkpoints.folder import prune_checkpoints
from warp_train.training.remote import staging
from warp_train.training.remote.places import open_place
from warp_train.training.remote.pusher import Patience, Pusher
from warp_train.training.run_folder import RECIPE_FILE

STAGE = STAGES[0]
SMALL = ("data.val_samples=2", "train.max_steps=6", "checkpoint.keep_last=1")
QUICK = Patience(first_pause_s=0.01, longest_pause_s=0.05, at_the_end_s=0.5)
KEY = "checkpoint.push_to"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "Pusher", partial(Pusher, patience=QUICK))


def never() -> bool:
    return False


class Saved:
    """A run folder with checkpoints of a toy network, and its pusher to `odd://`."""

    def __init__(self, folder: Path) -> None:
        self.run, self.there, self.toy = folder / "run", folder / "there" / "run", ToyRun()
        self.run.mkdir()
        (self.run / RECIPE_FILE).write_text("seed: 7\n")
        self.place = f"odd://{folder}/there"
        self.pusher = Pusher({self.place: open_place(self.place)}, QUICK)

    def save(self, step: int, *links: Any) -> None:
        self.toy.train(step - 1, step)
        self.toy.save(self.run, step, ("last", *links))
        prune_checkpoints(self.run, 1)
        with (self.run / "metrics.jsonl").open("a") as file:
            file.write(f'{{"step": {step}}}\n')
        began = time.monotonic()
        self.pusher.note(self.run, self.place)
        assert time.monotonic() - began < 1


@pytest.fixture(params=[True, False], ids=["hard links", "no hard links"])
def saved(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Saved:
    if not request.param:

        def refuse(*arguments: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(staging.os, "link", refuse)
    OddFileSystem.begin(is_open=False)
    return Saved(tmp_path)


def test_states_in_between_are_left_out_and_one_that_has_begun_is_finished(saved: Saved) -> None:
    saved.save(1, "best")
    wait_until(lambda: not saved.pusher._pending)  # its copy has begun, and hangs
    for step in (2, 3, 4):
        saved.save(step)
    saved.save(5, "best")
    saved.save(6)
    assert steps(saved.run) == [5, 6]  # retention goes on meanwhile
    OddFileSystem.gate.set()
    saved.pusher.finish(never)
    assert steps(saved.there) == [5, 6]
    assert (named(saved.there, "best"), named(saved.there, "last")) == (5, 6)
    names = [path.removeprefix(f"{saved.there}/") for path in OddFileSystem.written]
    copied = [name for name in names if name.endswith("trainer_state.json")]
    assert [int(name.split("/")[1][5:]) for name in copied] == [1, 5, 6]
    # A pointer comes after all files of its checkpoint, and the metrics before it.
    first = names[: names.index("last") + 1]
    assert first.index("metrics.jsonl") < first.index("best") == first.index(copied[0]) + 1
    assert (saved.there / "metrics.jsonl").read_bytes() == (
        saved.run / "metrics.jsonl"
    ).read_bytes()
    for name in ("best", "last"):
        ours = (saved.run / name).resolve()
        for file in ours.iterdir():
            assert (saved.there / "checkpoints" / ours.name / file.name).read_bytes() == (
                file.read_bytes()
            )
    hidden = [path for place in (saved.run, saved.there) for path in place.rglob(".*")]
    assert hidden == []


def test_a_state_that_is_there_already_is_not_copied_again(saved: Saved) -> None:
    OddFileSystem.gate.set()
    saved.save(1, "best")
    wait_until(lambda: (saved.there / "last").exists() and not saved.pusher._outstanding())
    OddFileSystem.written.clear()
    saved.pusher.note(saved.run, saved.place)
    wait_until(lambda: not saved.pusher._outstanding())
    assert not any("checkpoints" in path for path in OddFileSystem.written)
    # The same step again, with another state: as after a resume in the middle of a validation.
    state = saved.run / "checkpoints" / "step-000000001" / "trainer_state.json"
    state.write_text(state.read_text().replace('"epoch": 0', '"epoch": 1'))
    (saved.there / "checkpoints" / "step-000000001" / "raw-of-before.safetensors").write_text("x")
    saved.pusher.note(saved.run, saved.place)
    saved.pusher.finish(never)
    copy = saved.there / "checkpoints" / "step-000000001"
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == {
        path.name: path.read_bytes() for path in state.parent.iterdir()
    }


def test_an_outage_is_one_warning_and_is_survived(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    OddFileSystem.begin(failures=4)
    saved = Saved(tmp_path)
    saved.save(1, "best")
    wait_until(lambda: OddFileSystem.failures == 0)
    saved.save(2)
    saved.pusher.finish(never)
    assert (named(saved.there, "best"), named(saved.there, "last")) == (1, 2)
    logged = [record.getMessage() for record in caplog.records]
    assert logged == [
        f"{KEY}: {saved.place}/run cannot be written now (the network is down); training "
        "continues, and the copy is repeated",
        f"{KEY}: {saved.place}/run works again",
    ]


def test_training_ends_while_a_copy_hangs_and_then_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    OddFileSystem.begin(is_open=False)
    there, run = tmp_path / "there" / STAGE, tmp_path / "here" / STAGE
    told: list[str] = []

    def open_when_the_wait_begins(line: str) -> None:
        told.append(line)
        if line.startswith("copying"):
            assert (run / "summary.json").exists()
            assert not (there / "last").exists()
            OddFileSystem.gate.set()

    monkeypatch.setattr("warp_train.training.remote.pusher.tell", open_when_the_wait_begins)
    push = f"{KEY}=odd://{tmp_path}/there"
    assert train(STAGE, tmp_path / "here", *SMALL, "checkpoint.every_steps=1", push) == 0
    assert [row["step"] for row in metrics(run)] == [1, 2, 3, 4, 5, 6]
    assert told[0].startswith(f"copying {run} (step-000000006) to odd://{there}")
    assert told[1:] == [f"copied to odd://{there}"]
    assert named(there, "last") == 6
    assert (there / "summary.json").read_bytes() == (run / "summary.json").read_bytes()
    assert list(tmp_path.rglob(".*")) == []


@pytest.mark.usefixtures("quick")
def test_a_copy_that_never_succeeds_is_a_warning_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    OddFileSystem.begin()
    here, url = tmp_path / "here", f"odd://{tmp_path}/there"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OddFileSystem, "put_file", _refuse)
        assert train(STAGE, here, *SMALL, f"{KEY}={url}") == 0
    assert caplog.text.count("cannot be written now (no room left)") == 1
    assert f"{here}/{STAGE} (step-000000006) is not completely copied to {url}/{STAGE}" in (
        caplog.text
    )
    assert not list((tmp_path / "there").rglob("last"))
    assert list(tmp_path.rglob(".*")) == []
    # Repeating the command copies it, and trains no step.
    capsys.readouterr()
    more = (f"{KEY}={url}", "--resume-from", "auto")
    assert train(STAGE, here, *SMALL, *more) == 0
    assert named(tmp_path / "there" / STAGE, "last") == 6
    assert len(metrics(here / STAGE)) == 6


def _refuse(*arguments: object, **more: object) -> None:
    raise OSError("no room left")


def test_a_signal_ends_the_wait_for_a_copy_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    OddFileSystem.begin(is_open=False)
    here, url = tmp_path / "here", f"odd://{tmp_path}/there"

    def interrupt_the_wait(line: str) -> None:
        assert line.startswith("copying")
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("warp_train.training.remote.pusher.tell", interrupt_the_wait)
    assert train(STAGE, here, *SMALL, f"{KEY}={url}") == 128 + signal.SIGTERM
    OddFileSystem.gate.set()
    assert f"{here}/{STAGE} (step-000000006) is not completely copied to {url}" in caplog.text
    assert (here / STAGE / "summary.json").exists()
    assert list(here.rglob(".*")) == []


def test_the_hub_gets_each_state_as_one_commit_and_gives_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    states: list[tuple[int, int]] = []

    def look(repository: Path) -> None:
        run = repository / "nets" / STAGE
        best, last = named(run, "best"), named(run, "last")
        assert steps(run) == sorted({best, last})
        states.append((best, last))

    monkeypatch.setenv("HF_TOKEN", "hf_test")
    place = "hf://me/project/nets"
    push = (*SMALL, "checkpoint.every_steps=2", f"{KEY}={place}")
    with hub_server(tmp_path / "hub", look) as (url, made):
        # Read from the environment when the package was imported.
        monkeypatch.setattr(constants, "ENDPOINT", url)
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        assert train(STAGE, tmp_path / "one", *push) == 0
        assert made == ["create me/project private"]
        assert states[-1][1] == 6
        assert train(STAGE, tmp_path / "two", *push, "--resume-from", place) == 0
        assert f"fetching {place}/{STAGE} (step 6)" in capsys.readouterr().err
        assert train(STAGE, tmp_path / "three", *SMALL, f"{KEY}=stranger/nets") == 1
        error = one_line_error(capsys)
    assert_same_weights(tmp_path / "one" / STAGE, tmp_path / "two" / STAGE)
    assert f"{KEY}: stranger/nets: cannot be written to (" in error
    assert "403" in error
    assert not (tmp_path / "three").exists()


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("/mnt/runs", "/mnt/runs is not allowed (must be a URL such as s3://bucket/runs, or a hub"),
        ("name", "name is not allowed"),
        ("nothing://runs", "nothing://runs: nothing:// cannot be opened (Protocol not known"),
        ("absent://runs", "absent://runs: Please install absent"),
        ("file://{}/here", "/here: the runs themselves lie there: push elsewhere"),
        ("odd:///{}/there/runs", "cannot be written to (the network is down)"),
    ],
)
def test_a_place_that_cannot_be_written_to_ends_the_run_before_it_begins(
    place: str,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    OddFileSystem.begin(failures=1)
    absent = {"class": "absent.Absent", "err": "Please install absent"}
    monkeypatch.setitem(known_implementations, "absent", absent)
    assert train(STAGE, tmp_path / "here", *SMALL, f"{KEY}={place.format(tmp_path)}") == 1
    error = one_line_error(capsys)
    assert f"{KEY}: " in error
    assert reason in error
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_ends_before_its_first_step_leaves_nothing_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = (*SMALL, "train.max_steps=2", "validate.best_metric=nothing")
    assert train(STAGE, tmp_path / "here", *more, f"{KEY}=file://{tmp_path}/a/there") == 1
    assert "best_metric" in one_line_error(capsys)
    assert list(tmp_path.iterdir()) == []


def test_the_stages_of_a_chain_have_one_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "chain.yaml"
    entries = [
        {"extends": f"{ROOT}/recipes/{stage}.yaml", "checkpoint": {"push_to": f"file:///{stage}"}}
        for stage in STAGES[:2]
    ]
    path.write_text(yaml.safe_dump({"stages": entries}))
    assert train(str(path), tmp_path / "runs", *SMALL) == 1
    assert f"{KEY}: the stages of chain have different places" in one_line_error(capsys)
