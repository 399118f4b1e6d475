"""A toy run that other processes of the tests start: `training_toy.py RUN_DIR FIRST LAST [resume]`.

It trains optimizer steps FIRST+1 … LAST, saves, and prints a digest of everything that could drift.
"""

import hashlib
import random
import sys
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn

from warp_train.recipe.sections import OptimConfig, SchedulerConfig
from warp_train.training.checkpoints.folder import newest_checkpoint
from warp_train.training.checkpoints.links import Link
from warp_train.training.checkpoints.saving import restore_checkpoint, save_checkpoint
from warp_train.training.checkpoints.state import LossSums, RunPosition
from warp_train.training.optim import Ema, build_optimizer, build_scheduler

MODEL_CONFIG = {"model": {"backbone": "toy", "width": 8}}


def position(step: int, world_size: int = 1) -> RunPosition:
    return RunPosition(
        stage="toy",
        step=step,
        epoch=0,
        samples_seen=4 * step,
        best=None,
        world_size=world_size,
        global_batch=4 * world_size,
        validated_step=None,
        unlogged=LossSums(steps=0, sums={}),
        wandb_run_id=None,
        recipe={"seed": 7},
    )


class ToyRun:
    """Everything a checkpoint holds, over a model with dropout, buffers and a frozen part."""

    def __init__(self, width: int = 8, ema: bool = True) -> None:
        set_seed(7)
        self.accelerator = Accelerator(cpu=True)
        self.model = nn.Sequential(
            nn.Linear(6, width), nn.BatchNorm1d(width), nn.Dropout(0.3), nn.Linear(width, 2)
        )
        self.model[3].bias.requires_grad_(False)
        self.optimizer = build_optimizer(self.model, OptimConfig(lr=0.05))
        self.scheduler = build_scheduler(self.optimizer, SchedulerConfig(warmup_steps=2), 12)
        self.ema = Ema(self.model, 0.9) if ema else None

    def train(self, first: int, last: int) -> None:
        for step in range(first + 1, last + 1):
            batch = torch.randn(4, 6) + random.gauss(0, 1) + float(np.random.randn())
            self.model(batch).square().mean().backward()
            self.optimizer.step()
            self.scheduler.step()
            self.optimizer.zero_grad()
            if self.ema:
                self.ema.update(self.model, step)

    def save(self, run_dir: Path, step: int, links: tuple[Link, ...] = ("last",)) -> Path:
        return save_checkpoint(
            run_dir,
            accelerator=self.accelerator,
            model=self.model,
            model_config=MODEL_CONFIG,
            optimizer=self.optimizer,
            scheduler=self.scheduler,
            position=position(step, self.accelerator.num_processes),
            ema=self.ema,
            links=links,
            keep_last=3,
        )

    def restore(self, folder: Path) -> None:
        restore_checkpoint(
            folder,
            accelerator=self.accelerator,
            model=self.model,
            model_config=MODEL_CONFIG,
            optimizer=self.optimizer,
            scheduler=self.scheduler,
            ema=self.ema,
        )

    def digest(self) -> str:
        """Hash over weights, averages, optimizer, schedule and the next random numbers."""
        total = hashlib.sha256()
        tensors = [
            *self.model.state_dict().values(),
            *(self.ema.weights.values() if self.ema else ()),
            *(
                value
                for parameter in self.model.parameters()
                for _, value in sorted(self.optimizer.state[parameter].items())
            ),
        ]
        for tensor in tensors:
            total.update(tensor.detach().numpy().tobytes())
        total.update(repr((draws(), self.scheduler.get_last_lr())).encode())
        return total.hexdigest()


def draws() -> tuple[list[float], list[float], float]:
    """The next random numbers of each generator; odd counts leave a spare normal deviate behind."""
    return torch.rand(3).tolist(), np.random.randn(3).tolist(), random.gauss(0, 1)


if __name__ == "__main__":
    folder, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    run = ToyRun()
    if sys.argv[4:] == ["resume"]:
        checkpoint = newest_checkpoint(folder)
        assert checkpoint is not None
        run.restore(checkpoint)
    run.train(first, last)
    run.save(folder, last)
    print(run.digest())
