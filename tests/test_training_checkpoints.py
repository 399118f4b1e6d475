"""Checkpoints: bit-exact in another process, whole or not at all, and errors that say why."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from training_toy import MODEL_CONFIG, ToyRun

from warp_train.models import load_weights
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.section import config_differences
from warp_train.training.checkpoints import folder as checkpoint_folder
from warp_train.training.checkpoints.folder import (
    clean_interrupted_writes,
    find_checkpoint,
    newest_checkpoint,
)
from warp_train.training.checkpoints.state import read_trainer_state
from warp_train.training.optim import swapped

TESTS = Path(__file__).parent


def run_toy(*arguments: object) -> str:
    """The last line that a toy run in another process prints."""
    done = subprocess.run(
        [sys.executable, str(TESTS / "training_toy.py"), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(TESTS.parent), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()[-1]


def test_another_process_continues_bit_for_bit(tmp_path: Path) -> None:
    run_toy(tmp_path, 0, 5)
    resumed = run_toy(tmp_path, 5, 10, "resume")
    uninterrupted = ToyRun()
    uninterrupted.train(0, 10)
    assert resumed == uninterrupted.digest()


def test_layout_is_safetensors_and_json_only(tmp_path: Path) -> None:
    run = ToyRun()
    run.train(0, 2)
    folder = run.save(tmp_path, 2, links=("best", "last"))
    assert folder == tmp_path / "checkpoints" / "step-000000002"
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "optimizer.safetensors",
        "raw.safetensors",
        "rng-0.safetensors",
        "trainer_state.json",
    ]
    assert (tmp_path / "best").readlink() == Path("checkpoints/step-000000002")
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoints", "best", "last"}
    optimizer = load_file(folder / "optimizer.safetensors")
    assert {key for key in optimizer if key.startswith("state.0.weight.")} == {
        "state.0.weight.exp_avg",
        "state.0.weight.exp_avg_sq",
        "state.0.weight.step",
    }
    state = json.loads((folder / "trainer_state.json").read_text())
    assert [group["params"] for group in state["param_groups"]] == [
        ["0.weight", "3.weight"],
        ["0.bias", "1.weight", "1.bias"],
    ]
    assert state["step"] == 2
    assert state["scheduler"]["last_epoch"] == 2


def test_with_an_average_the_model_file_holds_it(tmp_path: Path) -> None:
    run = ToyRun()
    run.train(0, 3)
    folder = run.save(tmp_path, 3)
    with swapped(run.model, run.ema.weights):
        averaged = {name: value.clone() for name, value in run.model.state_dict().items()}
    saved, raw = load_file(folder / "model.safetensors"), load_file(folder / "raw.safetensors")
    for name, value in run.model.state_dict().items():
        assert torch.equal(saved[name], averaged[name])
        assert torch.equal(raw[name], value)


@pytest.mark.parametrize("same_step", [False, True], ids=["next step", "same step again"])
def test_killed_at_any_moment_of_saving_a_whole_checkpoint_remains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same_step: bool
) -> None:
    run = ToyRun()
    run.train(0, 1)
    run.save(tmp_path, 1, links=("best", "last"))
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    run.train(1, 2)
    after = run.model.state_dict()
    step = 1 if same_step else 2

    moments = 0
    while True:
        child = os.fork()
        if child == 0:
            _die_at_disk_operation(moments, monkeypatch)
            run.save(tmp_path, step)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        survived = os.WIFEXITED(status)
        assert survived or os.WTERMSIG(status) == signal.SIGKILL

        clean_interrupted_writes(tmp_path)
        newest = newest_checkpoint(tmp_path)
        assert newest is not None
        weights = load_file(newest / "raw.safetensors")
        new = not torch.equal(weights["0.weight"], before["0.weight"])
        for name, value in (after if new else before).items():
            assert torch.equal(weights[name], value)
        assert (tmp_path / "best" / "model.safetensors").exists()
        assert (tmp_path / "last" / "model.safetensors").exists()
        assert not list((tmp_path / "checkpoints").glob(".*"))
        if survived:
            break
        moments += 1
    assert moments > 15
    assert new


def _die_at_disk_operation(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills this process at its `number`-th write, rename, link or removal."""
    count = 0

    def deadly(function: object) -> object:
        def wrapper(*args: object, **kwargs: object) -> object:
            nonlocal count
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
            return function(*args, **kwargs)  # type: ignore[operator]

        return wrapper

    for owner, names in (
        (os, ("fsync", "rename", "replace", "symlink", "unlink", "mkdir", "rmdir")),
        (checkpoint_folder, ("save_file",)),
    ):
        for name in names:
            monkeypatch.setattr(owner, name, deadly(getattr(owner, name)))


def test_a_full_disk_is_named_and_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    run = ToyRun(width=4000)
    run.save(tmp_path, 1)
    old_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, old_limit[1]))
    try:
        with pytest.raises(
            WarpTrainError,
            match=r"step-000000002: .*File too large.*takes .* bytes, and .* are free",
        ):
            run.save(tmp_path, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old_limit)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000000001"]
    assert (tmp_path / "last").resolve().name == "step-000000001"
    run.restore(tmp_path / "last")


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    run = ToyRun()
    run.save(tmp_path, 1)
    with torch.no_grad():
        run.model[3].weight[0, 0] = float("nan")
    with pytest.raises(WarpTrainError, match=r"step 2: 3\.weight is not finite"):
        run.save(tmp_path, 2)
    assert newest_checkpoint(tmp_path) == (tmp_path / "checkpoints/step-000000001").resolve()


def test_retention_keeps_the_newest_and_what_links_point_at(tmp_path: Path) -> None:
    run = ToyRun()
    for step in range(1, 8):
        run.save(tmp_path, step, links=("best", "last") if step == 2 else ("last",))
    kept = sorted(int(path.name[5:]) for path in (tmp_path / "checkpoints").iterdir())
    assert kept == [2, 5, 6, 7]
    assert (tmp_path / "best").resolve().name == "step-000000002"
    assert (tmp_path / "last").resolve().name == "step-000000007"


def test_interrupted_is_forgotten_once_the_run_goes_on(tmp_path: Path) -> None:
    run = ToyRun()
    run.save(tmp_path, 1, links=("last", "interrupted"))
    assert (tmp_path / "interrupted" / "model.safetensors").exists()
    run.save(tmp_path, 2)
    assert not (tmp_path / "interrupted").is_symlink()


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.safetensors", "raw.safetensors", "trainer_state.json"]
)
def test_truncated_and_missing_files_are_named(tmp_path: Path, name: str) -> None:
    run = ToyRun()
    run.train(0, 1)
    folder = run.save(tmp_path, 1)
    damaged = folder / name
    damaged.write_bytes(damaged.read_bytes()[:-40])
    with pytest.raises(
        WarpTrainError, match=rf"{name}: (damaged or truncated|not a complete JSON)"
    ):
        run.restore(folder)
    if name != "raw.safetensors":
        damaged.unlink()
        with pytest.raises(WarpTrainError, match=rf"{name}: cannot be read"):
            run.restore(folder)


def test_resume_passes_over_damaged_and_unfinished_checkpoints(tmp_path: Path) -> None:
    run = ToyRun()
    run.train(0, 1)
    good = run.save(tmp_path, 1)
    cut = run.save(tmp_path, 2) / "optimizer.safetensors"
    cut.write_bytes(cut.read_bytes()[:-1])
    unfinished = tmp_path / "checkpoints" / ".incoming-step-000000003"
    unfinished.mkdir()
    assert newest_checkpoint(tmp_path) == good.resolve()
    clean_interrupted_writes(tmp_path)
    assert not unfinished.exists()
    assert newest_checkpoint(tmp_path / "nowhere") is None


def test_find_checkpoint(tmp_path: Path) -> None:
    run = ToyRun()
    for step in (1, 2):
        run.save(tmp_path, step, links=("best", "last") if step == 1 else ("last",))
    assert find_checkpoint(tmp_path, "best").name == "step-000000001"
    assert find_checkpoint(tmp_path, "last").name == "step-000000002"
    assert find_checkpoint(tmp_path / "best", "last").name == "step-000000001"
    with pytest.raises(WarpTrainError, match="no such file or folder"):
        find_checkpoint(tmp_path / "nowhere", "best")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WarpTrainError, match="neither a checkpoint folder"):
        find_checkpoint(tmp_path / "empty", "best")


def test_another_architecture_names_tensor_shapes_and_key(tmp_path: Path) -> None:
    folder = ToyRun().save(tmp_path, 1)
    wider = ToyRun(width=16)
    with pytest.raises(WarpTrainError) as caught:
        load_weights(wider.model, folder, {"model": {"backbone": "toy", "width": 16}})
    message = str(caught.value)
    assert "0.weight is [8, 6] there and [16, 6] here (model.width: 8 -> 16)" in message
    assert "\n" not in message


def test_missing_tensor_is_named(tmp_path: Path) -> None:
    run = ToyRun()
    tensors = dict(run.model.state_dict())
    del tensors["3.bias"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(WarpTrainError, match=r"3\.bias is absent there and \[2\] here"):
        load_weights(run.model, tmp_path, MODEL_CONFIG)


def test_optimizer_of_another_stage_is_refused(tmp_path: Path) -> None:
    folder = ToyRun(ema=False).save(tmp_path, 1)
    other = ToyRun(ema=False)
    other.optimizer.add_param_group({"params": [other.model[3].bias.requires_grad_()]})
    with pytest.raises(WarpTrainError, match=r"3\.bias is only in one of them.*init_from"):
        other.restore(folder)


def test_trainer_state_without_a_field_names_it(tmp_path: Path) -> None:
    folder = ToyRun().save(tmp_path, 1)
    path = folder / "trainer_state.json"
    state = json.loads(path.read_text())
    del state["global_batch"]
    path.write_text(json.dumps(state))
    with pytest.raises(WarpTrainError, match=r"trainer_state\.json: global_batch: Field required"):
        read_trainer_state(folder)


def test_config_differences_are_dotted() -> None:
    saved = {"seed": 1, "train": {"epochs": 3, "max_steps": None}}
    current = {"seed": 1, "train": {"epochs": 4, "max_steps": None}, "note": "x"}
    assert config_differences(saved, current) == ["note: unset -> x", "train.epochs: 3 -> 4"]


TWO_RANKS = """
import sys
from pathlib import Path
from accelerate.utils import set_seed
from training_toy import ToyRun, draws
from warp_train.runtime.errors import WarpTrainError
run, folder = ToyRun(), Path(sys.argv[1])
assert run.accelerator.num_processes == 2
set_seed(7, device_specific=True)
run.save(folder, 1)
expected = draws()
run.restore(folder / "last")
assert draws() == expected
try:
    run.save(Path("/proc/nowhere"), 2)
except WarpTrainError as error:
    print(error)
run.accelerator.end_training()
"""


def test_two_processes_keep_their_own_generators_and_fail_together(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {
        **os.environ,
        "PYTHONPATH": f"{TESTS.parent}:{TESTS}",
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", TWO_RANKS, str(tmp_path)],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    main, other = (rank.communicate(timeout=120)[0] for rank in ranks)
    assert [rank.returncode for rank in ranks] == [0, 0]
    assert "/proc/nowhere/checkpoints/step-000000002: the checkpoint could not be written" in main
    assert "the main process could not save a checkpoint" in other
    first, second = (load_file(tmp_path / "last" / f"rng-{rank}.safetensors") for rank in range(2))
    assert all(not torch.equal(first[name], second[name]) for name in ("torch", "numpy", "python"))
