"""The user's own loaders: imported from the working directory, checked and completed."""

import sys

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, Dataset, IterableDataset

from warp_train.data import external_batches, load_external
from warp_train.runtime.errors import WarpTrainError

MODULE = """
import torch

def batch():
    return {"input_image": torch.rand(4, 3, 32, 48), "target_image": torch.rand(4, 3, 32, 48)}

def loaders():
    return [batch(), batch()], [batch()]

def broken():
    raise ValueError("no disk\\nat all")

def alone():
    return 7

def spent():
    return iter([batch()]), [batch()]

def endless():
    return (batch() for _ in iter(int, 1)), [batch()]

class Unknown:
    def __iter__(self):
        yield batch()

def unknown():
    return Unknown(), [batch()]

def empty():
    return [], [batch()]
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    name = f"loaders_of_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return name


def good(**changes):
    batch = {"input_image": torch.rand(4, 3, 32, 48), "target_image": torch.rand(4, 3, 32, 48)}
    return {key: value for key, value in {**batch, **changes}.items() if value is not None}


def test_a_module_in_the_working_directory_is_found_and_completed(module):
    path = list(sys.path)
    train, val = load_external(f"{module}:loaders")
    assert sys.path == path
    batches = list(external_batches(train, 16, "train"))
    assert [batch["index"].tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert batches[1]["target_params"].shape == (4, 8)
    assert batches[1]["target_params"].isnan().all()
    assert batches[1]["orig_size"].tolist() == [[32, 48]] * 4
    assert len(set(batches[0]["image_id"] + batches[1]["image_id"])) == 8
    assert batches[0]["replaced"] == [""] * 4
    assert len(list(external_batches(val, 16, "val"))) == 1


def test_single_samples_are_batched_and_extra_keys_kept():
    samples = [
        {"input_image": torch.rand(3, 32, 48), "target_image": torch.rand(3, 32, 48),
         "image_id": f"n{i}", "orig_size": (320, 480), "score": i / 2}
        for i in range(5)
    ]  # fmt: skip
    batches = list(external_batches(samples, 2, "train"))
    assert [len(batch["input_image"]) for batch in batches] == [2, 2, 1]
    assert batches[1]["image_id"] == ["n2", "n3"]
    assert batches[1]["score"].tolist() == [1, 1.5]
    assert batches[1]["orig_size"].tolist() == [[320, 480]] * 2


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (good(target_image=None), "'target_image' is missing; got input_image"),
        (good(input_image=[1]), "'input_image' must be float32 .* got list"),
        (good(input_image=torch.rand(4, 1, 32, 48)), r"3, \?, \?\].*float32 \[4, 1, 32, 48\]"),
        (good(input_image=torch.rand(4, 3, 32, 48).double()), "got float64"),
        (good(input_image=torch.zeros(4, 3, 32, 48, dtype=torch.uint8)), "got uint8"),
        (good(input_image=torch.rand(4, 3, 32, 48) * 255), "'input_image' must lie in 0..1"),
        (good(target_image=torch.full((4, 3, 32, 48), torch.nan)), "'target_image' must lie in"),
        (good(target_image=torch.rand(4, 3, 32, 40)), r"'target_image'.*\[4, 3, 32, 48\].*32, 40"),
        (good(target_params=torch.zeros(4, 7)), r"'target_params'.*\[4, 8\].*\[4, 7\]"),
        (good(target_grid=torch.zeros(4, 2, 32, 48)), "'target_grid'"),
        (good(index=torch.zeros(4)), r"'index' must be int64 \[B\] .* got float32 \[4\]"),
        (good(image_id=["a", "b"]), "'image_id' must be a list of 4 texts"),
        (good(image_id=torch.arange(4)), "'image_id' must be a list of 4 texts"),
        ((1, 2), "must be a dict of tensors, got tuple"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("before", [0, 2])
def test_a_wrong_batch_is_described_in_one_line(batch, message, before):
    """Any batch, and not only the first."""
    batches = external_batches([good()] * before + [batch], 4, "my train loader")
    for _ in range(before):
        next(batches)
    with pytest.raises(WarpTrainError, match=message) as caught:
        next(batches)
    number = f"{'entry' if isinstance(batch, tuple) else 'batch'} {before + 1}"
    assert str(caught.value).startswith(f"my train loader, {number}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_image": torch.rand(4, 3, 32, 40)}, "RuntimeError: stack expects"),
        ({"target_image": None}, "KeyError: 'target_image'"),
    ],
)
def test_samples_that_cannot_be_stacked_are_one_line(changes, message):
    several = ({}, {}, {}, changes)
    samples = [{key: value[0] for key, value in good(**each).items()} for each in several]
    with pytest.raises(WarpTrainError, match=f"^mine, batch 2: its samples.*{message}") as caught:
        list(external_batches(samples, 2, "mine"))
    assert "\n" not in str(caught.value)


class Read(TorchDispatchMode):
    """Counts what makes the host wait for the values of a GPU's tensor."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function.overloadpacket.__name__ == "_local_scalar_dense"
        return function(*args, **(kwargs or {}))


def test_values_are_read_only_where_they_may_be():
    """Shapes and types are looked at in every batch."""
    wrong = good(input_image=torch.rand(4, 3, 32, 48) * 255)
    with Read() as read:
        for number, _ in enumerate(
            external_batches([good(), wrong, good()], 4, "mine", read_values=lambda n: n == 2)
        ):
            assert (read.count > 0) == (number == 2)
    with pytest.raises(WarpTrainError, match=r"batch 2: 'input_image' must lie in 0..1"):
        list(external_batches([good(), wrong], 4, "mine", read_values=lambda n: n == 1))


class Once:
    """A loader with a length whose passes all share one generator."""

    def __init__(self, entries):
        self.entries = (entry for entry in entries)

    def __len__(self):
        return 2

    def __iter__(self):
        return self.entries


class OnceByTorch(IterableDataset):
    def __init__(self):
        self.entries = (good() for _ in range(2))

    def __len__(self):
        return 2

    def __iter__(self):
        return self.entries


def test_a_loader_that_can_be_iterated_only_once_is_refused_at_once():
    for loader in (Once([good(), good()]), Once(map(dict, [good(), good()]))):
        with pytest.raises(WarpTrainError, match=r"mine: can be iterated only once \(generator\)"):
            next(external_batches(loader, 4, "mine"))


def test_a_pass_that_is_shorter_than_its_length_ends_with_an_error():
    loader = DataLoader(OnceByTorch(), batch_size=None)
    assert len(list(external_batches(loader, 4, "mine", least=2))) == 2
    with pytest.raises(WarpTrainError, match=r"one pass has ended after 0 entries.*is 2; it must"):
        list(external_batches(loader, 4, "mine", least=2))
    with pytest.raises(WarpTrainError, match=r"one pass has ended after 0 entries; it must start"):
        list(external_batches(loader, 4, "mine"))


class Fails(Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        if index:
            raise ValueError("no such frame\nat all")
        return {key: value[0] for key, value in good().items()}


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_the_loader_itself_is_one_line(workers):
    loader = DataLoader(Fails(), batch_size=None, num_workers=workers)
    with pytest.raises(WarpTrainError, match=r"^mine, entry 2: ValueError: no such frame$"):
        list(external_batches(loader, 1, "mine"))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("gone", "AttributeError"),
        ("broken", "ValueError: no disk$"),
        ("alone", r"must return \(train_loader, val_loader\), got int"),
        ("spent", "the train loader must be iterable again"),
        ("endless", "the train loader must be iterable again"),
        ("unknown", "the train loader has no length"),
        ("empty", "the train loader is empty"),
    ],
)
def test_loaders_that_cannot_be_had_are_described(module, function, message):
    with pytest.raises(WarpTrainError, match=message) as caught:
        load_external(f"{module}:{function}")
    assert f"{module}:{function}" in str(caught.value)


def test_a_module_that_is_not_there_is_named():
    with pytest.raises(WarpTrainError, match=r"data.external 'nowhere_at_all:f': ModuleNotFound"):
        load_external("nowhere_at_all:f")
