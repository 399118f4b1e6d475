"""Training on the user's own loaders that are wrong: not in the first batch, or on one rank."""

import os
import signal
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from runs_helpers import arguments, metrics, one_line_error, train
from training_server import PATIENCE_S, Server

from warp_train.training import interrupts
from warp_train.training.interrupts import Interrupts

STAGE = "stage1_param_only"
LOADERS = """
import os
import time
from pathlib import Path
import torch
from torch.utils.data import DataLoader, IterableDataset

HERE, RANK = Path(__file__).parent, int(os.environ.get("RANK", 0))

def frames(number):
    image = torch.rand(4, 3, 32, 48, generator=torch.Generator().manual_seed(number))
    return {"input_image": image, "target_image": image}

def longer_on_other_ranks():
    return [frames(n) for n in range(4 + 2 * RANK)], [frames(0)]

class Once(IterableDataset):
    def __init__(self):
        self.entries = (frames(n) for n in range(8))
    def __len__(self):
        return 8
    def __iter__(self):
        return self.entries

def once():
    return DataLoader(Once(), batch_size=None), [frames(0)]

def val_once():
    return [frames(n) for n in range(4)], DataLoader(Once(), batch_size=None)

def nan_in_validation():
    return [frames(n) for n in range(4)], [frames(0), {**frames(1), "target_image": NAN}]

def bytes_in_training():
    batches = [frames(n) for n in range(4)]
    batches[1] = {**batches[1], "input_image": 255 * batches[1]["input_image"]}
    return batches * 99, [frames(0)]

class Hangs:
    def __iter__(self):
        for number in range(4):
            if RANK and number == 2:
                (HERE / "hangs").touch()
                while not (HERE / "go").exists():
                    time.sleep(0.01)
            yield frames(number)

def hangs_on_rank_1():
    return [frames(n) for n in range(4)], Hangs()

NAN = torch.full((4, 3, 32, 48), torch.nan)
"""


def external(folder: Path, function: str) -> tuple[str, ...]:
    name = f"wrong_{abs(hash(folder))}"
    (folder / f"{name}.py").write_text(LOADERS)
    return ("data.source=external", f"data.external={name}:{function}")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("once", "train loader: one pass has ended after 7 entries, but its length is 8; it must"),
        ("val_once", "validation loader: one pass has ended after 0 entries; it must start again"),
        ("nan_in_validation", "validation loader, batch 2: 'target_image' must lie in 0..1, got"),
        ("bytes_in_training", "train loader, batch 2: 'input_image' must lie in 0..1, got 0"),
    ],
)
def test_a_loader_that_turns_out_wrong_later_is_one_line(
    function: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train(STAGE, tmp_path / "runs", *external(tmp_path, function)) == 1
    assert message in one_line_error(capsys)


def test_values_of_a_later_batch_are_looked_at_where_a_line_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its first samples, which are looked at before training, are few here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("warp_train.training.external_share.FIXED_WARP_SAMPLES", 4)
    more = external(tmp_path, "bytes_in_training")
    assert train(STAGE, tmp_path / "runs", *more, "train.log_every=3", "train.max_steps=9") == 1
    assert "train loader, batch 6: 'input_image' must lie in 0..1" in one_line_error(capsys)
    assert [row["step"] for row in metrics(tmp_path / "runs" / STAGE)] == [3]


def test_ranks_with_loaders_of_different_lengths_stop_at_the_start(
    server: Server, tmp_path: Path
) -> None:
    more = external(tmp_path, "longer_on_other_ranks")
    server.start_ranks([arguments(STAGE, tmp_path / "runs", *more)] * 2, tmp_path)
    assert server.exit_statuses() == [1, 1]
    assert "rank 1 has other data than rank 0: " in server.printed()
    assert "with lengths 4 (train), 1 (validation) -> " in server.printed()
    assert "with lengths 6 (train), 1 (validation)" in server.printed()
    assert not list(tmp_path.rglob("step-*"))


def test_a_rank_that_waits_for_one_that_hangs_can_be_ended(server: Server, tmp_path: Path) -> None:
    more = external(tmp_path, "hangs_on_rank_1")
    ranks = server.start_ranks([arguments(STAGE, tmp_path / "runs", *more)] * 2, tmp_path)
    deadline = time.monotonic() + PATIENCE_S
    while not (tmp_path / "hangs").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    signals = 0
    while is_running(ranks[0]) and signals < 6:
        with suppress(ProcessLookupError):
            os.kill(ranks[0], signal.SIGTERM)
        signals += 1
        time.sleep(interrupts._ECHO_SECONDS / 2)
    ended = not is_running(ranks[0])
    (tmp_path / "go").touch()
    assert server.exit_statuses()[0] == 143
    assert ended


def is_running(pid: int) -> bool:
    """Whether a child of another process is more than a zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_the_exchange_of_signals_has_the_timeout_of_the_other_exchanges(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(torch.distributed, "new_group", lambda **more: given.update(more))
    Interrupts().join(SimpleNamespace(num_processes=2))  # type: ignore[arg-type]
    assert given["timeout"] <= timedelta(minutes=10)
