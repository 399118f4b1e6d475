"""Batches for the loop, in an order that does not depend on the number of processes."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from accelerate import Accelerator

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
from warp_train.data.sources.external import external_length, load_external
from warp_train.recipe import Recipe
from warp_train.training.external_share import FIXED_WARP_SAMPLES, open_share


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
        """The number of samples and, for files, a digest of their names.

        For external loaders, their lengths: with other lengths, the ranks would train other numbers
        of steps, and the longer ones would wait for the shorter ones at the end.
        """
        if self.external:
            train, val = map(external_length, (self.train, self.val))
            return f"loaders of {self.external} with lengths {train} (train), {val} (validation)"
        return f"{_listing(self.train)} to train on, {self.val_listing} to validate on"

    @property
    def val_listing(self) -> str:
        """The same of the validation samples alone."""
        if self.external:
            return f"{external_length(self.val)} batches of {self.external}"
        return _listing(self.val)


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
    train: Any = data.train
    val: Any = data.val
    rank, world = accelerator.process_index, accelerator.num_processes
    share = open_share(recipe, train, val, rank=rank, world=world)
    return Feed(
        share.steps_per_epoch,
        share.global_batch,
        share.size,
        share.train,
        share.validation,
        share.first_samples,
    )
