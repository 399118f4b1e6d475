"""The end of a stage: one table over all stages so far, and the picture to show."""

from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import JsonValue

from warp_train.geometry import IDENTITY_PARAMS
from warp_train.models import HybridModel, from_pretrained
from warp_train.runtime.atomic_files import write_json
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.tables import Cells, cell, ratio, text_table
from warp_train.training.checkpoints.folder import find_start
from warp_train.training.checkpoints.links import run_of
from warp_train.training.checkpoints.state import STATE_FILE, read_trainer_state
from warp_train.training.debug_dump import before_after, save_picture, stacked
from warp_train.training.disk import is_there, refusal
from warp_train.training.evaluation import (
    Round,
    Table,
    lens_measure,
    measure_all,
    network_measure,
)
from warp_train.training.run import Run
from warp_train.training.run_folder import PICTURE_FILE, SUMMARY_FILE
from warp_train.training.step import forward_step, to_device
from warp_train.weights import model_folder

PICTURE_ROWS = 3
CONTROLS = ("identity", "fixed_warp")
_HEADER: Cells = ("", "epe_px", "vs identity", "vs fixed warp", "loss/total", "folds %")


def lineage(checkpoint: Path) -> dict[str, Path]:
    """Checkpoints by stage, oldest first: this one, the one that it started from, and so on.

    The list ends at a start that is no longer on disk or already listed. Weights without a record
    of their training are listed under the name of their folder.
    """
    found: dict[str, Path] = {}
    seen: set[Path] = set()
    while checkpoint not in seen:
        seen.add(checkpoint)
        if not is_there(checkpoint / STATE_FILE):
            found.setdefault(checkpoint.name, checkpoint)
            break
        state = read_trainer_state(checkpoint)
        found.setdefault(state.stage, checkpoint)
        start = _start(state.recipe.get("init_from"), run_of(checkpoint))
        if start is None:
            break
        checkpoint = find_start(start, run_of(checkpoint))
    return dict(reversed(found.items()))


def _start(init_from: JsonValue, run_dir: Path) -> Path | None:
    """The folder that a run started from, also where both were moved together to another place."""
    if not isinstance(init_from, str):
        return None
    folder = model_folder(init_from)
    return next(filter(is_there, (folder, run_dir.parent / folder.name)), None)


def measure_stages(run: Run, checkpoints: Mapping[str, Path], go_on: Round) -> Table | None:
    """Rows `identity`, `fixed_warp` (where warps are known) and each stage, on the same samples.

    Collective: call on every rank. None if `go_on` returned to stop.
    """
    measures = {"identity": lens_measure(IDENTITY_PARAMS, run.recipe, run.loss)}
    if run.fixed_warp is not None:
        measures["fixed_warp"] = lens_measure(run.fixed_warp, run.recipe, run.loss)
    for stage, folder in checkpoints.items():
        model = _load(folder, run)
        measures[stage] = network_measure(
            model, run.backend, run.loss, residual_enabled=model.residual_enabled
        )
    return measure_all(measures, run.feed.validation(), run.recipe, run.accelerator.device, go_on)


def write_report(run: Run, checkpoints: Mapping[str, Path], go_on: Round) -> str | None:
    """Writes `summary.json` and the before/after picture; returns the table to print.

    Collective: call on every rank. Returns None and writes nothing if `go_on` returned to stop.
    """
    table = measure_stages(run, checkpoints, go_on)
    if table is None:
        return None
    if run.accelerator.is_main_process:
        with run.disk.writing(run.run_dir / "images" / PICTURE_FILE):
            save_before_after(run, _load(list(checkpoints.values())[-1], run))
        # Last, because its existence marks the stage as finished.
        try:
            write_json(run.run_dir / SUMMARY_FILE, summary(table))
        except OSError as error:
            raise WarpTrainError(refusal(run.run_dir / SUMMARY_FILE, error)) from error
    return stages_table(table)


def summary(table: Table) -> dict[str, object]:
    """The contents of `summary.json`."""
    stages = {name: row for name, row in table.items() if name not in CONTROLS}
    controls = {name: table.get(name) for name in CONTROLS}
    return {**controls, "stages": stages}


def stages_table(table: Mapping[str, Mapping[str, float]]) -> str:
    """The table at the end of a stage; all rows from the same unseen samples.

    Args:
        table: `loss/total`, `warp_negative_det_pct` and, where the true warp is known, `epe_px` of
            `identity`, of `fixed_warp` (absent where no warp is known) and of each stage, in order.
    """
    identity, fixed_warp = (table.get(name, {}) for name in CONTROLS)
    stages = {name: row for name, row in table.items() if name not in CONTROLS}
    named = {"identity": identity, "fixed warp": fixed_warp, **stages}

    def cells(name: str, row: Mapping[str, float]) -> Cells:
        epe = row.get("epe_px")
        return (
            name,
            cell(epe, ".3f"),
            cell(ratio(epe, identity.get("epe_px")), ".3f"),
            cell(ratio(epe, fixed_warp.get("epe_px")), ".3f"),
            cell(row.get("loss/total"), ".4f"),
            cell(row.get("warp_negative_det_pct"), ".3f"),
        )

    return text_table(_HEADER, [cells(name, row) for name, row in named.items()])


def why_ended(run: Run) -> str:
    """One line: at which step a stage ended, and which key of the recipe ended it."""
    train, patience = run.recipe.train, run.recipe.validation.patience
    if run.step < run.total_steps:
        metric = run.best.name if run.best else run.recipe.validation.best_metric
        reason = f"validate.patience: {patience} validations without a better {metric}"
    elif run.total_steps < train.epochs * run.feed.steps_per_epoch:
        reason = f"train.max_steps: {train.max_steps}"
    else:
        reason = f"train.epochs: {train.epochs}"
    return f"ended after step {run.step} of {run.total_steps} ({reason})"


@torch.no_grad()
def save_before_after(run: Run, model: HybridModel) -> None:
    """Writes `images/before_after.png`: the most distorted of the first validation samples."""
    if not run.shown:
        run.shown.append(next(iter(run.feed.validation())))
    batch = to_device(run.shown[0], run.accelerator.device)
    out = forward_step(model, batch, run.backend, run.loss, residual_enabled=model.residual_enabled)
    undone = (batch["input_image"] - batch["target_image"]).abs().mean(dim=(1, 2, 3))
    rows = undone.argsort(descending=True)[:PICTURE_ROWS].tolist()
    pictures = [
        before_after(
            batch["input_image"][row], out.warp["pred_image"][row], batch["target_image"][row]
        )
        for row in rows
    ]
    save_picture(run.run_dir / "images" / PICTURE_FILE, stacked(pictures))


def _load(folder: Path, run: Run) -> HybridModel:
    model = from_pretrained(folder).eval()
    return model.to(run.accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
