"""Sums between two lines of `metrics.jsonl`."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from accelerate import Accelerator
from torch import Tensor

from warp_train.training.checkpoints.state import LossSums


@dataclass
class Meter:
    """Sums for the next line of metrics; losses stay on the device until the line is written."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    steps: int = 0
    """Optimizer steps in `sums`; in a resumed run, including those before the checkpoint."""
    samples: int = 0
    """Samples of this process since the clock started."""
    waited: float = 0.0
    """Seconds spent waiting for data since the clock started."""
    saved: float = 0.0
    """Seconds spent saving between validations since the clock started."""
    started: float = field(default_factory=time.perf_counter)
    lr: float = 0.0
    """Learning rate of the newest step."""

    def add(self, losses: Mapping[str, Tensor], lr: float) -> None:
        """Adds the losses of one optimizer step and records its learning rate."""
        for name, value in losses.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.steps += 1
        self.lr = lr

    def means(self) -> dict[str, Tensor]:
        """Mean losses per step, as `loss/<component>`."""
        return {f"loss/{name}": value / self.steps for name, value in self.sums.items()}

    def put_back(self, saved: LossSums, device: torch.device) -> None:
        """Restores the sums of a checkpoint: the next line equals that of an uninterrupted run."""
        self.steps = saved.steps
        self.sums = {name: torch.tensor(value, device=device) for name, value in saved.sums.items()}

    def unlogged(self, accelerator: Accelerator) -> LossSums:
        """The sums as a checkpoint holds them. Collective: call on every rank."""
        if not self.sums:
            return LossSums(steps=0, sums={})
        means = accelerator.reduce(torch.stack(list(self.sums.values())), reduction="mean")
        sums = dict(zip(self.sums, means.tolist(), strict=True))
        return LossSums(steps=self.steps, sums=sums)
