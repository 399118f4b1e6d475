"""W&B and TensorBoard, through Accelerate's trackers; only the main process talks to them."""

import importlib.util
import secrets
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.tracking import filter_trackers
from numpy.typing import NDArray

from warp_train.recipe.sections import TrackingConfig
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.json_text import to_json
from warp_train.training.given_run import environment_for

EVENTS_FOLDER = "tensorboard"


def tracker_names(tracking: TrackingConfig) -> list[str]:
    """Accelerate's names of the trackers that a recipe turns on.

    Call it before anything is set up: it imports no tracker, and its error names the package.

    Raises:
        WarpTrainError: the package of a tracker is not installed.
    """
    names = [
        *(["wandb"] if tracking.wandb != "off" else []),
        *(["tensorboard"] if tracking.tensorboard else []),
    ]
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise WarpTrainError(
                f"tracking.{name}: the package {name} is not installed; "
                f"pip install 'warp_train[{name}]', or turn it off"
            )
    return names


def new_run_id() -> str:
    """A W&B run id, drawn without touching the seeded generators."""
    return secrets.token_hex(4)


class Trackers:
    """The trackers of one run; does nothing on other processes or where none is configured."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._trackers: dict[str, Any] = {t.name: t for t in accelerator.trackers}
        self._accelerator = accelerator

    def log(self, split: str, values: Mapping[str, float], step: int) -> None:
        """Logs scalars as `<split>/<name>` against the optimizer step."""
        named = {f"{split}/{name}": value for name, value in values.items()}
        if "wandb" in self._trackers:
            # Not as W&B's own step: W&B would drop the steps that a resumed run repeats.
            self._trackers["wandb"].log({**named, "step": step})
        if "tensorboard" in self._trackers:
            self._trackers["tensorboard"].log(named, step=step)

    def log_images(
        self, name: str, images: Sequence[NDArray[np.uint8]], captions: Sequence[str], step: int
    ) -> None:
        """Logs RGB pictures `[H, W, 3]` under one name, each with its caption."""
        if "wandb" in self._trackers:
            import wandb

            panels = [wandb.Image(i, caption=c) for i, c in zip(images, captions, strict=True)]
            self._trackers["wandb"].log({name: panels, "step": step})
        if "tensorboard" in self._trackers:
            batches = {f"{name}/{i}": image[None] for i, image in enumerate(images)}
            self._trackers["tensorboard"].log_images(batches, step=step, dataformats="NHWC")

    def finish(self, *, failed: bool = False) -> None:
        """Closes this run. The process group stays open for the next stage of a chain."""
        for name, tracker in self._trackers.items():
            if name == "wandb":
                tracker.tracker.finish(exit_code=int(failed))
            else:
                tracker.finish()
        self._accelerator.trackers.clear()


def start_trackers(
    accelerator: Accelerator,
    tracking: TrackingConfig,
    *,
    run_dir: Path,
    run_id: str,
    recipe: Mapping[str, Any],
    step: int,
) -> Trackers:
    """Opens the trackers of one run, or continues them where a run is resumed.

    Args:
        run_dir: where W&B's offline files (`wandb/`) and TensorBoard's events (`tensorboard/`) go;
            its name is the run's.
        run_id: `given_run_id`, or else the one that the resumed checkpoint holds: W&B then
            continues the same run; or else `new_run_id()`.
        recipe: as resolved; becomes the run's configuration.
        step: optimizer steps done so far; TensorBoard drops later events.

    Raises:
        WarpTrainError: a tracker could not be started.
    """
    names = tracker_names(tracking)
    accelerator.project_configuration.logging_dir = str(run_dir / EVENTS_FOLDER)
    accelerator.log_with = filter_trackers(names, accelerator.logging_dir)
    try:
        # The configuration goes to wandb.init. Passed to init_trackers, it would open a second run
        # in offline mode under older releases of Accelerate (huggingface/accelerate#3818).
        with environment_for(run_id):
            accelerator.init_trackers(
                tracking.project,
                init_kwargs={
                    "wandb": _wandb_arguments(tracking, run_dir, run_id, recipe),
                    "tensorboard": {"purge_step": step + 1},
                },
            )
    except Exception as error:  # a tracker may raise anything: no account, no network, no space
        reason = str(error).strip().splitlines()[0]
        raise WarpTrainError(
            f"tracking: {' and '.join(names)} could not be started: {reason}"
        ) from error
    trackers = Trackers(accelerator)
    if accelerator.is_main_process:
        _describe_run(accelerator, names, recipe)
    return trackers


def _wandb_arguments(
    tracking: TrackingConfig, run_dir: Path, run_id: str, recipe: Mapping[str, Any]
) -> dict[str, Any]:
    arguments = {
        "name": run_dir.name,
        "id": run_id,
        "resume": "allow",
        "dir": str(run_dir),
        "entity": tracking.entity,
        "tags": list(tracking.tags),
        "config": dict(recipe),
    }
    # "online" is W&B's default: left out, so that WANDB_MODE can override it.
    return {**arguments, "mode": "offline"} if tracking.wandb == "offline" else arguments


def _leave_full_disks_to_the_loop() -> None:
    """Hides tracebacks of TensorBoard's writing thread for errors that `log` raises too."""
    shown = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        writer = "AsyncWriter" in type(args.thread).__name__
        if not (writer and isinstance(args.exc_value, OSError)):
            shown(args)

    threading.excepthook = hook


def _describe_run(accelerator: Accelerator, names: list[str], recipe: Mapping[str, Any]) -> None:
    if "wandb" in names:
        run = accelerator.get_tracker("wandb", unwrap=True)
        run.define_metric("step", hidden=True)
        run.define_metric("*", step_metric="step", step_sync=True)
    if "tensorboard" in names:
        _leave_full_disks_to_the_loop()
        text = "\n".join(f"    {line}" for line in to_json(recipe, indent=2).splitlines())
        accelerator.get_tracker("tensorboard").log({"recipe": text}, step=0)
