"""What the environment asks of Accelerate: `accelerate launch` sets variables from its options and
its configuration, which would change training beside the recipe."""

import os
from collections.abc import Iterator, Mapping

from accelerate.utils import is_torch_xla_available

from warp_train.recipe.sections import TrainConfig
from warp_train.runtime.errors import WarpTrainError

_TRUE = ("1", "true", "yes", "on", "y", "t")
_STRATEGIES = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism configuration",
    "ACCELERATE_USE_SAGEMAKER": "SageMaker",
    "ACCELERATE_IN_TPU_POD": "TPUs",
}
"""Ways to distribute training, each by the variable that turns it on."""


def refuse_other_strategies(environment: Mapping[str, str] = os.environ) -> None:
    """Training distributes batches (DDP) and nothing else. Call it before a process group starts.

    Raises:
        WarpTrainError: the environment asks for another way, or for a device beside the recipe's.
    """
    for variable, name in _STRATEGIES.items():
        if is_on(variable, environment):
            raise WarpTrainError(
                f"{variable}={environment[variable]}: training does not support {name}; every "
                "process trains the whole network on its share of the batches: launch with "
                "launch/multi_gpu.yaml, or unset the variable"
            )
    if is_torch_xla_available():
        raise WarpTrainError(
            "torch_xla is installed, and Accelerate would train on its devices, which training "
            "does not support; set USE_TORCH_XLA=0"
        )
    if "ACCELERATE_TORCH_DEVICE" in environment:
        device = environment["ACCELERATE_TORCH_DEVICE"]
        raise WarpTrainError(
            f"ACCELERATE_TORCH_DEVICE={device}: unset it, and set train.device instead"
        )


def overruled(train: TrainConfig, environment: Mapping[str, str] = os.environ) -> Iterator[str]:
    """One line for each setting of the environment that the recipe overrules."""
    accum, compiled = str(train.grad_accum_steps), str(train.compile).lower()
    for variable, unset, key, applied in (
        ("ACCELERATE_MIXED_PRECISION", "no", "train.mixed_precision", train.mixed_precision),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1", "train.grad_accum_steps", accum),
        ("ACCELERATE_DYNAMO_BACKEND", "no", "train.compile", compiled),
    ):
        asked = (environment.get(variable) or unset).lower()
        if asked not in (unset, applied):
            yield f"{variable}={asked} has no effect: the recipe's {key} applies ({applied})"


def is_on(variable: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a variable is set to a word for true."""
    return environment.get(variable, "").strip().lower() in _TRUE
