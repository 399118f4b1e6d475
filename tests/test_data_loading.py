"""The order of samples: one truth for any split over processes, accumulation and restarts."""

import subprocess
import sys
from itertools import islice

import pytest
import torch
from torch.utils.data import Dataset

from warp_train.data import (
    GlobalBatchSampler,
    Sample,
    SampleKey,
    batches,
    build_loader,
    build_val_loader,
    collate,
)
from warp_train.runtime.errors import WarpTrainError


def take(count: int, **kwargs) -> list[list[SampleKey]]:
    return list(islice(GlobalBatchSampler(**kwargs), count))


@pytest.mark.parametrize("length", [100, 5])
def test_two_processes_see_what_one_sees(length):
    one = take(30, length=length, batch_size=8, seed=3)
    ranks = [take(30, length=length, batch_size=4, rank=r, world=2, seed=3) for r in (0, 1)]
    assert [a + b for a, b in zip(*ranks, strict=True)] == one


def test_accumulation_sees_the_same_global_batches():
    one = take(12, length=100, batch_size=12, seed=3)
    parts = [take(36, length=100, batch_size=2, accum=3, rank=r, world=2, seed=3) for r in range(2)]
    for step, whole in enumerate(one):
        micro = [parts[r][step * 3 + a] for a in range(3) for r in range(2)]
        assert [key for batch in micro for key in batch] == whole


@pytest.mark.parametrize("start", [1, 7, 8, 9, 23])
def test_a_resumed_run_goes_on_where_it_was(start):
    common = {"length": 70, "batch_size": 2, "accum": 2, "rank": 1, "world": 2, "seed": 4}
    whole = take(80, **common)
    assert take(20, **common, start_step=start) == whole[start * 2 : start * 2 + 20]


def test_every_epoch_is_another_permutation_without_repeats():
    keys = [key for batch in take(24, length=96, batch_size=8, seed=0) for key in batch]
    epochs = [[key.index for key in keys if key.epoch == epoch] for epoch in (0, 1)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(96))
    assert epochs[0] != epochs[1]
    assert take(1, length=96, batch_size=8, seed=0) != take(1, length=96, batch_size=8, seed=1)


def test_the_incomplete_step_is_dropped_and_a_short_epoch_filled():
    assert GlobalBatchSampler(50, 4, accum=3, world=2).steps_per_epoch == 2
    short = GlobalBatchSampler(5, 8, seed=1)
    assert short.steps_per_epoch == 1
    first, second = islice(short, 2)
    assert {key.index for key in first} == set(range(5))
    assert (first[0].epoch, second[0].epoch) == (0, 1)


class Numbers(Dataset[Sample]):
    def __init__(self, length: int, broken: int = -1) -> None:
        self.length, self.broken = length, broken

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: SampleKey) -> Sample:
        if key.index == self.broken:
            raise WarpTrainError("photos/a.jpg: cut short (nor could any after it be read)")
        return {"index": key.index, "epoch": key.epoch, "threads": torch.get_num_threads()}


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("length", [1, 7, 12])
def test_validation_sees_every_sample_once(world, length):
    loaders = [build_val_loader(Numbers(length), 4, rank=r, world=world) for r in range(world)]
    seen = [i for loader in loaders for batch in loader for i in batch["index"].tolist()]
    assert sorted(seen) == list(range(length))
    assert {e for loader in loaders for batch in loader for e in batch["epoch"].tolist()} == {0}


def test_one_iterator_runs_over_epochs_with_single_threaded_workers():
    loader = build_loader(Numbers(10), GlobalBatchSampler(10, 5, seed=0), workers=1)
    got = list(islice(batches(loader), 6))
    assert [int(batch["epoch"][0]) for batch in got] == [0, 0, 1, 1, 2, 2]
    assert got[0]["threads"].tolist() == [1] * 5


def test_a_program_that_ends_with_a_loader_open_ends():
    program = """
import sys
from warp_train.data import GlobalBatchSampler, build_loader, build_sources
from warp_train.data.config import DataConfig
scenes, _ = build_sources(DataConfig(size=(32, 32)), 0)
iterator = iter(build_loader(scenes, GlobalBatchSampler(10, 5), workers=1))
next(iterator)
sys.keep = [iterator]  # outlives the clean-up of modules
print("done")
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout == "done\n"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_workers_error_keeps_its_one_line(workers):
    loader = build_loader(Numbers(4, broken=2), GlobalBatchSampler(4, 4, seed=0), workers=workers)
    with pytest.raises(WarpTrainError) as caught:
        next(batches(loader))
    assert str(caught.value) == "photos/a.jpg: cut short (nor could any after it be read)"


def test_collate_stacks_numbers_and_lists_names():
    samples = [
        {"image": torch.full((2,), float(i)), "size": (4, 6 + i), "name": f"n{i}", "score": i / 2}
        for i in range(3)
    ]
    batch = collate(samples)
    assert batch["image"].shape == (3, 2)
    assert batch["size"].tolist() == [[4, 6], [4, 7], [4, 8]]
    assert batch["name"] == ["n0", "n1", "n2"]
    assert batch["score"].tolist() == [0, 0.5, 1]
