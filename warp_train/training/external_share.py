"""The batches that one process takes from the user's own loaders."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from accelerate.utils import set_seed

from warp_train.data import Batch
from warp_train.data.sources.external import external_batches, external_length, probe_external
from warp_train.recipe import Recipe
from warp_train.runtime.errors import WarpTrainError

FIXED_WARP_SAMPLES = 256
"""Training samples whose median is the fixed warp."""


@dataclass(frozen=True)
class ExternalShare:
    """Every process iterates the loaders as a whole and keeps every `world`-th batch."""

    train_loader: Iterable[Any]
    val_loader: Iterable[Any]
    recipe: Recipe
    rank: int
    world: int
    probe: Batch
    """The first training batch of a pass."""
    steps_per_epoch: int

    @property
    def global_batch(self) -> int:
        """Samples of an optimizer step, over all processes."""
        return len(self.probe["input_image"]) * self._batches_per_step

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the frames."""
        height, width = self.probe["input_image"].shape[-2:]
        return height, width

    def train(self, start_step: int) -> Iterator[Batch]:
        """Endless micro-batches of this process, from an optimizer step on."""
        epoch, done = divmod(start_step, self.steps_per_epoch)
        accum = self.recipe.train.grad_accum_steps
        for current in itertools.count(epoch):
            # A loader draws its order and samples from the global generators: seed them by epoch.
            set_seed((self.recipe.seed + current) % 2**32)
            one_pass = self._train_pass(self._logged(current))
            share = itertools.islice(one_pass, self.rank, None, self.world)
            first = done * accum if current == epoch else 0
            yield from itertools.islice(share, first, self.steps_per_epoch * accum)

    def validation(self) -> Iterator[Batch]:
        """This process's share of one pass over the (first `max_samples`) validation samples."""
        seen, most = 0, self.recipe.validation.max_samples
        one_pass = external_batches(
            self.val_loader,
            self.recipe.train.batch_size,
            _where(self.recipe, "validation"),
            read_values=self._is_mine,
        )
        for number, batch in enumerate(one_pass):
            if most and seen >= most:
                return
            seen += len(batch["input_image"])
            if self._is_mine(number):
                yield batch

    def first_samples(self) -> Iterator[Batch]:
        """About `FIXED_WARP_SAMPLES` training samples, the same on every process."""
        batches = -(-FIXED_WARP_SAMPLES // len(self.probe["input_image"]))
        return itertools.islice(self._train_pass(lambda number: True), batches)

    @property
    def _batches_per_step(self) -> int:
        return self.recipe.train.grad_accum_steps * self.world

    def _is_mine(self, number: int) -> bool:
        return number % self.world == self.rank

    def _logged(self, epoch: int) -> Callable[[int], bool]:
        """Whether a batch of the epoch is this process's and its step writes a line of metrics: on
        a GPU, the values of others must not be read."""
        before, every = epoch * self.steps_per_epoch, self.recipe.train.log_every

        def logged(number: int) -> bool:
            step = number // self._batches_per_step + 1
            line = (before + step) % every == 0 or step == self.steps_per_epoch
            return line and self._is_mine(number)

        return logged

    def _train_pass(self, read_values: Callable[[int], bool]) -> Iterator[Batch]:
        return external_batches(
            self.train_loader,
            self.recipe.train.batch_size,
            _where(self.recipe, "train"),
            least=external_length(self.train_loader) or 1,
            read_values=read_values,
        )


def open_share(
    recipe: Recipe,
    train_loader: Iterable[Any],
    val_loader: Iterable[Any],
    *,
    rank: int,
    world: int,
) -> ExternalShare:
    """The share of process `rank` of `world`.

    Raises:
        WarpTrainError: the first training batch is wrong, or there are too few for a step.
    """
    accum = recipe.train.grad_accum_steps
    where = _where(recipe, "train")
    probe, count = probe_external(train_loader, recipe.train.batch_size, where)
    if count < accum * world:
        raise WarpTrainError(
            f"{where} has {count} batches, fewer than one optimizer step takes "
            f"(train.grad_accum_steps {accum} × {world} processes)"
        )
    per_epoch = count // (accum * world)
    return ExternalShare(train_loader, val_loader, recipe, rank, world, probe, per_epoch)


def _where(recipe: Recipe, name: str) -> str:
    return f"data.external '{recipe.data.external}': {name} loader"
