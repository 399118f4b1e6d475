"""`train.compile`: the network that is trained stays the same, and so do its files."""

from pathlib import Path

import pytest
import torch
from runs_helpers import STAGES, losses, one_line_error, train
from safetensors.torch import load_file
from torch import nn

from warp_train.models import HybridModel

# Inductor takes minutes on a CPU. What may fail in this code comes before it: capturing all of the
# network, forwards and backwards, as one graph.
BACKEND = "aot_eager"


@pytest.fixture(autouse=True)
def as_in_a_new_process() -> None:
    """Sizes seen before are compiled anew for every size, which takes twice as long."""
    torch._dynamo.reset()


def test_a_compiled_run_is_one_graph_and_trains_and_saves_as_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss of the second step is that of the gradients of the first."""
    few = ("train.max_steps=2", "init_from=null", "data.val_samples=4")
    compiled: list[nn.Module] = []

    def compile_(model: nn.Module) -> None:
        compiled.append(model)
        nn.Module.compile(model, backend=BACKEND, fullgraph=True)

    monkeypatch.setattr(HybridModel, "compile", compile_)
    for name in ("false", "true"):
        more = (f"train.compile={name}", f"run_name=run-{name}", *few)
        assert train(STAGES[1], tmp_path, *more) == 0
    assert len(compiled) == 1
    (_, eager), (_, other) = (
        zip(*losses(tmp_path / f"run-{name}"), strict=True) for name in ("false", "true")
    )
    assert other == pytest.approx(eager, rel=1e-4)
    weights, others = (
        load_file(tmp_path / f"run-{name}" / "last" / "model.safetensors")
        for name in ("false", "true")
    )
    assert weights.keys() == others.keys()


def test_without_a_compiler_a_line_says_so_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert train(STAGES[0], tmp_path, "train.compile=true", "train.device=cpu") == 1
    assert "train.compile: no C++ compiler was found" in one_line_error(capsys)
