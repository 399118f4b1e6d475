"""Models from untrusted places: whatever a folder holds, it is a model or one clear line."""

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
from safetensors.torch import load_file, save_file

from warp_train.models import (
    HybridModel,
    ModelConfig,
    TrainedOn,
    from_pretrained,
    load_weights,
    model_description,
    save_pretrained,
)
from warp_train.runtime.errors import WarpTrainError

WEIGHTS, CONFIG = "model.safetensors", "config.json"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, dict[str, Any]]:
    """The weights and the configuration of a sound model."""
    folder = tmp_path_factory.mktemp("sound")
    trained = TrainedOn(stage="stage2_hybrid", size=(96, 144), fixed_warp=(0.1,) * 7 + (1.0,))
    save_pretrained(HybridModel(trained_on=trained), folder)
    return (folder / WEIGHTS).read_bytes(), json.loads((folder / CONFIG).read_text())


@pytest.fixture
def folder(tmp_path: Path, sound: tuple[bytes, dict[str, Any]]) -> Path:
    (tmp_path / WEIGHTS).write_bytes(sound[0])
    (tmp_path / CONFIG).write_text(json.dumps(sound[1]))
    return tmp_path


def refusal(folder: Path) -> str:
    with pytest.raises(WarpTrainError) as caught:
        from_pretrained(folder)
    message = str(caught.value)
    assert message.startswith(str(folder))
    assert message.isprintable()
    assert len(message) < len(str(folder)) + 600
    return message


def _header(data: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def _with_header(data: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    header, body = _header(data)
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def _overlap(header: dict[str, Any]) -> None:
    first, second = [name for name in header if name != "__metadata__"][:2]
    header[second]["data_offsets"] = header[first]["data_offsets"]


def _promise_too_much(header: dict[str, Any]) -> None:
    name = next(name for name in header if name != "__metadata__")
    header[name]["shape"] = [2**31, 2**31]


def _escape_in_a_name(header: dict[str, Any]) -> None:
    header["\x1b[2J\n" + "x" * 5000] = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"",
        lambda data: struct.pack("<Q", 2**60) + data[8:],
        lambda data: struct.pack("<Q", 2**64 - 1) + data[8:],
        lambda data: data[:8] + b"not JSON" + data[16:],
        lambda data: struct.pack("<Q", 2) + b"[]",
        lambda data: struct.pack("<Q", 200_000) + b"[" * 200_000,
        lambda data: data + b"more",
        lambda data: _with_header(data, _overlap),
        lambda data: _with_header(data, _promise_too_much),
        lambda data: _with_header(data, _escape_in_a_name),
        lambda data: b"\x80\x04cposix\nsystem\n",  # a pickle
    ],
)
def test_weights_that_are_no_safetensors(folder: Path, change: Callable[[bytes], bytes]) -> None:
    path = folder / WEIGHTS
    path.write_bytes(change(path.read_bytes()))
    assert WEIGHTS in refusal(folder)


def test_weights_cut_anywhere(folder: Path, sound: tuple[bytes, dict[str, Any]]) -> None:
    data = sound[0]
    (header,) = struct.unpack("<Q", data[:8])
    places = [*range(0, 10), 8 + header // 2, *range(7 + header, 12 + header), len(data) - 1]
    for place in [*places, *range(0, len(data), len(data) // 40)]:
        (folder / WEIGHTS).write_bytes(data[:place])
        assert "damaged or truncated" in refusal(folder)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64, torch.int64])
def test_weights_of_another_type(folder: Path, kind: torch.dtype) -> None:
    tensors = load_file(folder / WEIGHTS)
    save_file({name: value.to(kind) for name, value in tensors.items()}, folder / WEIGHTS)
    name = str(kind).removeprefix("torch.")
    assert f"is {name} there and float32 here" in refusal(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite(folder: Path, value: float) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors[max(tensors)].view(-1)[-1] = value
    save_file(tensors, folder / WEIGHTS)
    assert "not finite" in refusal(folder)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("file", [WEIGHTS, CONFIG])
@pytest.mark.parametrize("make", [Path.mkdir, _pipe, _loop, _device])
def test_what_is_no_file_is_not_waited_for(
    folder: Path, file: str, make: Callable[[Path], None]
) -> None:
    (folder / file).unlink()
    make(folder / file)
    assert f"{file}: cannot be read" in refusal(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.pop("model"), "model is missing"),
        (lambda c: c.pop("trained_on"), "trained_on is missing"),
        (lambda c: c["trained_on"].pop("size"), r"trained_on.size is missing"),
        (lambda c: c.update(model=[]), "model: "),
        (lambda c: c.update(residual_enabled="yes"), "residual_enabled: "),
        (lambda c: c["model"].update(backbone="vgg\x1b[2J99"), "model.backbone: "),
        (lambda c: c["model"].update({"a\nb" * 999: 1}), "model.a?b"),
        (lambda c: c["model"].update(residual_max_disp=1e9), "model.residual_max_disp: "),
        (lambda c: c["model"]["param_bounds"].update(k1=float("nan")), "model.param_bounds.k1: "),
        (lambda c: c["model"]["param_bounds"].update(s=float("inf")), "model.param_bounds.s: "),
        (lambda c: c["model"]["param_bounds"].update(k2=10**400), "model.param_bounds.k2: "),
        (lambda c: c["trained_on"].update(size=[10**9, 10**9]), "trained_on.size.0: "),
        (lambda c: c["trained_on"].update(size=[-96, 144]), "trained_on.size.0: "),
        (lambda c: c["trained_on"].update(size=[96]), "trained_on.size"),
        (lambda c: c["trained_on"].update(shown=1e-6), "trained_on.shown: "),
        (lambda c: c["trained_on"].update(stage="x\n# owned"), "trained_on.stage: "),
        (lambda c: c["trained_on"].update(fixed_warp=[0.0] * 7), "trained_on.fixed_warp"),
        (lambda c: c["trained_on"].update(fixed_warp=[0.0] * 8), "trained_on.fixed_warp: .*zoom"),
        (lambda c: c["trained_on"].update(fixed_warp=[float("nan")] * 8), "trained_on.fixed_warp"),
    ],
)
def test_a_config_that_describes_no_model(
    folder: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    config = json.loads((folder / CONFIG).read_text())
    change(config)
    (folder / CONFIG).write_text(json.dumps(config))
    with pytest.raises(WarpTrainError, match=said.replace("?", r"\?")):
        from_pretrained(folder)
    refusal(folder)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"3",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"model":' * 100_000,
        b'{"model": ' + b"[" * 300 + b"]" * 300 + b"}",
        b"9" * 100_000,
        b" " * (17 * 2**20),
    ],
)
def test_a_config_that_is_no_object(folder: Path, content: bytes) -> None:
    (folder / CONFIG).write_bytes(content)
    assert CONFIG in refusal(folder)


def test_a_config_cannot_make_the_loader_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("a download")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", never)
    monkeypatch.setattr(torch.hub, "download_url_to_file", never)
    save_pretrained(HybridModel(ModelConfig(backbone="resnet34")), tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text())
    config["model"]["pretrained"] = True
    (tmp_path / CONFIG).write_text(json.dumps(config))
    assert from_pretrained(tmp_path).config.pretrained is False


@pytest.mark.parametrize(
    "config", [{"a\x1b\n" * 999: 1}, {"backbone": "x" * 10**6}, "tiny", [1], None, {"a": None}]
)
def test_a_config_beside_weights_of_another_shape(folder: Path, config: object) -> None:
    save_file({"0.weight": torch.zeros(2)}, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps({"model": config}))
    tiny = HybridModel()
    with pytest.raises(WarpTrainError, match="not the weights of this tiny") as caught:
        load_weights(tiny, folder, model_description(tiny))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < len(str(folder)) + 600
    (folder / CONFIG).write_text('{"model": {"a": ' + '{"a": ' * 900 + "1" + "}" * 902)
    with pytest.raises(WarpTrainError):
        load_weights(tiny, folder, model_description(tiny))


def test_a_name_that_no_file_system_has(tmp_path: Path) -> None:
    with pytest.raises(WarpTrainError):
        from_pretrained("x" * 5000)


def _loads_or_says_why(folder: Path) -> None:
    try:
        model = from_pretrained(folder)
    except WarpTrainError:
        refusal(folder)
    else:
        assert all(torch.isfinite(value).all() for value in model.state_dict().values())


bounded = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@bounded
@given(data=st.data())
def test_damaged_weights_are_a_model_or_one_line(
    folder: Path, sound: tuple[bytes, dict[str, Any]], data: st.DataObject
) -> None:
    content = bytearray(sound[0])
    (header,) = struct.unpack("<Q", content[:8])
    in_header = st.integers(0, header + 8)
    for place in data.draw(st.lists(in_header | st.integers(0, len(content) - 1), max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.none() | st.integers(0, len(content)))
    (folder / WEIGHTS).write_bytes(content[:cut])
    _loads_or_says_why(folder)


def _places(tree: object, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where in a JSON value its parts lie."""
    parts: list[tuple[Any, Any]] = []
    if isinstance(tree, dict):
        parts = list(tree.items())
    elif isinstance(tree, list):
        parts = list(enumerate(tree))
    return [place for key, part in parts for place in ((*at, key), *_places(part, (*at, key)))]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["tiny", "resnet34", "resnet50"]),
    lambda inner: (
        st.lists(inner, max_size=9) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=12,
)


@bounded
@given(data=st.data())
def test_damaged_configs_are_a_model_or_one_line(
    folder: Path, sound: tuple[bytes, dict[str, Any]], data: st.DataObject
) -> None:
    config = deepcopy(sound[1])
    for _ in range(data.draw(st.integers(1, 3))):
        *way, last = data.draw(st.sampled_from(_places(config)))
        parent: Any = config
        for key in way:
            parent = parent[key]
        if isinstance(parent, dict) and data.draw(st.booleans()):
            del parent[last]
        else:
            parent[last] = data.draw(json_values)
        if not _places(config):
            break
    (folder / CONFIG).write_text(json.dumps(config))
    _loads_or_says_why(folder)
