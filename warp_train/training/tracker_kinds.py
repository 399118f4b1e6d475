"""What the trackers of Accelerate differ in: how a run is opened and continued, and its pictures.

Accelerate's own tracker classes open a run, log its scalars and close it; each kind here adds only
what its package does in another way. Packages are imported when their tracker is used.
"""

import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from warp_train.models.pretrained import CONFIG_FILE, MODEL_FILE
from warp_train.recipe.sections import TrackingConfig
from warp_train.runtime.json_text import to_json
from warp_train.runtime.section import flatten

_MLFLOW_TAG = "warp_train.run_id"

Pictures = Sequence[NDArray[np.uint8]]


@dataclass(frozen=True)
class Opening:
    """What is known of a run when its trackers are opened."""

    tracking: TrackingConfig
    run_dir: Path
    """Its name is the run's."""
    run_id: str
    """Of this run, and of every run that continues it."""
    recipe: Mapping[str, Any]
    """As resolved."""
    step: int
    """Optimizer steps done so far."""

    @property
    def settings(self) -> dict[str, str | int | float | bool]:
        """The recipe as one level of dotted keys with plain values."""
        return {key: _plain(value) for key, value in flatten(self.recipe).items()}


class Kind:
    """A tracker without anything special, and without pictures. `tracker` is Accelerate's."""

    def arguments(self, run: Opening) -> dict[str, Any]:
        """Arguments of Accelerate's tracker class, besides the project's name."""
        return {}

    def describe(self, tracker: Any, run: Opening) -> None:
        """Records the recipe in a run that has just been opened."""
        tracker.store_init_configuration(run.settings)

    def log(self, tracker: Any, values: Mapping[str, float], step: int) -> None:
        """Logs scalars against the optimizer step."""
        tracker.log(dict(values), step=step)

    def log_images(
        self, tracker: Any, name: str, images: Pictures, captions: Sequence[str], step: int
    ) -> None:
        """Logs RGB pictures `[H, W, 3]` under one name."""

    def record_start(self, tracker: Any, run_id: str) -> None:
        """Records the run whose best weights this one starts from."""

    def record_best(self, tracker: Any, folder: Path, about: Mapping[str, Any]) -> None:
        """Records the best weights of a finished run, a checkpoint folder."""

    def finish(self, tracker: Any, *, failed: bool) -> None:
        """Closes the run."""
        tracker.finish()


class Wandb(Kind):
    """Weights & Biases: continues a run by its id; best weights are artifacts, so that W&B shows
    which run started from which."""

    def arguments(self, run: Opening) -> dict[str, Any]:
        tracking = run.tracking
        arguments = {
            "name": run.run_dir.name,
            "id": run.run_id,
            "resume": "allow",
            "dir": str(run.run_dir),
            "entity": tracking.entity,
            "tags": list(tracking.tags),
            # Passed to init_trackers, it would open a second run in offline mode under older
            # releases of Accelerate (huggingface/accelerate#3818).
            "config": dict(run.recipe),
        }
        # "online" is W&B's default: left out, so that WANDB_MODE can override it.
        return {**arguments, "mode": "offline"} if tracking.wandb == "offline" else arguments

    def describe(self, tracker: Any, run: Opening) -> None:
        tracker.tracker.define_metric("step", hidden=True)
        tracker.tracker.define_metric("*", step_metric="step", step_sync=True)

    def log(self, tracker: Any, values: Mapping[str, float], step: int) -> None:
        # Not as W&B's own step: W&B would drop the steps that a resumed run repeats.
        tracker.log({**values, "step": step})

    def log_images(
        self, tracker: Any, name: str, images: Pictures, captions: Sequence[str], step: int
    ) -> None:
        import wandb

        panels = [wandb.Image(i, caption=c) for i, c in zip(images, captions, strict=True)]
        tracker.log({name: panels, "step": step})

    def record_start(self, tracker: Any, run_id: str) -> None:
        name = f"model-{run_id}:best"
        tracker.tracker.config.update({"init_artifact": name}, allow_val_change=True)
        if not tracker.tracker.offline:  # W&B has no lineage before the runs are synced
            tracker.tracker.use_artifact(name)

    def record_best(self, tracker: Any, folder: Path, about: Mapping[str, Any]) -> None:
        import wandb

        artifact = wandb.Artifact(f"model-{tracker.tracker.id}", "model", metadata=dict(about))
        for file in (MODEL_FILE, CONFIG_FILE):
            artifact.add_file(str(folder / file), policy="immutable")  # no copy in the home folder
        tracker.tracker.log_artifact(artifact, aliases=["best"])

    def finish(self, tracker: Any, *, failed: bool) -> None:
        tracker.tracker.finish(exit_code=int(failed))


class TensorBoard(Kind):
    """TensorBoard: writes into the same folder again, and drops the steps that are repeated."""

    def arguments(self, run: Opening) -> dict[str, Any]:
        return {"purge_step": run.step + 1}

    def describe(self, tracker: Any, run: Opening) -> None:
        _leave_full_disks_to_the_loop()
        text = "\n".join(f"    {line}" for line in to_json(run.recipe, indent=2).splitlines())
        tracker.log({"recipe": text}, step=0)

    def log_images(
        self, tracker: Any, name: str, images: Pictures, captions: Sequence[str], step: int
    ) -> None:
        batches = {f"{name}/{i}": image[None] for i, image in enumerate(images)}
        tracker.log_images(batches, step=step, dataformats="NHWC")


class MLflow(Kind):
    """MLflow: the server chooses the id of a run, so a tag with ours finds it again."""

    def arguments(self, run: Opening) -> dict[str, Any]:
        import mlflow

        found = mlflow.search_runs(
            search_all_experiments=True,
            filter_string=f"tags.`{_MLFLOW_TAG}` = '{run.run_id}'",
            output_format="list",
            max_results=1,
        )
        run_id = found[0].info.run_id if found else None
        return {"run_name": run.run_dir.name, "run_id": run_id}

    def describe(self, tracker: Any, run: Opening) -> None:
        import mlflow

        if _MLFLOW_TAG not in tracker.tracker.data.tags:  # parameters cannot be changed later
            mlflow.set_tags({_MLFLOW_TAG: run.run_id, **dict.fromkeys(run.tracking.tags, "true")})
            super().describe(tracker, run)

    def log_images(
        self, tracker: Any, name: str, images: Pictures, captions: Sequence[str], step: int
    ) -> None:
        import mlflow

        for number, image in enumerate(images):
            mlflow.log_image(image, key=f"{name}/{number}", step=step)

    def finish(self, tracker: Any, *, failed: bool) -> None:
        import mlflow

        mlflow.end_run("FAILED" if failed else "FINISHED")


class Trackio(Kind):
    """trackio: continues a run by its name, which therefore has the run's id."""

    def arguments(self, run: Opening) -> dict[str, Any]:
        name = f"{run.run_dir.name}-{run.run_id}"
        return {"name": name, "resume": "allow", "config": run.settings}

    def describe(self, tracker: Any, run: Opening) -> None:
        pass  # the recipe is among the arguments

    def log_images(
        self, tracker: Any, name: str, images: Pictures, captions: Sequence[str], step: int
    ) -> None:
        import trackio

        named = zip(range(len(images)), images, captions, strict=True)
        panels = {f"{name}/{n}": trackio.Image(image, caption=text) for n, image, text in named}
        tracker.log(panels, step=step)


class Comet(Kind):
    """Comet: continues a run by its key, which takes 32 characters."""

    def arguments(self, run: Opening) -> dict[str, Any]:
        key = hashlib.sha256(run.run_id.encode()).hexdigest()[:32]
        return {"experiment_key": key, "mode": "get_or_create"}

    def describe(self, tracker: Any, run: Opening) -> None:
        tracker.tracker.set_name(run.run_dir.name)
        tracker.tracker.add_tags(list(run.tracking.tags))
        super().describe(tracker, run)


class ClearML(Kind):
    """ClearML: a resumed run is a new task of the same name."""

    def arguments(self, run: Opening) -> dict[str, Any]:
        return {"task_name": run.run_dir.name, "tags": list(run.tracking.tags)}

    def log_images(
        self, tracker: Any, name: str, images: Pictures, captions: Sequence[str], step: int
    ) -> None:
        tracker.log_images({f"{name}/{i}": image for i, image in enumerate(images)}, step=step)


class DVCLive(Kind):
    """DVCLive: continues in the run's folder."""

    def arguments(self, run: Opening) -> dict[str, Any]:
        return {"dir": str(run.run_dir / "dvclive"), "resume": run.step > 0, "save_dvc_exp": False}


class SwanLab(Kind):
    """SwanLab: a resumed run is a new one of the same name."""

    def arguments(self, run: Opening) -> dict[str, Any]:
        return {
            "experiment_name": run.run_dir.name,
            "logdir": str(run.run_dir / "swanlab"),
            "tags": list(run.tracking.tags),
        }

    def log_images(
        self, tracker: Any, name: str, images: Pictures, captions: Sequence[str], step: int
    ) -> None:
        tracker.log_images({name: list(images)}, step=step)


class Aim(Kind):
    """Aim: a resumed run is a new one in the same folder."""

    def log_images(
        self, tracker: Any, name: str, images: Pictures, captions: Sequence[str], step: int
    ) -> None:
        pictures = zip(images, captions, strict=True)
        tracker.log_images({f"{name}/{i}": pair for i, pair in enumerate(pictures)}, step=step)


KINDS: Mapping[str, Kind] = {
    "wandb": Wandb(),
    "tensorboard": TensorBoard(),
    "mlflow": MLflow(),
    "trackio": Trackio(),
    "comet_ml": Comet(),
    "aim": Aim(),
    "clearml": ClearML(),
    "dvclive": DVCLive(),
    "swanlab": SwanLab(),
}
"""By Accelerate's names, which are also those of the packages."""


def _plain(value: Any) -> str | int | float | bool:
    return value if isinstance(value, str | int | float | bool) else to_json(value)


def _leave_full_disks_to_the_loop() -> None:
    """Hides tracebacks of TensorBoard's writing thread for errors that `log` raises too."""
    shown = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        writer = "AsyncWriter" in type(args.thread).__name__
        if not (writer and isinstance(args.exc_value, OSError)):
            shown(args)

    threading.excepthook = hook
