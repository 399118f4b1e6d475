"""Trackers through Accelerate: one run, one id, also offline and over a resume."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import accelerate.tracking
import numpy as np
import pytest
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from accelerate.utils import LoggerType
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from warp_train.recipe.sections import TrackingConfig
from warp_train.runtime.errors import WarpTrainError
from warp_train.training.tracker_kinds import KINDS
from warp_train.training.trackers import Trackers, new_run_id, start_trackers, tracker_names

ROOT = Path(__file__).parent.parent

OFFLINE_RUN = """
import json, os, random, sys, time
from pathlib import Path
import numpy as np
from accelerate import Accelerator
from warp_train.recipe.sections import TrackingConfig
from warp_train.training.trackers import start_trackers

run_dir, run_id = Path(sys.argv[1]), sys.argv[2]
random.seed(3)
before = random.getstate()
accelerator = Accelerator(cpu=True)
for step, mode in (0, "online"), (5, "offline"):  # the second time as a resumed run does it
    tracking = TrackingConfig(wandb=mode, project="straight", tags=("one",))
    trackers = start_trackers(
        accelerator, tracking, run_dir=run_dir, run_id=run_id, recipe={"seed": 3}, step=step
    )
    run = accelerator.get_tracker("wandb", unwrap=True)
    trackers.log("train", {"loss/total": 0.5}, step + 1)
    pictures = [np.full((8, 8, 3), 10 * step + i, np.uint8) for i in range(2)]
    trackers.log_images("panels", pictures, ["house 1", "house 2"], step + 1)
    print(json.dumps([run.id, run.name, dict(run.config), random.getstate() == before]))
    trackers.finish()
    os.environ.pop("WANDB_MODE", None)  # the first run is offline by this, the second by recipe
    time.sleep(1.1)  # W&B names its folders by the second
"""


def test_offline_wandb_is_one_run_with_one_id_over_a_resume(tmp_path: Path) -> None:
    run_dir = tmp_path / "quick"
    run_dir.mkdir()
    printed = subprocess.run(
        [sys.executable, "-c", OFFLINE_RUN, str(run_dir), "abcd1234"],
        env={
            **os.environ,
            "WANDB_MODE": "offline",
            "WANDB_SILENT": "true",
            "PYTHONPATH": str(ROOT),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert [json.loads(line) for line in printed] == [["abcd1234", "quick", {"seed": 3}, True]] * 2
    offline = sorted(path.name for path in (run_dir / "wandb").glob("offline-run-*"))
    assert len(offline) == 2, "one folder each for the run and its continuation"
    assert all(name.endswith("-abcd1234") for name in offline)
    assert len(list(run_dir.rglob("*.png"))) == 4
    assert {path.name for path in tmp_path.iterdir()} == {"quick"}


def test_tensorboard_gets_scalars_pictures_and_the_recipe(tmp_path: Path) -> None:
    accelerator = Accelerator(cpu=True)
    tracking = TrackingConfig(tensorboard=True, project="straight")
    for first, last in ((0, 3), (2, 4)):  # resumed at step 2: what came after is written again
        trackers = start_trackers(
            accelerator, tracking, run_dir=tmp_path, run_id="x", recipe={"seed": 3}, step=first
        )
        for step in range(first + 1, last + 1):
            trackers.log("val", {"epe_px": step / 4 + first}, step)
        pictures = [np.full((8, 8, 3), 255, np.uint8), np.zeros((4, 6, 3), np.uint8)]
        trackers.log_images("panels", pictures, ["a", "b"], last)
        trackers.finish()
    assert accelerator.trackers == []
    events = EventAccumulator(str(tmp_path / "tensorboard" / "straight")).Reload()
    scalars = [(event.step, event.value) for event in events.Scalars("val/epe_px")]
    assert scalars == [(1, 0.25), (2, 0.5), (3, 2.75), (4, 3.0)]
    assert events.Images("panels/1")[0].height == 4
    assert "recipe/text_summary" in events.Tags()["tensors"]


RECIPE = {"seed": 3, "optim": {"lr": 0.5, "betas": [0.9, 0.99]}, "init_from": None}
PICTURES = [np.full((8, 8, 3), 255, np.uint8), np.zeros((4, 6, 3), np.uint8)]


def opened(name: str, run_dir: Path, step: int, run_id: str = "abcd1234") -> Trackers:
    return start_trackers(
        Accelerator(cpu=True),
        TrackingConfig.model_validate({"with": [name], "project": "straight", "tags": ["one"]}),
        run_dir=run_dir,
        run_id=run_id,
        recipe=RECIPE,
        step=step,
    )


def run_and_resume(name: str, run_dir: Path) -> None:
    """Three steps with pictures, and two more from step 2 on; then another run."""
    for first, last in ((0, 3), (2, 4)):
        trackers = opened(name, run_dir, first)
        for step in range(first + 1, last + 1):
            trackers.log("val", {"epe_px": step / 4 + first}, step)
        trackers.log_images("val/panels", PICTURES, ["house 1", "house 2"], last)
        trackers.finish(failed=first == 0)
    other = opened(name, run_dir, 0, run_id="other")
    other.log("val", {"epe_px": 9.0}, 1)
    other.finish()


def test_mlflow_continues_the_run_that_has_its_tag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is too large for the extra `test`")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    run_and_resume("mlflow", tmp_path / "quick")
    client = mlflow.MlflowClient()
    [experiment] = client.search_experiments(filter_string="name = 'straight'")
    other, run = client.search_runs([experiment.experiment_id], order_by=["start_time DESC"])
    history = client.get_metric_history(run.info.run_id, "val/epe_px")
    assert [(point.step, point.value) for point in history][:3] == [(1, 0.25), (2, 0.5), (3, 0.75)]
    assert [(point.step, point.value) for point in history][3:] == [(3, 2.75), (4, 3.0)]
    assert (run.info.run_name, run.info.status) == ("quick", "FINISHED")
    assert run.data.params["optim.betas"] == "[0.9, 0.99]"
    assert run.data.tags["one"] == "true"
    images = client.list_artifacts(run.info.run_id, "images")
    assert sum(file.path.endswith(".png") for file in images) == 4
    assert [p.value for p in client.get_metric_history(other.info.run_id, "val/epe_px")] == [9.0]


def test_trackio_continues_the_run_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("trackio", reason="trackio brings a web server, and is not in `test`")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); "
    code += "from pathlib import Path; from test_training_trackers import run_and_resume; "
    subprocess.run(
        [sys.executable, "-c", code + f"run_and_resume('trackio', Path({str(tmp_path)!r}))"],
        check=True,
        cwd=ROOT,
    )
    [store] = tmp_path.glob("*.db")
    with sqlite3.connect(store) as rows:
        logged = rows.execute("select run_name, step, metrics from metrics order by id").fetchall()
    points = [(name, step, json.loads(values)) for name, step, values in logged]
    mine = [(step, v["val/epe_px"]) for name, step, v in points if "epe_px" in str(v)]
    assert mine == [(1, 0.25), (2, 0.5), (3, 0.75), (3, 2.75), (4, 3.0), (1, 9.0)]
    assert {name for name, *_ in points} == {f"{tmp_path.name}-abcd1234", f"{tmp_path.name}-other"}
    assert len(list(tmp_path.rglob("*.png"))) == 4


class Fake(GeneralTracker):  # type: ignore[misc]
    """Stands for a tracker of a package that is not installed here."""

    name = "dvclive"
    requires_logging_directory = False

    def __init__(self, project: str, **given: object) -> None:
        self.calls: list[object] = [project, given]

    @property
    def tracker(self) -> "Fake":
        return self

    def store_init_configuration(self, values: dict[str, object]) -> None:
        self.calls.append(values)

    def log(self, values: dict[str, float], step: int | None = None) -> None:
        if not values:
            raise RuntimeError("no answer\nfrom the server")
        self.calls.append((values, step))

    def finish(self) -> None:
        self.calls.append("finished")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setitem(accelerate.tracking.LOGGER_TYPE_TO_CLASS, "dvclive", Fake)
    available = [*accelerate.tracking.get_available_trackers(), LoggerType.DVCLIVE]
    monkeypatch.setattr(accelerate.tracking, "_available_trackers", available)


def test_any_tracker_of_accelerate_gets_scalars_and_the_recipe(fake: None, tmp_path: Path) -> None:
    trackers = opened("dvclive", tmp_path, 5)
    tracker = trackers._trackers["dvclive"]
    trackers.log("train", {"lr": 0.1}, 6)
    trackers.log_images("val/panels", PICTURES, ["a", "b"], 6)  # this one has no pictures
    trackers.finish()
    assert tracker.calls == [
        "straight",
        {"dir": str(tmp_path / "dvclive"), "resume": True, "save_dvc_exp": False},
        {"seed": 3, "optim.lr": 0.5, "optim.betas": "[0.9, 0.99]", "init_from": "null"},
        ({"train/lr": 0.1}, 6),
        "finished",
    ]


def test_a_tracker_that_fails_does_not_end_the_training(
    fake: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trackers = opened("dvclive", tmp_path, 0)
    for step in range(3):
        trackers.log("train", {}, step)
    assert caplog.messages == ["tracking: dvclive failed (no answer); training continues"]


def test_every_tracker_of_accelerate_can_be_named() -> None:
    theirs = {str(LoggerType(value)) for value in LoggerType.list()} - {"all"}
    assert theirs == KINDS.keys()
    assert TrackingConfig.model_validate({"with": sorted(theirs)}).trackers == (*sorted(theirs),)


def test_the_keys_of_w_and_b_and_tensorboard_stay_beside_the_list() -> None:
    config = {"with": ["tensorboard", "wandb"], "wandb": "offline", "tensorboard": True}
    assert tracker_names(TrackingConfig.model_validate(config)) == ["tensorboard", "wandb"]
    assert tracker_names(TrackingConfig(wandb="online", tensorboard=True)) == [
        "wandb",
        "tensorboard",
    ]


def test_without_trackers_logging_does_nothing(tmp_path: Path) -> None:
    trackers = start_trackers(
        Accelerator(cpu=True), TrackingConfig(), run_dir=tmp_path, run_id="x", recipe={}, step=0
    )
    trackers.log("train", {"loss/total": 1.0}, 1)
    trackers.log_images("panels", [np.zeros((2, 2, 3), np.uint8)], ["a"], 1)
    trackers.finish()
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_one_line_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        WarpTrainError, match=r"tracking\.wandb: the package wandb is not installed"
    ):
        tracker_names(TrackingConfig(wandb="online"))
    assert tracker_names(TrackingConfig(wandb="off", tensorboard=False)) == []
    with pytest.raises(
        WarpTrainError, match=r"with: mlflow: the package .*; pip install mlflow, or"
    ):
        tracker_names(TrackingConfig.model_validate({"with": ["mlflow"]}))


def test_an_accelerate_without_a_tracker_is_one_line(
    fake: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accelerate.tracking, "_available_trackers", [])
    with pytest.raises(
        WarpTrainError, match=r"with: aim: Accelerate [\d.]+ cannot use the install"
    ):
        tracker_names(TrackingConfig.model_validate({"with": ["aim"]}))


def test_training_modules_do_not_import_wandb() -> None:
    code = "import sys, warp_train.training.trackers; print('wandb' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_a_tracker_that_cannot_start_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tensorboard").write_text("in the way")
    with pytest.raises(
        WarpTrainError, match="tracking: tensorboard could not be started"
    ) as caught:
        start_trackers(
            Accelerator(cpu=True),
            TrackingConfig(tensorboard=True),
            run_dir=tmp_path,
            run_id="x",
            recipe={},
            step=0,
        )
    assert "\n" not in str(caught.value)


def test_run_ids_differ() -> None:
    assert len({new_run_id() for _ in range(20)}) == 20
