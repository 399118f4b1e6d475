"""W&B and TensorBoard through Accelerate: one run, one id, also offline and over a resume."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from accelerate import Accelerator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from warp_train.recipe.sections import TrackingConfig
from warp_train.runtime.errors import WarpTrainError
from warp_train.training.trackers import new_run_id, start_trackers, tracker_names

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
