"""The order of samples over steps, epochs and processes, and the loaders that use it."""

import atexit
import multiprocessing
import signal
from collections.abc import Iterable, Iterator
from typing import Any

import cv2
import numpy as np
import threadpoolctl
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from warp_train.data.samples import Batch, Sample, SampleKey, collate
from warp_train.runtime.errors import WarpTrainError

_ORDER = 0x0D  # makes the order's random stream independent of the samples'


class GlobalBatchSampler(Sampler[list[SampleKey]]):
    """An endless sequence of this process's batches, starting at optimizer step `start_step`.

    The permutation of epoch `e` is a function of (seed, e) alone. An optimizer step uses the next
    `batch_size · accum · world` indices, of which micro-batch `a` of process `rank` is the slice at
    `(a · world + rank) · batch_size`. So every step consists of the same samples for one process
    with a large batch, for two processes with half of it, and for accumulated micro-batches, and a
    resumed run continues at the same sample. The incomplete step at the end of an epoch is dropped.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        *,
        accum: int = 1,
        rank: int = 0,
        world: int = 1,
        seed: int = 0,
        start_step: int = 0,
    ) -> None:
        self.length = length
        self.batch_size = batch_size
        self.accum = accum
        self.rank = rank
        self.world = world
        self.seed = seed
        self.start_step = start_step
        self.global_batch = batch_size * accum * world
        self.steps_per_epoch = max(1, length // self.global_batch)

    def order(self, epoch: int) -> list[int]:
        """The `steps_per_epoch · global_batch` sample indices of an epoch, in order.

        In an epoch shorter than one global batch, the permutation is repeated to fill one step.
        """
        order = np.random.default_rng((self.seed, _ORDER, epoch)).permutation(self.length)
        return np.resize(order, self.steps_per_epoch * self.global_batch).tolist()  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[list[SampleKey]]:
        epoch, step = divmod(self.start_step, self.steps_per_epoch)
        while True:
            order = self.order(epoch)
            for first in range(step * self.global_batch, len(order), self.global_batch):
                for micro in range(self.accum):
                    start = first + (micro * self.world + self.rank) * self.batch_size
                    indices = order[start : start + self.batch_size]
                    yield [SampleKey(epoch, index) for index in indices]
            epoch, step = epoch + 1, 0


def build_loader(
    source: Dataset[Sample],
    sampler: GlobalBatchSampler,
    *,
    workers: int = 0,
    pin_memory: bool = False,
) -> DataLoader[Sample]:
    """An endless loader. Iterate over it once for the complete run: workers start only once."""
    return _loader(source, sampler, workers, pin_memory)


def build_val_loader(
    source: Dataset[Sample],
    batch_size: int,
    *,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    pin_memory: bool = False,
    max_samples: int | None = None,
) -> DataLoader[Sample]:
    """This process's share of the (first `max_samples`) validation samples, each once.

    Process `rank` loads the indices `rank, rank + world, ...`, always with epoch 0. Nothing is
    padded: the number of batches may differ by one between processes, and may be zero.
    """
    length = len(source)  # type: ignore[arg-type]
    if max_samples is not None:
        length = min(length, max_samples)
    keys = [SampleKey(0, index) for index in range(rank, length, world)]
    chunks = [keys[start : start + batch_size] for start in range(0, len(keys), batch_size)]
    return _loader(source, chunks, workers, pin_memory)


def _loader(
    source: Dataset[Sample], batches: Iterable[list[SampleKey]], workers: int, pin_memory: bool
) -> DataLoader[Sample]:
    return DataLoader(
        source,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        worker_init_fn=start_worker if workers else None,
        persistent_workers=workers > 0,
        prefetch_factor=4 if workers else None,
    )


@atexit.register
def _end_workers() -> None:
    """Kills the workers of a loader that still exists when the program ends, as after an error.

    The workers ignore SIGTERM. Otherwise `multiprocessing` would send it and wait for them forever.
    """
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()


def start_worker(worker: int) -> None:
    """Prepares a loading process: it uses one thread, and ignores SIGINT and SIGTERM.

    More threads would compete with the training process for its cores. Every process of a terminal
    receives SIGINT on Ctrl-C, and every process of a job receives a scheduler's SIGTERM. The
    training process ends its workers itself; if a worker died before, no checkpoint would be saved.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    threadpoolctl.threadpool_limits(1)  # numpy's BLAS occupies all cores, even for 3 × 3 matrices


def batches(loader: Iterable[Any]) -> Iterator[Batch]:
    """The loader's batches; the message of a worker's WarpTrainError stays one line."""
    try:
        yield from loader
    except WarpTrainError as error:
        # A DataLoader prepends the worker's traceback to the message.
        last_line = str(error).strip().splitlines()[-1]
        raise WarpTrainError(last_line.split("WarpTrainError: ", 1)[-1]) from error
