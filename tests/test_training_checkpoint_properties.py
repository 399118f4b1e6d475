"""A checkpoint folder of any contents is taken up whole or refused in one line; nothing runs."""

import json
import os
import struct
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load, load_file, save_file
from training_toy import ToyRun

from warp_train.runtime.errors import WarpTrainError
from warp_train.training.checkpoints.folder import (
    find_checkpoint,
    newest_checkpoint,
)
from warp_train.training.checkpoints.state import TrainerState, read_trainer_state

STATE, OPTIMIZER, RNG = "trainer_state.json", "optimizer.safetensors", "rng-0.safetensors"
BINARY = (OPTIMIZER, RNG, "model.safetensors", "raw.safetensors")
bounded = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Files(dict[str, bytes]):
    """A folder's files by name."""

    def __repr__(self) -> str:
        return "Files()"


@pytest.fixture(scope="module")
def toy() -> ToyRun:
    return ToyRun()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, toy: ToyRun) -> Files:
    toy.train(0, 3)
    folder = toy.save(tmp_path_factory.mktemp("sound"), 3)
    return Files({path.name: path.read_bytes() for path in folder.iterdir()})


@pytest.fixture
def folder(tmp_path: Path, sound: Files) -> Path:
    return write(tmp_path / "checkpoints" / "step-000000003", sound)


def write(folder: Path, files: Files) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def taken_up_or_refused(folder: Path, toy: ToyRun) -> bool:
    """Reads it in every way; whether it was taken up, and if so can be trained from."""
    newest = newest_checkpoint(folder.parent.parent)
    assert newest in (None, folder.resolve())
    try:
        state = read_trainer_state(folder)
        toy.restore(find_checkpoint(folder, "last"))
    except WarpTrainError as error:
        complaint = str(error)
    else:
        complaint = ""
        assert isinstance(state, TrainerState)
    assert complaint.isprintable()
    assert len(complaint) < 2 * len(str(folder)) + 600
    if complaint:
        return False
    toy.train(3, 4)
    assert all(torch.isfinite(value).all() for value in toy.model.state_dict().values())
    return True


def test_a_sound_one_is_taken_up(folder: Path, toy: ToyRun) -> None:
    assert taken_up_or_refused(folder, toy)
    assert newest_checkpoint(folder.parent.parent) == folder.resolve()


@bounded
@given(data=st.data(), name=st.sampled_from(BINARY))
def test_damaged_tensors(
    data: st.DataObject, name: str, folder: Path, sound: Files, toy: ToyRun
) -> None:
    content = bytearray(sound[name])
    (header,) = struct.unpack("<Q", content[:8])
    places = st.integers(0, header + 8) | st.integers(0, len(content) - 1)
    for place in data.draw(st.lists(places, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.none() | st.integers(0, len(content)))
    write(folder, Files({**sound, name: bytes(content[:cut])}))
    taken_up_or_refused(folder, toy)


shapes = st.lists(st.integers(0, 9), max_size=3)
kinds = st.sampled_from([torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool])


@bounded
@given(data=st.data(), name=st.sampled_from([OPTIMIZER, RNG]))
def test_tensors_of_other_names_shapes_kinds_and_values(
    data: st.DataObject, name: str, folder: Path, sound: Files, toy: ToyRun
) -> None:
    tensors = load(sound[name])
    for key in data.draw(st.lists(st.sampled_from(sorted(tensors)), min_size=1, max_size=3)):
        change = data.draw(st.integers(0, 3))
        if change == 0:
            tensors.pop(key, None)
        elif change == 1:
            tensors[data.draw(st.text(max_size=9))] = torch.zeros(2)
        elif change == 2:
            shape, kind = data.draw(shapes), data.draw(kinds)
            tensors[key] = torch.full(shape, data.draw(st.integers(0, 1))).to(kind)
        elif key in tensors and tensors[key].numel():
            numbers = [-(2**40), -1, 0, 1, 625, 2**31, float("nan"), 1e300]
            place = data.draw(st.integers(-3, 2)) if tensors[key].dim() else 0
            flat = tensors[key].view(-1)
            number = data.draw(
                st.sampled_from(numbers if flat.is_floating_point() else numbers[:6])
            )
            flat[place % len(flat)] = torch.tensor(number).to(flat.dtype)
    write(folder, sound)  # what the example before has damaged
    save_file(tensors, folder / name)
    taken_up_or_refused(folder, toy)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, 2**63, -1, 10**13, 1e300])
    | st.floats()
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)


def _places(tree: object, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    parts: list[tuple[Any, Any]] = list(tree.items()) if isinstance(tree, dict) else []
    parts += list(enumerate(tree)) if isinstance(tree, list) else []
    return [place for key, part in parts for place in ((*at, key), *_places(part, (*at, key)))]


@bounded
@given(data=st.data())
def test_another_trainer_state(
    data: st.DataObject, folder: Path, sound: Files, toy: ToyRun
) -> None:
    state = deepcopy(json.loads(sound[STATE]))
    for _ in range(data.draw(st.integers(1, 3))):
        *way, last = data.draw(st.sampled_from(_places(state)))
        parent: Any = state
        for key in way:
            parent = parent[key]
        if isinstance(parent, dict) and data.draw(st.booleans()):
            del parent[last]
        else:
            parent[last] = data.draw(values)
        if not _places(state):
            break
    (folder / STATE).write_text(json.dumps(state))
    taken_up_or_refused(folder, toy)


@bounded
@given(noise=st.binary(max_size=80), name=st.sampled_from([STATE, "config.json", *BINARY]))
def test_bytes(noise: bytes, name: str, folder: Path, sound: Files, toy: ToyRun) -> None:
    write(folder, Files({**sound, name: noise}))
    taken_up_or_refused(folder, toy)


@pytest.mark.parametrize(("place", "number"), [(0, -1), (0, 2**32), (624, -1), (624, 625)])
@pytest.mark.parametrize("name", ["numpy", "python"])
def test_no_state_of_a_generator(
    name: str, place: int, number: int, folder: Path, toy: ToyRun
) -> None:
    tensors = load_file(folder / RNG)
    tensors[name][place] = number
    save_file(tensors, folder / RNG)
    assert not taken_up_or_refused(folder, toy)


def _set(*way: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(state: dict[str, Any]) -> None:
        part: Any = state
        for key in way[:-1]:
            part = part[key]
        if to is ...:
            del part[way[-1]]
        else:
            part[way[-1]] = to

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set("scheduler", to={}),
        _set("scheduler", "last_epoch", to=...),
        _set("scheduler", "last_epoch", to=10**400),
        _set("scheduler", "last_epoch", to=-1),
        _set("param_groups", 0, "params", to=["0.weight"]),
        _set("step", to=10**400),
        _set("world_size", to=10**15),
        _set("unlogged", "sums", to={"total": float("inf")}),
        _set("a\x1b[2J\n" * 999, to=1),
        _set("stage", to="\ud800"),
    ],
)
def test_states_that_must_be_refused(
    change: Callable[[dict[str, Any]], None], folder: Path, toy: ToyRun
) -> None:
    state = json.loads((folder / STATE).read_text())
    change(state)
    (folder / STATE).write_text(json.dumps(state))
    assert not taken_up_or_refused(folder, toy)


def test_attributes_cannot_be_slipped_in(folder: Path, toy: ToyRun) -> None:
    state = json.loads((folder / STATE).read_text())
    state["scheduler"] |= {"step": 3, "optimizer": None, "lr_lambdas": ["os.system", "x"]}
    state["param_groups"][0]["hyper"] |= {"params": [1], "owned": True}
    (folder / STATE).write_text(json.dumps(state))
    assert taken_up_or_refused(folder, toy)
    assert callable(toy.scheduler.step)
    assert "owned" not in toy.optimizer.param_groups[0]


@pytest.mark.parametrize("name", [STATE, "config.json", RNG, *BINARY])
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to(path.name)])
@pytest.mark.timeout(20)
def test_what_is_no_file_is_not_waited_for(
    make: Callable[[Path], None], name: str, folder: Path, toy: ToyRun
) -> None:
    (folder / name).unlink()
    make(folder / name)
    taken_up_or_refused(folder, toy)
    if name != "config.json":
        assert newest_checkpoint(folder.parent.parent) is None


def test_the_average_must_fit_as_well(folder: Path, toy: ToyRun) -> None:
    raw = load_file(folder / "raw.safetensors")
    save_file({**raw, "3.bias": torch.zeros(3)}, folder / "model.safetensors")
    assert not taken_up_or_refused(folder, toy)
