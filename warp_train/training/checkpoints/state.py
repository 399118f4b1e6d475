"""The contents of a checkpoint as tensors and JSON: optimizer, random generators, position."""

import random
import struct
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field, JsonValue, ValidationError
from torch import Tensor, nn
from torch.optim import Optimizer

from warp_train.models.pretrained import plain, read_json
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.section import Section
from warp_train.training.checkpoints.saved_values import require_adam_state

STATE_FILE = "trainer_state.json"
NUMPY_WORDS = 624
PYTHON_STATE_VERSION = 3

WANDB_RUN_ID = r"^[\w-]{1,64}$"

Steps = Annotated[int, Field(ge=0, le=10**12)]
Processes = Annotated[int, Field(ge=1, le=10**6)]


class BestMetric(Section):
    """The best validation so far and its step."""

    name: str
    value: float
    step: Steps


class ParamGroup(Section):
    """One optimizer group, with parameter names where the optimizer has parameters."""

    params: list[str]
    hyper: dict[str, JsonValue]
    """A record: a resumed run has its hyper-parameters from the recipe."""


class LossSums(Section):
    """Losses since the last line of metrics: means over the processes, summed over the steps."""

    steps: Steps
    sums: dict[str, float]


class RunPosition(Section):
    """The position of a run in training."""

    stage: Annotated[str, Field(pattern=r"^\w{1,64}$")]
    step: Steps
    """Optimizer steps done."""
    epoch: Steps
    samples_seen: int = Field(ge=0)
    best: BestMetric | None
    """None before the first validation."""
    validated_step: Steps | None
    """Step of the newest validation: a run that was interrupted in a later one repeats that one."""
    measured: str | None = None
    """Identifies what `best` was measured on and how, see `training.best`; None in checkpoints that
    are older than this field."""
    stale_validations: Steps = 0
    """Validations since the best one; 0 in checkpoints that are older than this field."""
    world_size: Processes
    global_batch: int = Field(ge=1)
    """Samples per optimizer step, over all processes and accumulated micro-batches."""
    unlogged: LossSums
    """Losses that a resumed run adds to its next line of metrics."""
    wandb_run_id: Annotated[str, Field(pattern=WANDB_RUN_ID)] | None
    recipe: dict[str, JsonValue]
    """The resolved recipe, so that a checkpoint can be understood without its run folder."""


class TrainerState(RunPosition):
    """`trainer_state.json`: all contents of a checkpoint that are not tensors."""

    scheduler: dict[str, JsonValue]
    grad_scaler: dict[str, JsonValue]
    """Loss scale of fp16 training; empty otherwise."""
    param_groups: list[ParamGroup]


def read_trainer_state(folder: Path) -> TrainerState:
    """Reads `trainer_state.json` of a checkpoint folder.

    Raises:
        WarpTrainError: the file is missing, is not JSON, or lacks a field.
    """
    path = folder / STATE_FILE
    try:
        return TrainerState.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        key = plain(".".join(str(part) for part in first["loc"]))
        raise WarpTrainError(f"{path}: {key}: {plain(first['msg'])}") from error


def optimizer_tensors(optimizer: Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """Per-parameter state as `state.<parameter name>.<exp_avg|exp_avg_sq|step>`."""
    names = _parameter_names(model)
    return {
        f"state.{names[id(parameter)]}.{key}": value.detach()
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def optimizer_groups(optimizer: Optimizer, model: nn.Module) -> list[ParamGroup]:
    """Hyper-parameters of each group, with the names of its parameters."""
    names = _parameter_names(model)
    return [
        ParamGroup(
            params=[names[id(parameter)] for parameter in group["params"]],
            hyper={
                key: list(value) if isinstance(value, tuple) else value
                for key, value in group.items()
                if key != "params"
            },
        )
        for group in optimizer.param_groups
    ]


def load_optimizer(
    optimizer: Optimizer,
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    groups: Sequence[ParamGroup],
    source: Path,
) -> None:
    """Restores saved moments bit for bit, matched by parameter name.

    Groups and hyper-parameters stay those of `optimizer`, which has them from the recipe.

    Args:
        source: the checkpoint folder, for messages.

    Raises:
        WarpTrainError: the saved optimizer trained other parameters than this one, or is damaged.
    """
    here = [name for group in optimizer_groups(optimizer, model) for name in group.params]
    only_one = sorted({*here} ^ {name for group in groups for name in group.params})
    if only_one:
        raise WarpTrainError(
            f"{source}: its optimizer trained other parameters than this stage ({only_one[0]} is "
            "only in one of them): start from its weights (init_from) instead of resuming"
        )
    position = {name: number for number, name in enumerate(here)}
    state = _state_by_parameter(tensors, position, model, source)
    optimizer.load_state_dict(
        {
            "state": {position[name]: kept for name, kept in state.items()},
            "param_groups": optimizer.state_dict()["param_groups"],
        }
    )


def _state_by_parameter(
    tensors: Mapping[str, Tensor], known: Collection[str], model: nn.Module, source: Path
) -> dict[str, dict[str, Tensor]]:
    """The optimizer's tensors by parameter and kind, checked against the parameters."""
    state: dict[str, dict[str, Tensor]] = {}
    for full_name, value in tensors.items():
        name, _, key = full_name.removeprefix("state.").rpartition(".")
        if name not in known:
            raise WarpTrainError(
                f"{source}: {plain(full_name)}: this state belongs to no parameter of its optimizer"
            )
        state.setdefault(name, {})[key] = value
    for name, kept in state.items():
        require_adam_state(kept, model.get_parameter(name), f"{source}: state.{name}")
    return state


def random_state(device: torch.device) -> dict[str, Tensor]:
    """This process' random generators as tensors: torch, CUDA (`device`'s), numpy and Python.

    Returns:
        `torch` and, on CUDA, `cuda`: uint8; `numpy` int64 `[627]` and `python` int64 `[627]`: the
        Mersenne words and index, whether a spare normal deviate is held, and its bits.
    """
    numpy_state: Any = np.random.get_state(legacy=True)
    _, words, index, has_spare, spare = numpy_state
    _, python_words, python_spare = random.getstate()
    state = {
        "torch": torch.get_rng_state(),
        "numpy": torch.tensor([*map(int, words), index, has_spare, _float_bits(spare)]),
        "python": torch.tensor(
            [*python_words, python_spare is not None, _float_bits(python_spare or 0.0)]
        ),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: Mapping[str, Tensor], device: torch.device, source: Path) -> None:
    """Restores the generators to the states that `random_state` returned.

    Args:
        source: the file, for messages.

    Raises:
        WarpTrainError: it does not contain the states of the generators.
    """
    for name, ours in random_state(device).items():
        there = state.get(name)
        # A run that is resumed on a GPU after a CPU has no state for it, and keeps the GPU's own.
        if there is None and name == "cuda":
            continue
        if there is None or there.shape != ours.shape or there.dtype != ours.dtype:
            raise WarpTrainError(f"{source}: {name} is not the state of a generator")
    try:
        _set_generators(state, device)
    except (RuntimeError, ValueError, OverflowError) as error:
        reason = plain(str(error).partition("\n")[0])
        raise WarpTrainError(f"{source}: not the state of generators ({reason})") from error


def _set_generators(state: Mapping[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["torch"])
    for name in ("numpy", "python"):  # their setters accept positions that are out of range
        known, position = state[name][:NUMPY_WORDS], int(state[name][NUMPY_WORDS])
        if known.min() < 0 or known.max() >= 2**32 or not 0 <= position <= NUMPY_WORDS:
            raise ValueError(f"{name}: numbers out of range")
    words = state["numpy"].tolist()
    np.random.set_state(
        (
            "MT19937",
            np.array(words[:NUMPY_WORDS], dtype=np.uint32),
            *words[NUMPY_WORDS:-1],
            _bits_float(words[-1]),
        )
    )
    *python_words, has_spare, spare = state["python"].tolist()
    random.setstate(
        (PYTHON_STATE_VERSION, tuple(python_words), _bits_float(spare) if has_spare else None)
    )
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def _parameter_names(model: nn.Module) -> dict[int, str]:
    return {id(parameter): name for name, parameter in model.named_parameters()}


def _float_bits(value: float) -> int:
    return int(struct.unpack("<q", struct.pack("<d", value))[0])


def _bits_float(bits: int) -> float:
    return float(struct.unpack("<d", struct.pack("<q", bits))[0])
