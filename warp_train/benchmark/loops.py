"""The same training step three times: as `train` does it, by hand, and of the bare network."""

from collections.abc import Iterator

import torch

from warp_train.data import Batch
from warp_train.training.engine import optimizer_step
from warp_train.training.guardrails import FiniteGuard
from warp_train.training.run import Run
from warp_train.training.step import forward_step, to_device


class TrainingLoop:
    """The step of `warp-train train` itself, over the batches that it is given."""

    def __init__(self, run: Run, batches: Iterator[Batch]) -> None:
        self._run, self._batches = run, batches
        self._guard = FiniteGuard(grads_may_overflow=run.accelerator.scaler is not None)

    def step(self) -> None:
        optimizer_step(self._run, self._batches, self._guard)
        self._run.step += 1


class AccelerateLoop:
    """The same step as one would write it with Accelerate: no sums, no checks, no clock."""

    def __init__(self, run: Run, batches: Iterator[Batch]) -> None:
        self._run, self._batches = run, batches

    def step(self) -> None:
        run = self._run
        batch = to_device(next(self._batches), run.accelerator.device)
        out = forward_step(
            run.wrapped, batch, run.backend, run.loss, residual_enabled=run.residual_enabled
        )
        run.accelerator.backward(out.objective)
        if run.recipe.train.grad_clip is not None:
            run.accelerator.clip_grad_norm_(run.wrapped.parameters(), run.recipe.train.grad_clip)
        run.optimizer.step()
        run.scheduler.step()
        run.optimizer.zero_grad()


class BareLoop:
    """The network and its optimizer alone, in plain torch: a dummy loss, and nothing to warp."""

    def __init__(self, run: Run, batches: Iterator[Batch]) -> None:
        self._model, self._batches, self._device = run.model, batches, run.accelerator.device
        self._optimizer = run.optimizer.optimizer
        self._clip = run.recipe.train.grad_clip or float("inf")

    def step(self) -> None:
        image = next(self._batches)["input_image"].to(self._device, non_blocking=True)
        prediction = self._model(image)
        outputs = (prediction["params"], prediction["residual_flow"], prediction["uncertainty"])
        torch.stack([output.square().mean() for output in outputs]).sum().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._clip)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
