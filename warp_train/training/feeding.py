"""Batches for the loop, in an order that does not depend on the number of processes."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from accelerate import Accelerator
from accelerate.utils import set_seed

from warp_train.data import (
    Batch,
    GlobalBatchSampler,
    SampleKey,
    batches,
    build_loader,
    build_sources,
    build_val_loader,
    collate,
)
from warp_train.data.sources import Source
from warp_train.data.sources.external import external_batches, load_external
from warp_train.recipe import Recipe
from warp_train.runtime.errors import WarpTrainError

FIXED_WARP_SAMPLES = 256
"""Training samples whose median is the fixed warp."""


@dataclass(frozen=True)
class Feed:
    """One process's batches."""

    steps_per_epoch: int
    global_batch: int
    size: tuple[int, int]
    """(height, width) of the frames."""
    train: Callable[[int], Iterator[Batch]]
    """Endless micro-batches, from an optimizer step on."""
    validation: Callable[[], Iterable[Batch]]
    """This process's share of the validation samples, once."""
    first_samples: Callable[[], Iterable[Batch]]
    """About `FIXED_WARP_SAMPLES` training samples, the same on every process."""


@dataclass(frozen=True)
class Data:
    """The samples that the `data` section names, found and checked before training starts."""

    train: Source | Iterable[Any]
    val: Source | Iterable[Any]
    external: str | None

    @property
    def warps_known(self) -> bool:
        """Whether the warp of every sample is known in advance."""
        sources = () if self.external else (self.train, self.val)
        return bool(sources) and all(getattr(s, "warps_known", True) for s in sources)

    @property
    def listing(self) -> str:
        """The number of samples and, for files, a digest of their names."""
        if self.external:
            return f"the loaders of {self.external}"
        return f"{_listing(self.train)} to train on, {_listing(self.val)} to validate on"


def _listing(source: Any) -> str:
    names = getattr(source, "listing_digest", None)
    return f"{len(source)} samples" + (f" ({names()})" if names else "")


def open_data(recipe: Recipe) -> Data:
    """Finds the samples.

    Raises:
        WarpTrainError: samples are missing or invalid; the message names the key or file.
    """
    spec = recipe.data.external if recipe.data.source == "external" else None
    train, val = load_external(spec) if spec else build_sources(recipe.data, recipe.seed)
    return Data(train, val, spec)


def build_feed(recipe: Recipe, data: Data, accelerator: Accelerator) -> Feed:
    """The batches of this process."""
    if data.external:
        return _external_feed(recipe, data, accelerator)
    return _source_feed(recipe, data, accelerator)


def _source_feed(recipe: Recipe, data: Data, accelerator: Accelerator) -> Feed:
    rank, world = accelerator.process_index, accelerator.num_processes
    source: Any = data.train
    pin = accelerator.device.type == "cuda"

    def sampler(start_step: int) -> GlobalBatchSampler:
        return GlobalBatchSampler(
            len(source),
            recipe.train.batch_size,
            accum=recipe.train.grad_accum_steps,
            rank=rank,
            world=world,
            seed=recipe.seed,
            start_step=start_step,
        )

    def train(start_step: int) -> Iterator[Batch]:
        return batches(
            build_loader(source, sampler(start_step), workers=recipe.data.workers, pin_memory=pin)
        )

    val_loader = build_val_loader(
        data.val,  # type: ignore[arg-type]
        recipe.train.batch_size,
        rank=rank,
        world=world,
        workers=recipe.data.workers,
        pin_memory=pin,
        max_samples=recipe.validation.max_samples,
    )

    def first_samples() -> Iterator[Batch]:
        for index in range(min(FIXED_WARP_SAMPLES, len(source))):
            yield collate([source[SampleKey(0, index)]])

    order = sampler(0)
    return Feed(
        order.steps_per_epoch,
        order.global_batch,
        recipe.data.size,
        train,
        lambda: batches(val_loader),
        first_samples,
    )


def _external_feed(recipe: Recipe, data: Data, accelerator: Accelerator) -> Feed:
    """Every process iterates the user's loaders and keeps its share of the batches."""
    rank, world = accelerator.process_index, accelerator.num_processes
    accum, size = recipe.train.grad_accum_steps, recipe.train.batch_size
    where = f"data.external '{data.external}'"

    def one_pass(loader: Any, name: str) -> Iterator[Batch]:
        return external_batches(loader, size, f"{where} ({name})")

    probe, count = _probe(data.train, size, where)
    per_epoch = count // (accum * world)
    if per_epoch == 0:
        raise WarpTrainError(
            f"{where}: the train loader has {count} batches, fewer than one optimizer step takes "
            f"(train.grad_accum_steps {accum} × {world} processes)"
        )

    def train(start_step: int) -> Iterator[Batch]:
        epoch, done = divmod(start_step, per_epoch)
        for current in itertools.count(epoch):
            # A loader draws its order and samples from the global generators: seed them by epoch.
            set_seed((recipe.seed + current) % 2**32)
            share = itertools.islice(one_pass(data.train, "train"), rank, None, world)
            first = done * accum if current == epoch else 0
            yield from itertools.islice(share, first, per_epoch * accum)

    def validation() -> Iterator[Batch]:
        seen = 0
        for number, batch in enumerate(one_pass(data.val, "val")):
            if recipe.validation.max_samples and seen >= recipe.validation.max_samples:
                return
            seen += len(batch["input_image"])
            if number % world == rank:
                yield batch

    def first_samples() -> Iterator[Batch]:
        count = -(-FIXED_WARP_SAMPLES // len(probe["input_image"]))
        return itertools.islice(one_pass(data.train, "train"), count)

    batch, _, height, width = probe["input_image"].shape
    return Feed(per_epoch, batch * accum * world, (height, width), train, validation, first_samples)


def _probe(loader: Any, batch_size: int, where: str) -> tuple[Batch, int]:
    """A first batch, checked, and the number of batches in one pass.

    Raises:
        WarpTrainError: the loader is empty or has no length, or the batch is invalid.
    """
    try:
        length = len(loader)
    except TypeError as error:
        raise WarpTrainError(
            f"{where}: the train loader has no length (give it __len__)"
        ) from error
    entries = iter(loader)
    first = next(entries, None)
    if first is None:
        raise WarpTrainError(f"{where}: the train loader is empty")
    batch = next(
        external_batches(itertools.chain([first], entries), batch_size, f"{where} (train)")
    )
    single = first["input_image"].dim() == 3
    return batch, length // batch_size if single else length
