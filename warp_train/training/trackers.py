"""W&B, TensorBoard, MLflow and others, through Accelerate's trackers; only the main process talks
to them."""

import importlib.util
import logging
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import accelerate
import numpy as np
from accelerate import Accelerator
from accelerate.tracking import filter_trackers
from numpy.typing import NDArray

from warp_train.recipe.sections import TrackingConfig
from warp_train.runtime.errors import WarpTrainError
from warp_train.training.given_run import environment_for
from warp_train.training.tracker_kinds import KINDS, Opening

log = logging.getLogger("warp_train")

EVENTS_FOLDER = "tensorboard"
_EXTRAS = ("wandb", "tensorboard")


def tracker_names(tracking: TrackingConfig) -> list[str]:
    """Accelerate's names of the trackers that a recipe turns on.

    Call it before anything is set up: it imports no tracker, and its error names the package.

    Raises:
        WarpTrainError: the package of a tracker is not installed, or this Accelerate cannot use it.
    """
    asked = {
        **({"wandb": "tracking.wandb"} if tracking.wandb != "off" else {}),
        **({"tensorboard": "tracking.tensorboard"} if tracking.tensorboard else {}),
    }
    asked = {**dict.fromkeys(tracking.trackers, "tracking.with"), **asked}
    for name, key in asked.items():
        where = key if key.endswith(name) else f"{key}: {name}"
        if importlib.util.find_spec(name) is None:
            package = f"'warp_train[{name}]'" if name in _EXTRAS else name
            raise WarpTrainError(
                f"{where}: the package {name} is not installed; pip install {package}, or turn it "
                "off"
            )
        if not _is_usable(name):
            raise WarpTrainError(
                f"{where}: Accelerate {accelerate.__version__} cannot use the installed {name}"
            )
    return list(asked)


def _is_usable(name: str) -> bool:
    try:
        return bool(filter_trackers([name], "."))
    except ValueError:  # an Accelerate that is older than its support for this tracker
        return False


def _line(error: Exception) -> str:
    """The first line of an error's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def new_run_id() -> str:
    """An id that trackers continue a run by, drawn without touching the seeded generators."""
    return secrets.token_hex(4)


class Trackers:
    """The trackers of one run; does nothing on other processes or where none is configured."""

    def __init__(self, accelerator: Accelerator) -> None:
        main = accelerator.is_main_process
        self._trackers: dict[str, Any] = {t.name: t for t in accelerator.trackers if main}
        self._accelerator = accelerator
        self._warned: set[str] = set()

    def log(self, split: str, values: Mapping[str, float], step: int) -> None:
        """Logs scalars as `<split>/<name>` against the optimizer step. OSError if a disk refuses;
        other errors of a tracker, such as a server out of reach, are a warning, once."""
        named = {f"{split}/{name}": value for name, value in values.items()}
        for name, tracker in self._trackers.items():
            with self._sparing(name):
                KINDS[name].log(tracker, named, step)

    def log_images(
        self, name: str, images: Sequence[NDArray[np.uint8]], captions: Sequence[str], step: int
    ) -> None:
        """Logs RGB pictures `[H, W, 3]` under one name, each with its caption. Errors: as above."""
        for kind, tracker in self._trackers.items():
            with self._sparing(kind):
                KINDS[kind].log_images(tracker, name, images, captions, step)

    def record_start(self, run_id: str) -> None:
        """Records the run whose best weights this one starts from. Errors: as above."""
        for name, tracker in self._trackers.items():
            with self._sparing(name):
                KINDS[name].record_start(tracker, run_id)

    def record_best(self, folder: Path, about: Mapping[str, Any]) -> None:
        """Records the best weights of a finished run. Errors: as above.

        Args:
            folder: their checkpoint.
            about: what they are, such as their metric.
        """
        for name, tracker in self._trackers.items():
            with self._sparing(name):
                KINDS[name].record_best(tracker, folder, about)

    def finish(self, *, failed: bool = False) -> None:
        """Closes this run. The process group stays open for the next stage of a chain."""
        for name, tracker in self._trackers.items():
            with self._sparing(name):
                KINDS[name].finish(tracker, failed=failed)
        self._accelerator.trackers.clear()

    @contextmanager
    def _sparing(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError:
            raise
        except Exception as error:  # a tracker may raise anything, and must not end the training
            if name not in self._warned:
                self._warned.add(name)
                log.warning("tracking: %s failed (%s); training continues", name, _line(error))


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
        run_dir: where the trackers that write files put them, each into a folder of its name; the
            run has the name of this folder.
        run_id: `given_run_id`, or else the one that the resumed checkpoint holds: trackers that can
            then continue the same run; or else `new_run_id()`.
        recipe: as resolved; becomes the run's configuration.
        step: optimizer steps done so far; TensorBoard drops later events.

    Raises:
        WarpTrainError: a tracker could not be started; it is named.
    """
    run = Opening(tracking, run_dir, run_id, recipe, step)
    started: list[Any] = []
    for name in tracker_names(tracking):
        try:
            with environment_for(run_id):
                started += _open(accelerator, name, run)
        except Exception as error:  # a tracker may raise anything: no account, no network, no space
            raise WarpTrainError(
                f"tracking: {name} could not be started: {_line(error)}"
            ) from error
    accelerator.trackers = started
    return Trackers(accelerator)


def _open(accelerator: Accelerator, name: str, run: Opening) -> list[Any]:
    """Accelerate's tracker of one name, started on the main process and described there."""
    kind, main = KINDS[name], accelerator.is_main_process
    accelerator.project_configuration.logging_dir = str(run.run_dir / name)
    accelerator.log_with = filter_trackers([name], accelerator.logging_dir)
    accelerator.trackers = []
    arguments = kind.arguments(run) if main else {}
    accelerator.init_trackers(run.tracking.project, init_kwargs={name: arguments})
    if main:
        kind.describe(accelerator.trackers[0], run)
    opened: list[Any] = accelerator.trackers
    return opened
