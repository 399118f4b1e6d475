"""Real training processes, killed at random instants, end where they would have without."""

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
from runs_helpers import arguments, assert_same_weights, metrics
from training_server import Server

STAGE = "stage2_hybrid"
SAVING = ("checkpoint.every_steps=3", "validate.every_steps=8", "train.epochs=3")
LONGEST_S = 1.5


def rows(run: Path) -> list[tuple[str, int, float]]:
    """What must not differ between two runs: splits, steps and losses, in order."""
    return [
        (split, row["step"], row["loss/total"])
        for split in ("train", "val")
        for row in metrics(run, split)
    ]


def test_no_kill_loses_anything(
    server: Server, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """`pytest tests/test_faults.py --kills 500 --kill-seed 7` for more, and for others."""
    kills, seed = pytestconfig.getoption("kills"), pytestconfig.getoption("kill_seed")
    rng = random.Random(seed)
    server.start(*arguments(STAGE, tmp_path / "whole", *SAVING))
    assert server.exit_status() == 0
    whole = tmp_path / "whole" / STAGE
    survived, finished = 0, 0
    while survived < kills:
        broken = tmp_path / f"broken-{finished}"
        command = arguments(STAGE, broken, *SAVING, "--resume-from", "auto")
        status = None
        while status is None:
            child = server.start(*command)
            if survived < kills:
                time.sleep(rng.uniform(0, LONGEST_S))
                with suppress(ProcessLookupError):  # it has finished
                    os.kill(child, signal.SIGKILL)
            ended = server.exit_status()
            if ended == -signal.SIGKILL:
                survived += 1
                in_place = sorted((broken / STAGE / "checkpoints").glob("step-*"))
                assert all((folder / "trainer_state.json").exists() for folder in in_place)
            else:
                assert ended == 0, server.printed()
                status = ended
        finished += 1
        assert_same_weights(whole, broken / STAGE)
        assert rows(broken / STAGE) == rows(whole)
        assert not list((broken / STAGE).glob("checkpoints/.incoming-*"))
    print(f"{survived} kills survived, {finished} runs finished")
