"""A manifest is read, or refused with a WarpTrainError that names it; nothing else comes of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_helpers import save
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from warp_train.data.sources.manifest import PairItem, read_manifest
from warp_train.geometry import PARAM_NAMES
from warp_train.runtime.errors import WarpTrainError

relaxed = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
CSV = (
    "image_id,input,target,group,split,k1,k2,k3,p1,p2,dcx,dcy,s,tier\r\n"
    'one,a.png,b.png,h1,train,0.1,0,0,0,0,0,0,1.02,"real"\r\n'
    "two,b.png,a.png,h2,val,,,,,,,,,strong\r\n"
)
JSONL = (
    '{"input": "a.png", "target": "b.png", "group": "h1", "notes": [1, {"a": null}]}\n'
    '{"input": "b.png", "target": "a.png", "k1": 1e-3}\n'
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png"):
        save(tmp_path / name, np.zeros((20, 30, 3), np.uint8))
    return tmp_path


def is_manifest_or_complaint(path: Path) -> None:
    items: list[PairItem] = []
    try:
        items = read_manifest(path)
    except WarpTrainError as error:
        complaint = str(error)
    else:
        complaint = str(path)
    assert complaint.startswith(str(path))
    for item in items:
        assert isinstance(item, PairItem)
        assert item.input.is_file()
        assert item.target.is_file()
        known = np.isfinite(item.params)
        assert known.all() or not known.any()


@relaxed
@given(data=st.data(), kind=st.sampled_from([("m.csv", CSV), ("m.jsonl", JSONL)]))
def test_a_mutated_manifest(data: st.DataObject, kind: tuple[str, str], folder: Path) -> None:
    name, text = kind
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        stop = data.draw(st.integers(start, min(len(text), start + 10)))
        piece = data.draw(
            st.text(max_size=4)
            | st.sampled_from(["\n", ",", '"', "\0", "1e999", "nan", "/", "../", "{", "[", ":"])
        )
        text = text[:start] + piece + text[stop:]
    path = folder / name
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    is_manifest_or_complaint(path)


@relaxed
@given(noise=st.binary(max_size=200), name=st.sampled_from(["m.csv", "m.jsonl", "m.CSV"]))
def test_bytes(noise: bytes, name: str, folder: Path) -> None:
    (folder / name).write_bytes(noise)
    is_manifest_or_complaint(folder / name)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@relaxed
@given(
    row=st.dictionaries(
        st.sampled_from(["image_id", "group", "split", "index", "tier", "é", *PARAM_NAMES]), values
    )
)
def test_rows_of_any_values(row: dict[str, Any], folder: Path) -> None:
    path = folder / "m.jsonl"
    path.write_text(json.dumps({"input": "a.png", "target": "b.png", **row}) + "\n")
    is_manifest_or_complaint(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.jsonl", "[" * 100_000),
        ("m.jsonl", '{"input": ' + "9" * 5000 + "}"),
        ("m.jsonl", json.dumps({"input": "x" * 5000, "target": "b.png"})),
        ("m.csv", "input,target\n" + "x" * 200_000 + ",b.png\n"),
        ("m.csv", 'input,target\n"' + "a.png,b.png\n" * 20_000),
        ("m.csv", "input,input\na.png,b.png\n"),
    ],
)
def test_what_chance_does_not_find(name: str, text: str, folder: Path) -> None:
    (folder / name).write_text(text)
    with pytest.raises(WarpTrainError) as refused:
        read_manifest(folder / name)
    assert str(refused.value).startswith(str(folder / name))
    assert len(str(refused.value)) < 1000
