"""Accelerate, set up as the recipe asks and as the machine allows."""

import logging
import os
import shutil
from datetime import timedelta

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import GradientAccumulationPlugin

from warp_train.recipe.sections import TrainConfig
from warp_train.runtime.errors import WarpTrainError
from warp_train.training.launch_environment import is_on, refuse_other_strategies

log = logging.getLogger("warp_train")

PROCESS_GROUP_TIMEOUT = timedelta(minutes=10)
"""All ranks end when one does not respond for this long."""


def build_accelerator(train: TrainConfig) -> Accelerator:
    """An Accelerator for one stage. Collective: call on every rank.

    A missing device falls back to the CPU and an unsupported precision to float32, each with a
    warning. The loop itself does gradient accumulation and steps the scheduler, so that the order
    of samples and the learning rate do not depend on the number of processes. What the environment
    asks of Accelerate instead has no effect, or is refused before a process group starts.

    Raises:
        WarpTrainError: the environment asks for another way to distribute training; or
            `train.compile` is on, the device is a CPU, and no C++ compiler was found.
    """
    refuse_other_strategies()
    cpu = _on_cpu(train)
    if train.compile and cpu and shutil.which(os.environ.get("CXX", "g++")) is None:
        raise WarpTrainError(
            "train.compile: no C++ compiler was found (g++ or CXX), and a CPU needs one"
        )
    # A chain's stages may differ in precision; the process group stays.
    AcceleratorState._reset_state()
    return Accelerator(
        cpu=cpu,
        mixed_precision=_precision(train, cpu),
        # Given explicitly: otherwise Accelerate reads both from the environment.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        dynamo_backend="no",
        step_scheduler_with_optimizer=False,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=PROCESS_GROUP_TIMEOUT)],
    )


def _on_cpu(train: TrainConfig) -> bool:
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    available = {"cpu": False, "auto": cuda or mps, "cuda": cuda, "mps": mps}
    if is_on("ACCELERATE_USE_CPU"):  # in Accelerate it goes before what a program asks for
        available = dict.fromkeys(available, False)
    if not available[train.device] and train.device in ("cuda", "mps"):
        _warn(f"train.device: {train.device} is not available here; training on the CPU")
    # Stated explicitly even on machines without a GPU: several CPU processes connect only then.
    return not available[train.device]


def _precision(train: TrainConfig, cpu: bool) -> str:
    gpu = not cpu and (torch.cuda.is_available() or torch.backends.mps.is_available())
    if train.mixed_precision == "auto":
        return "bf16" if _computes_in_bf16(cpu) else "no"
    if train.mixed_precision == "fp16" and not gpu:
        _warn("train.mixed_precision: fp16 needs a GPU; training in float32")
        return "no"
    return train.mixed_precision


def _computes_in_bf16(cpu: bool) -> bool:
    """Whether the device multiplies bf16 natively, rather than converting back and forth."""
    if not cpu and torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _warn(message: str) -> None:
    if os.environ.get("RANK", "0") == "0":
        log.warning(message)
