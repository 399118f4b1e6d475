"""The sections of a recipe that steer training; `model`, `loss` and `data` live with their code."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator
from pydantic_core import PydanticCustomError

from warp_train.geometry import SafetyConfig
from warp_train.runtime.section import ModuleFunction, Section

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Beta = Annotated[float, Field(ge=0, lt=1)]


class OptimConfig(Section):
    """The optimizer: how large a step each batch takes."""

    name: Literal["adamw"] = "adamw"
    """The optimizer."""
    lr: Positive = 2e-4
    """Peak learning rate, > 0. Too high: the loss jumps or turns non-finite; too low: it crawls.
    Multiply it by about sqrt(n) for an n times larger global batch."""
    residual_lr: Positive | None = None
    """Peak learning rate of the residual head, > 0. Where stage 2 begins it is new, and may learn
    ten times as fast as what stage 1 has trained. null: `lr`."""
    weight_decay: NonNegative = 0.01
    """Pull of the weights towards 0 per unit of lr, >= 0. Norms and biases are exempt. Raise it
    when training goes on improving and validation does not."""
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """[first, second] moment decay, each 0 ... < 1. Higher is smoother and slower to react."""
    eps: Positive = 1e-8
    """Added to the root of the second moment, > 0."""


class SchedulerConfig(Section):
    """How the learning rate moves over the stage."""

    name: Literal["cosine", "onecycle", "none"] = "cosine"
    """`cosine`: warm up, then fall to `min_lr`; `onecycle`: rise over 30 % of the steps, then fall;
    `none`: constant after the warm-up."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Optimizer steps of linear rise from 0 to `optim.lr`, >= 0; `onecycle` has its own. A new
    residual head or a pretrained backbone likes some hundreds."""
    min_lr: NonNegative = 1e-6
    """Learning rate that the schedule ends at, >= 0 and at most `optim.lr`."""


class TrainConfig(Section):
    """How long, how much at once, on what."""

    batch_size: Count = 16
    """Samples per process and micro-batch, >= 1. The global batch is this times
    `grad_accum_steps` times the number of processes."""
    epochs: Count = 10
    """Passes over the training samples, >= 1."""
    max_steps: Count | None = None
    """Optimizer steps at which the stage ends even if `epochs` are not over, >= 1; null: no cap.
    The learning-rate schedule ends there too."""
    mixed_precision: Literal["no", "fp16", "bf16", "auto"] = "no"
    """Arithmetic of the network; heads, grids, warps and losses always stay fp32. `fp16` needs a
    GPU; `bf16` needs no loss scaling and suits recent GPUs and server CPUs; `auto`: `bf16` where
    the device computes in it, otherwise `no`."""
    compile: bool = False
    """Compiles the network with `torch.compile`: minutes once, at the start of each stage, and
    steps that differ by rounding. On a CPU it needs a C++ compiler."""
    grad_accum_steps: Count = 1
    """Micro-batches per optimizer step, >= 1: a larger global batch in the same memory."""
    grad_clip: Positive | None = 1.0
    """Largest global gradient norm, > 0; longer ones are shortened to it. null: no clipping."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train. `auto` takes the best there is; a device that is missing falls back to the
    CPU with a warning."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay per step of a running mean of the weights, 0 < x < 1, such as 0.999; the mean is what
    is validated and saved as the model. Smoother results from long runs. null: off."""
    log_every: Count = 10
    """Optimizer steps between lines of metrics.jsonl and the trackers, >= 1."""


class ValidationConfig(Section):
    """When to validate, and which checkpoint counts as the best."""

    every_epochs: Count | None = 1
    """Validate after every so many epochs, >= 1; null: never by epoch."""
    every_steps: Count | None = None
    """Validate after every so many optimizer steps, >= 1; null: never by step."""
    max_samples: Count | None = None
    """Validate on at most so many of the validation samples, >= 1; null: on all of them."""
    best_metric: Annotated[str, Field(min_length=1)] = "auto"
    """Validation metric that picks `best`, such as `epe_px`, `loss/total` or `proxy/total_score`.
    `auto`: `epe_px` where the true warp is known, otherwise `loss/total`."""
    best_mode: Literal["auto", "min", "max"] = "auto"
    """Whether lower or higher is better. `auto`: higher for `proxy/*`, `warp_det_*` and
    `warp_safety_safe`, lower for everything else."""

    def higher_is_better(self, metric: str) -> bool:
        """Whether more of `metric` makes a better checkpoint."""
        if self.best_mode == "auto":
            return metric.startswith(("proxy/", "warp_det_", "warp_safety_safe"))
        return self.best_mode == "max"


class CheckpointConfig(Section):
    """When to save, and how much to keep."""

    every_steps: Count | None = None
    """Save after every so many optimizer steps, >= 1, besides at each validation and at the end;
    null: only then."""
    on_error: Literal["raise", "warn"] = "raise"
    """When the disk refuses a checkpoint, a line of metrics or a picture: `raise` stops the run,
    `warn` goes on without it. The last checkpoint of a run, that of an interruption and
    `summary.json` must be written in either case."""
    keep_last: Count = 3
    """Newest checkpoints to keep, >= 1; `best`, `last`, `interrupted` and those that other runs
    have started from are always kept."""


class GuardrailsConfig(Section):
    """When to warn that a run goes astray. Non-finite losses and gradients always stop it."""

    param_saturation_level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Share of its bound at which a lens parameter counts as saturated, 0 < x < 1."""
    param_saturation_max_fraction: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Share of saturated samples above which a warning names the parameter, 0 ... 1. Then the
    data bends further than `model.param_bounds` lets the network go."""
    residual_max_px: Positive = 8.0
    """Longest residual displacement, in pixels of `data.size`, above which a warning says so,
    > 0. The residual is for what the lens model cannot say; raise `loss.flow_mag_weight`."""
    safety: SafetyConfig = SafetyConfig()
    """Limits of a warp that is fit to use; `warp_safety_safe` is the share of samples within."""

    @field_validator("safety", mode="after")
    @classmethod
    def _limits_not_negative(cls, limits: SafetyConfig) -> SafetyConfig:
        for name, value in vars(limits).items():
            if value < 0:
                message = f"{value:g} is not allowed (must be >= 0)"
                context = {"key": (name,), "message": message}
                raise PydanticCustomError("recipe_key", "{message}", context)
        return limits


def _wandb_mode(value: Any) -> Any:
    """Also takes `on`, and what programs that read YAML 1.1 make of `on` and `off`."""
    if value is True or value == "on":
        return "online"
    return "off" if value is False else value


class TrackingConfig(Section):
    """Where curves and pictures go besides metrics.jsonl and images/."""

    wandb: Annotated[Literal["off", "offline", "online"], BeforeValidator(_wandb_mode)] = "off"
    """Weights & Biases: `off`, `offline` (upload later with `wandb sync`) or `online`."""
    project: Annotated[str, Field(min_length=1)] = "warp_train"
    """W&B project."""
    entity: str | None = None
    """W&B user or team; null: your default one."""
    tags: tuple[str, ...] = ()
    """W&B tags."""
    tensorboard: bool = False
    """Write TensorBoard events into the run folder."""
    images_every: Annotated[int, Field(ge=0)] = 1
    """Validations between input | prediction | target panels, >= 0; 0: no panels."""
    num_images: Count = 4
    """Rows of a panel, >= 1."""


class WarpConfig(Section):
    """Who applies the warp to the photo, and how pixels are read."""

    backend: Literal["geometry", "mock"] = "geometry"
    """`geometry`: the real warp; `mock`: returns its input, to test everything around it."""
    mode: Literal["bilinear", "bicubic"] = "bilinear"
    """Interpolation between pixels; `bicubic` is sharper and slower."""
    padding_mode: Literal["border", "zeros", "reflection"] = "border"
    """What is read outside the photo. `zeros` draws dark borders, which losses then see."""


class ProxyConfig(Section):
    """The proxy score of validation pictures, between 0 and 1."""

    scorer: ModuleFunction | None = None
    """`module:function` that scores a prediction against its target, such as the one that comes
    with the program, `warp_train.metrics:compute_proxy_score`; null: no scoring. One that fails is
    a warning, and training goes on."""
    max_samples: Count = 32
    """Pictures to score per validation, >= 1: scoring runs on the CPU."""
    workers: Annotated[int, Field(ge=0)] = 1
    """Processes that score, >= 0, while training goes on; it waits for them where
    `validate.best_metric` is a `proxy/*`. 0: training itself scores, and stands still meanwhile."""
