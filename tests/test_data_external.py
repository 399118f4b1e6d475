"""The user's own loaders: imported from the working directory, checked once, made complete."""

import sys

import pytest
import torch

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
        (good(target_image=None), "my loaders: 'target_image' is missing; got input_image"),
        (good(input_image=[1]), "'input_image' must be float32 .* got list"),
        (good(input_image=torch.rand(4, 1, 32, 48)), r"3, \?, \?\].*float32 \[4, 1, 32, 48\]"),
        (good(input_image=torch.rand(4, 3, 32, 48).double()), "got float64"),
        (good(input_image=torch.zeros(4, 3, 32, 48, dtype=torch.uint8)), "got uint8"),
        (good(input_image=torch.rand(4, 3, 32, 48) * 255), "'input_image' must lie in 0..1"),
        (good(target_image=torch.full((4, 3, 32, 48), torch.nan)), "'target_image' must lie in"),
        (good(target_image=torch.rand(4, 3, 32, 40)), r"'target_image'.*\[4, 3, 32, 48\].*32, 40"),
        (good(target_params=torch.zeros(4, 7)), r"'target_params'.*\[4, 8\].*\[4, 7\]"),
        (good(target_grid=torch.zeros(4, 2, 32, 48)), "'target_grid'"),
        ((1, 2), "must yield dicts of tensors, got tuple"),
    ],
)  # fmt: skip
def test_a_wrong_first_batch_is_described_in_one_line(batch, message):
    with pytest.raises(WarpTrainError, match=message) as caught:
        next(external_batches([batch], 4, "my loaders"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("gone", "AttributeError"),
        ("broken", "ValueError: no disk$"),
        ("alone", r"must return \(train_loader, val_loader\), got int"),
        ("spent", "the train loader must be iterable again"),
    ],
)
def test_loaders_that_cannot_be_had_are_described(module, function, message):
    with pytest.raises(WarpTrainError, match=message) as caught:
        load_external(f"{module}:{function}")
    assert f"{module}:{function}" in str(caught.value)


def test_a_module_that_is_not_there_is_named():
    with pytest.raises(WarpTrainError, match=r"data.external 'nowhere_at_all:f': ModuleNotFound"):
        load_external("nowhere_at_all:f")
