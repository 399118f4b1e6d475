"""A recipe's sections for training. `model`, `loss` and `data` are defined beside their code."""

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
PLACE = r"^([A-Za-z][\w+.-]*://.*[^/].*|\w[\w.-]*/\w[\w.-]*)$"


class OptimConfig(Section):
    """The optimizer and its learning rates."""

    name: Literal["adamw"] = "adamw"
    """The optimizer."""
    lr: Positive = 2e-4
    """Peak learning rate, > 0. If it is too high, the loss jumps or becomes non-finite; if it is
    too low, the loss falls slowly. Multiply it by about sqrt(n) for an n times larger global
    batch."""
    residual_lr: Positive | None = None
    """Peak learning rate of the residual head, > 0. In stage 2 that head is untrained, and its rate
    may be ten times that of the parts trained in stage 1. null: `lr`."""
    weight_decay: NonNegative = 0.01
    """Decay of the weights towards 0 per unit of lr, >= 0. Norms and biases are exempt. Raise it
    when the training loss improves and the validation metric does not."""
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """Decay of the [first, second] moment, each 0 <= x < 1. Higher values average over more
    steps."""
    eps: Positive = 1e-8
    """Added to the square root of the second moment, > 0."""


class SchedulerConfig(Section):
    """The learning-rate schedule of the stage."""

    name: Literal["cosine", "onecycle", "none"] = "cosine"
    """`cosine`: warm-up, then a fall to `min_lr`; `onecycle`: a rise over 30 % of the steps, then a
    fall to `min_lr`; `none`: constant after the warm-up."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Optimizer steps in which the rate rises linearly from 0 to `optim.lr`, >= 0; not used by
    `onecycle`. Some hundreds suit an untrained residual head or a pretrained backbone."""
    min_lr: NonNegative = 1e-6
    """Learning rate at the end of the schedule, >= 0 and at most `optim.lr`."""


class TrainConfig(Section):
    """Duration, batch size, precision and device of training."""

    batch_size: Count = 16
    """Samples per process and micro-batch, >= 1. The global batch is this times
    `grad_accum_steps` times the number of processes."""
    epochs: Count = 10
    """Passes over the training samples, >= 1."""
    max_steps: Count | None = None
    """Optimizer steps after which the stage ends even if `epochs` is not reached, >= 1. The
    learning-rate schedule ends there too. null: no limit."""
    mixed_precision: Literal["no", "fp16", "bf16", "auto"] = "no"
    """Arithmetic of the network; heads, grids, warps and losses are always computed in fp32. `fp16`
    needs a GPU; `bf16` needs no loss scaling and suits recent GPUs and server CPUs; `auto`: `bf16`
    if the device supports it, otherwise `no`."""
    compile: bool = False
    """Compiles the network with `torch.compile`. Compilation takes minutes at the start of each
    stage, and results differ by rounding. On a CPU it needs a C++ compiler."""
    grad_accum_steps: Count = 1
    """Micro-batches per optimizer step, >= 1: a larger global batch in the same memory."""
    grad_clip: Positive | None = 1.0
    """Largest global gradient norm, > 0; larger gradients are scaled down to it. null: no
    clipping."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train. `auto` uses the fastest device available. If a device is missing, training
    uses the CPU and prints a warning."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay per step of an exponential moving average of the weights, 0 < x < 1, such as 0.999. The
    average is validated and saved as the model, which makes the results of long runs smoother.
    null: off."""
    log_every: Count = 10
    """Optimizer steps between two lines of metrics.jsonl, and between two records of the trackers,
    >= 1."""


class ValidationConfig(Section):
    """When to validate, and which checkpoint counts as the best."""

    every_epochs: Count | None = 1
    """Validate after every so many epochs, >= 1; null: never by epoch."""
    every_steps: Count | None = None
    """Validate after every so many optimizer steps, >= 1; null: never by step."""
    max_samples: Count | None = None
    """Largest number of validation samples that are used, >= 1; null: all."""
    best_metric: Annotated[str, Field(min_length=1)] = "auto"
    """Validation metric that selects the checkpoint `best`, such as `epe_px`, `loss/total` or
    `proxy/total_score`. `auto`: `epe_px` if the true warp is known, otherwise `loss/total`."""
    best_mode: Literal["auto", "min", "max"] = "auto"
    """Whether lower or higher is better. `auto`: higher for `proxy/*`, `warp_det_*` and
    `warp_safety_safe`, lower for everything else."""

    patience: Count | None = None
    """Number of validations in a row without a better `best_metric`, >= 1, after which the stage
    ends; a chain goes on with the next stage. The learning-rate schedule is that of the full number
    of steps. null: the stage ends after `train.epochs` or `train.max_steps`."""

    def higher_is_better(self, metric: str) -> bool:
        """Whether a higher value of `metric` means a better checkpoint."""
        if self.best_mode == "auto":
            return metric.startswith(("proxy/", "warp_det_", "warp_safety_safe"))
        return self.best_mode == "max"


class CheckpointConfig(Section):
    """When to save, and how many checkpoints to keep."""

    every_steps: Count | None = None
    """Save after every so many optimizer steps, >= 1, in addition to each validation and the end of
    the stage. null: only at those."""
    on_error: Literal["raise", "warn"] = "raise"
    """If a checkpoint, a line of metrics or a picture cannot be written: `raise` stops the run,
    `warn` continues without it. If the last checkpoint of a run, the checkpoint of an interruption
    or `summary.json` cannot be written, the run fails in either case."""
    keep_last: Count = 3
    """Number of newest checkpoints to keep, >= 1. `best`, `last`, `interrupted` and checkpoints
    that other runs have started from are always kept."""
    push_to: Annotated[str, Field(pattern=PLACE)] | None = None
    """Where to copy `best` and `last` while training continues: a URL such as `s3://bucket/runs`,
    `gs://`, `hf://` or `file://`, or a hub id `user/name`. The run lies there under the name of its
    folder, and resumes from there on another machine. A copy that fails is repeated. null:
    nowhere."""


class GuardrailsConfig(Section):
    """Limits beyond which a run prints warnings. Non-finite losses and gradients always stop it."""

    param_saturation_level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Share of its bound at which a lens parameter counts as saturated, 0 < x < 1."""
    param_saturation_max_fraction: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Share of saturated samples above which a warning names the parameter, 0 ... 1. In that case
    the lenses in the data are stronger than `model.param_bounds` allows."""
    residual_max_px: Positive = 8.0
    """Residual displacement, in pixels of `data.size`, above which a warning is printed, > 0. The
    residual flow is meant for small displacements that the lens model cannot represent; if it
    exceeds this limit, raise `loss.flow_mag_weight`."""
    safety: SafetyConfig = SafetyConfig()
    """Limits of a safe warp; the metric `warp_safety_safe` is the share of samples within them."""

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
    """Also accepts `on`, and true and false, which YAML 1.1 reads for `on` and `off`."""
    if value is True or value == "on":
        return "online"
    return "off" if value is False else value


Tracker = Literal[
    "wandb",
    "tensorboard",
    "mlflow",
    "trackio",
    "comet_ml",
    "aim",
    "clearml",
    "dvclive",
    "swanlab",
]
"""Accelerate's names of its trackers."""


class TrackingConfig(Section):
    """Where metrics and pictures are recorded, in addition to metrics.jsonl and images/."""

    wandb: Annotated[Literal["off", "offline", "online"], BeforeValidator(_wandb_mode)] = "off"
    """Weights & Biases: `off`, `offline` (upload later with `wandb sync`) or `online`."""
    trackers: tuple[Tracker, ...] = Field(default=(), alias="with")
    """Trackers to use, also beside `wandb` and `tensorboard`, such as [mlflow]. Each needs its
    package, and is set up by that package's own environment variables."""
    project: Annotated[str, Field(min_length=1)] = "warp_train"
    """Project, or experiment, of the trackers."""
    entity: str | None = None
    """W&B user or team; null: your default one."""
    tags: tuple[str, ...] = ()
    """Tags of the run, for trackers that have tags."""
    tensorboard: bool = False
    """Write TensorBoard events into the run folder."""
    artifacts: bool = True
    """Record the best weights of each finished stage as a W&B artifact, `model-<run id>`; the run
    of the next stage names the one that it starts from. false: no weights are sent to W&B."""
    images_every: Annotated[int, Field(ge=0)] = 1
    """Number of validations per input | prediction | target panel, >= 0; 0: no panels."""
    num_images: Count = 4
    """Rows of a panel, >= 1."""

    @property
    def uses_wandb(self) -> bool:
        """Whether W&B is among the trackers, by either key."""
        return self.wandb != "off" or "wandb" in self.trackers


class WarpConfig(Section):
    """The implementation of the warp, and how pixels are read."""

    backend: Literal["geometry", "mock"] = "geometry"
    """`geometry`: the real warp; `mock`: returns the input image, to test the rest of training."""
    mode: Literal["bilinear", "bicubic"] = "bilinear"
    """Interpolation between pixels; `bicubic` is sharper and slower."""
    padding_mode: Literal["border", "zeros", "reflection"] = "border"
    """What is read outside the photo. `zeros` gives dark borders, which affect the losses."""


class ProxyConfig(Section):
    """The proxy score of validation pictures, between 0 and 1."""

    scorer: ModuleFunction | None = None
    """`module:function` that scores a prediction against its target, such as the package's
    `warp_train.metrics:compute_proxy_score`; null: no scoring. If it fails, a warning is printed
    and training continues."""
    max_samples: Count = 32
    """Number of pictures that are scored per validation, >= 1. Scoring runs on the CPU."""
    workers: Annotated[int, Field(ge=0)] = 1
    """Processes that score while training continues, >= 0. Training waits for them if
    `validate.best_metric` is a `proxy/*` metric. 0: the training process scores, and training
    pauses meanwhile."""
