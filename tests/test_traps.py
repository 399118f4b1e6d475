"""Traps that others fell into (DESIGN.md, section 12); each has a test that fails without its mend.

 1  a scheduler stepped once per process  test_the_learning_rate_counts_optimizer_steps_alone
 2  resuming inside an epoch              test_runs: a_resumed_run_is_the_unbroken_one_bit_for_bit,
                                          external_loaders_train_every_stage_resume_and_validate;
                                          test_data_loading: a_resumed_run_goes_on_where_it_was
 3  an unused head under DDP              test_runs: two_processes_train_like_one[stage1_param_only]
 4  the last batch counted twice          test_faults_processes: metrics_over_an_uneven_last_…;
                                          test_data_loading: validation_sees_every_sample_once
 5  two runs in W&B                       test_a_resumed_run_goes_on_with_its_wandb_run,
                                          test_wandb_gets_the_recipe_as_it_is_started;
                                          test_training_trackers: offline_wandb_is_one_run_…
 6  retention eats what is pointed at     test_retention_leaves_what_any_link_points_at,
                                          test_damaged_checkpoints_do_not_crowd_out_…;
                                          test_training_checkpoints: retention_keeps_the_newest_…
 7  a signal that nobody looks at         test_a_signal_is_heeded_…, test_a_signal_between_…,
                                          test_one_rank_s_signal_in_a_validation_ends_both,
                                          test_a_signal_ends_the_wait_…, test_a_second_signal_…,
                                          test_a_signal_while_the_ranks_agree_is_not_lost,
                                          test_an_echo_of_another_rank_s_signal_…
 8  values read from the GPU              test_no_value_is_read_between_lines_of_metrics,
                                          test_on_a_gpu_the_guard_looks_one_step_later
 9  an elliptical lens                    test_geometry_lens: a_circle_stays_a_circle_…,
                                          grid_equals_opencv_to_a_thousandth_of_a_pixel
10  half-precision coordinates            test_geometry_computes_in_float32_under_autocast,
                                          test_whatever_is_held_in_full_precision_…;
                                          test_geometry_lens: autocast_does_not_round_coordinates;
                                          test_losses_composite, test_models: …_autocast_…
11  one process instead of two            test_cli_launch: two_cpu_processes_are_two
12  a process group left open             test_the_process_group_ends_also_after_an_error, and
                                          every run of two ranks here (`fork_server.py` looks)
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from accelerate import Accelerator
from runs_helpers import arguments, metrics, train
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from training_server import PATIENCE_S, Server
from training_toy import ToyRun

from warp_train import geometry
from warp_train.recipe.sections import SchedulerConfig, TrackingConfig
from warp_train.training import engine, guardrails, interrupts
from warp_train.training.checkpoints.folder import newest_checkpoint, prune_checkpoints
from warp_train.training.checkpoints.links import LINKS, checkpoint_folder
from warp_train.training.guardrails import FiniteGuard, NonFiniteError
from warp_train.training.interrupts import Interrupts
from warp_train.training.optim import lr_factor
from warp_train.training.trackers import start_trackers

STAGE = "stage1_param_only"
LONG_S = 20
FINE, NAN = torch.tensor(1.0), torch.tensor(float("nan"))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# 1


def test_the_learning_rate_counts_optimizer_steps_alone(server: Server, tmp_path: Path) -> None:
    more = ("train.max_steps=6", "data.val_samples=2")
    two = [*more, "train.batch_size=2", "train.grad_accum_steps=2"]
    server.start_ranks([arguments(STAGE, tmp_path / "two", *two)] * 2)
    assert train(STAGE, tmp_path / "one", *more, "train.batch_size=8") == 0
    assert server.exit_statuses() == [0, 0]
    shape = {"name": "cosine", "total_steps": 6, "warmup_steps": 2}
    floor = SchedulerConfig().min_lr / 2e-3
    expected = [2e-3 * lr_factor(step, **shape, floor=floor) for step in range(6)]
    for name in ("one", "two"):
        rates = [row["lr"] for row in metrics(tmp_path / name / STAGE)]
        assert rates == pytest.approx(expected, rel=1e-9), name


# 5


def test_a_resumed_run_goes_on_with_its_wandb_run(server: Server, tmp_path: Path) -> None:
    more = ("tracking.wandb=offline", "data.val_samples=2", "train.max_steps=2")
    server.start(*arguments(STAGE, tmp_path, *more))
    assert server.exit_status() == 0
    server.start(*arguments(STAGE, tmp_path, *more, "train.max_steps=3", "--resume-from", "auto"))
    assert server.exit_status() == 0
    folders = [path.name for path in (tmp_path / STAGE / "wandb").glob("offline-run-*")]
    assert len(folders) == 2, "one folder each for the run and its continuation"
    assert len({name.rpartition("-")[2] for name in folders}) == 1


def test_wandb_gets_the_recipe_as_it_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Handed to `init_trackers` it opens a second run in offline mode (accelerate #3818)."""
    given: dict[str, Any] = {}

    def init_trackers(accelerator: Accelerator, project: str, **more: Any) -> None:
        given.update(more)
        accelerator.trackers = [MagicMock()]

    monkeypatch.setattr(Accelerator, "init_trackers", init_trackers)
    start_trackers(
        Accelerator(cpu=True),
        TrackingConfig(wandb="offline"),
        run_dir=tmp_path,
        run_id="x",
        recipe={"seed": 3},
        step=0,
    )
    assert given["init_kwargs"]["wandb"]["config"] == {"seed": 3}
    assert "config" not in given


# 6


@pytest.mark.parametrize("link", LINKS)
def test_retention_leaves_what_any_link_points_at(link: str, tmp_path: Path) -> None:
    """`last` and `interrupted` too: damaged checkpoints may have higher numbers."""
    for step in range(1, 6):
        checkpoint_folder(tmp_path, step).mkdir(parents=True)
    (tmp_path / link).symlink_to("checkpoints/step-000000002")
    prune_checkpoints(tmp_path, keep_last=1)
    kept = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert kept == {"step-000000002", "step-000000005"}


def test_damaged_checkpoints_do_not_crowd_out_a_new_one(tmp_path: Path) -> None:
    for step in (7, 8, 9):
        checkpoint_folder(tmp_path, step).mkdir(parents=True)
    saved = ToyRun().save(tmp_path, 5)  # which keeps three
    assert newest_checkpoint(tmp_path) == saved.resolve()
    assert (tmp_path / "last").resolve() == saved.resolve()


# 7

FRAMES = """
import os
import time
from pathlib import Path
import torch

HERE, calls = Path(__file__).parent, 0

def pass_by(moment):
    # Holds at one moment until the file `go` is there: what happens meanwhile happens then.
    with (HERE / f"drawn-{os.environ.get('RANK', '0')}").open("a") as log:
        log.write(moment + "\\n")
    while moment == HOLD and not (HERE / "go").exists():
        time.sleep(0.01)

class Frames:
    def __init__(self, name, length):
        self.name, self.length, self.passes = name, length, 0

    def __len__(self):
        return self.length

    def __iter__(self):
        self.passes += 1
        for number in range(self.length):
            pass_by(f"{self.name} {self.passes} {number}")
            image = torch.rand(4, 3, 32, 48, generator=torch.Generator().manual_seed(number))
            yield {"input_image": image, "target_image": image}

def loaders():
    global calls
    calls += 1  # once per stage
    return Frames(f"{calls} train", 4), Frames(f"{calls} val", 8)
"""
BETWEEN = """
from warp_train.training import chain
run_stage = chain.run_stage

def after_a_moment(recipe, *rest):
    pass_by(f"before {recipe.stage}")
    return run_stage(recipe, *rest)

chain.run_stage = after_a_moment
"""
IN_A_HURRY = """
from warp_train.training import proxy_hooks
proxy_hooks._HURRY_S = 0.3
"""
SCORER = """
import time
from pathlib import Path

HERE = Path(__file__).parent

def score(pred, gt, config):
    (HERE / "scoring").touch()
    while not (HERE / "go").exists():
        time.sleep(0.01)
    subs = dict.fromkeys(("edge", "line", "grad", "ssim", "mae"), 0.5)
    return {"total_score": 0.5, "sub_scores": subs, "flags": {"hard_fail": False, "reasons": []}}
"""
CHAIN = "stages: [{extends: ROOT/stage1_param_only.yaml}, {extends: ROOT/stage2_hybrid.yaml}]"
PROXY = (
    "proxy.scorer=scorer:score",
    "proxy.max_samples=1",
    "validate.best_metric=proxy/total_score",
)


class Watched:
    """A run on `FRAMES` in processes of its own, to be met at a certain moment."""

    def __init__(
        self, server: Server, folder: Path, hold: str = "", ranks: int = 1, more: str = ""
    ) -> None:
        """Args:
        hold: the stage's number, the loader, the pass and the batch to stop at: `1 val 1 2`.
        more: Python to run in these processes.
        """
        self.server, self.folder, self.hold, self.ranks = server, folder, hold, ranks
        (folder / "frames.py").write_text(f"HOLD = {hold!r}{FRAMES}{more}")
        (folder / "scorer.py").write_text(SCORER)
        self.pids: list[int] = []

    def start(self, recipe: str, *more: str) -> None:
        external = ("data.source=external", "data.external=frames:loaders")
        argv = arguments(recipe, self.folder / "runs", *external, *more)
        self.pids = self.server.start_ranks([argv] * self.ranks, self.folder)

    def drawn(self, rank: int) -> list[str]:
        log = self.folder / f"drawn-{rank}"
        return log.read_text().splitlines() if log.exists() else []

    def hold_there(self) -> None:
        for rank in range(self.ranks):
            wait_until(lambda rank=rank: self.hold in self.drawn(rank))

    def go_on(self) -> None:
        (self.folder / "go").touch()

    def drawn_since(self, rank: int) -> list[str]:
        """The batches after the one held at."""
        drawn = self.drawn(rank)
        return drawn[drawn.index(self.hold) + 1 :]


def saved_as(run: Path, link: str) -> str:
    return (run / link).resolve().name


@pytest.mark.parametrize(
    ("number", "hold", "step"),
    [
        (signal.SIGTERM, "1 train 1 0", 0),  # while the run is set up
        (signal.SIGINT, "1 val 1 2", 0),  # the first validation
        (signal.SIGUSR1, "1 train 3 1", 2),  # the second step
        (signal.SIGTERM, "1 val 2 2", 4),  # the last validation
        (signal.SIGUSR1, "1 val 3 2", 4),  # the table at the end
    ],
    ids=["start", "validation", "training", "last validation", "table"],
)
def test_a_signal_is_heeded_at_any_moment_and_the_run_goes_on_there(
    number: int, hold: str, step: int, server: Server, tmp_path: Path
) -> None:
    run = Watched(server, tmp_path, hold)
    run.start(STAGE)
    run.hold_there()
    os.kill(run.pids[0], number)
    run.go_on()
    assert server.exit_status() == (130 if number == signal.SIGINT else 143)
    folder = tmp_path / "runs" / STAGE
    assert saved_as(folder, "interrupted") == f"step-{step:09d}"
    if "val" in hold:
        assert len(run.drawn_since(0)) <= 1, "no more than one batch of the validation"
    run.start(STAGE, "--resume-from", "auto")
    assert server.exit_status() == 0
    assert [row["step"] for row in metrics(folder)] == [1, 2, 3, 4]
    assert [row["step"] for row in metrics(folder, "val")] == [0, 4]
    assert not (folder / "interrupted").exists()


def test_a_signal_between_the_stages_of_a_chain(server: Server, tmp_path: Path) -> None:
    chain = tmp_path / "chain.yaml"
    recipes = Path(__file__).parent.parent / "recipes"
    chain.write_text(CHAIN.replace("ROOT", str(recipes)))
    run = Watched(server, tmp_path, "before stage2_hybrid", more=BETWEEN)
    run.start(str(chain))
    run.hold_there()
    first, second = (tmp_path / f"runs/chain-{n}" for n in ("stage1_param_only", "stage2_hybrid"))
    assert (first / "summary.json").exists()
    os.kill(run.pids[0], signal.SIGTERM)
    run.go_on()
    assert server.exit_status() == 143
    assert saved_as(second, "interrupted") == "step-000000000"


def test_one_rank_s_signal_in_a_validation_ends_both(server: Server, tmp_path: Path) -> None:
    run = Watched(server, tmp_path, "1 val 1 2", ranks=2)
    run.start(STAGE)
    run.hold_there()
    os.kill(run.pids[1], signal.SIGTERM)
    run.go_on()
    assert server.exit_statuses() == [143, 143]
    assert saved_as(tmp_path / "runs" / STAGE, "interrupted") == "step-000000000"
    # Each takes every second batch, and the round is looked at once for each it takes.
    assert max(len(run.drawn_since(rank)) for rank in (0, 1)) <= 2


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_signal_ends_the_wait_for_scores_that_choose_the_best(
    ranks: int, server: Server, tmp_path: Path
) -> None:
    run = Watched(server, tmp_path, ranks=ranks, more=IN_A_HURRY)
    run.start(STAGE, *PROXY)
    wait_until((tmp_path / "scoring").exists)
    os.kill(run.pids[-1], signal.SIGTERM)  # not to the rank that waits, where there are two
    try:
        assert server.exit_statuses() == [143] * ranks
    finally:
        run.go_on()
    folder = tmp_path / "runs" / STAGE
    assert saved_as(folder, "interrupted") == "step-000000000"
    assert not (folder / "best").exists(), "chosen by nothing else meanwhile"
    if ranks == 1:
        run.start(STAGE, *PROXY, "--resume-from", "auto")
        assert server.exit_status() == 0
        assert [row["proxy/total_score"] for row in metrics(folder, "val")] == [0.5, 0.5]


def test_a_second_signal_ends_the_run_at_once(server: Server, tmp_path: Path) -> None:
    run = Watched(server, tmp_path, "1 val 1 2")
    run.start(STAGE)
    run.hold_there()
    began = time.monotonic()
    while not server.have_ended(within_s=0.05) and time.monotonic() - began < LONG_S:
        with suppress(ProcessLookupError):
            os.kill(run.pids[0], signal.SIGTERM)
    ended, took = server.have_ended(), time.monotonic() - began
    run.go_on()
    assert server.exit_status() == 143
    assert ended
    assert took > interrupts._ECHO_SECONDS, "what comes sooner is an echo of the first"
    assert not (tmp_path / "runs" / STAGE / "interrupted").exists()


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Interrupts, list[Any]]]:
    """The signals of one of two ranks, and what happens while they exchange words."""
    meanwhile: list[Any] = []

    def all_reduce(word: Tensor, **_: object) -> object:
        if meanwhile:
            meanwhile.pop(0)(word)
        return SimpleNamespace(is_completed=lambda: True, wait=lambda: None)

    def exits(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    monkeypatch.setattr(os, "_exit", exits)
    with Interrupts() as signals:
        signals._group = object()
        yield signals, meanwhile


def test_a_signal_while_the_ranks_agree_is_not_lost(
    together: tuple[Interrupts, list[Any]],
) -> None:
    signals, meanwhile = together
    meanwhile.append(lambda word: signal.raise_signal(signal.SIGTERM))
    assert signals.agreed() is None, "the other rank does not know yet"
    assert signals.noticed()
    assert signals.agreed() == signal.SIGTERM


def test_an_echo_of_another_rank_s_signal_is_no_second_one(
    together: tuple[Interrupts, list[Any]],
) -> None:
    signals, meanwhile = together
    meanwhile.append(lambda word: word.copy_(torch.tensor([signal.SIGTERM, 1])))
    assert signals.agreed() == signal.SIGTERM
    signal.raise_signal(signal.SIGTERM)  # the launcher's, which comes to this rank a little later
    assert signals.agreed() == signal.SIGTERM


# 8


class HostCopies(TorchDispatchMode):
    """Notes where values are read that a GPU would have to be waited for."""

    READS = ("_local_scalar_dense", "nonzero", "equal", "masked_select")
    METHODS = ("tolist", "cpu", "numpy", "__array__")
    """They read without a dispatch."""
    ALLOWED = ("log_step", "_validate", "save", "flush")
    """Functions that may: on lines of metrics, and where the loop stands still anyway."""
    ELSEWHERE = ("/torch/optim/", "/warp_train/data/", "/edge_kernel.py")
    """An optimizer's step count lies on the host, and so do samples before they are sent. The
    kernel runs on a CPU only."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.looked_at = 0
        self.watching = False

    def note(self, what: str) -> None:
        frame, stack = sys._getframe(1), []
        while frame is not None:
            stack.append((frame.f_code.co_filename, frame.f_code.co_name))
            frame = frame.f_back  # type: ignore[assignment]
        self.looked_at += 1
        allowed = any(
            name in self.ALLOWED or any(part in file for part in self.ELSEWHERE)
            for file, name in stack
        )
        if not allowed:
            file, name = next(place for place in stack if "/warp_train/" in place[0])
            self.found.append(f"{what} in {Path(file).name}:{name}")

    def noting(self, method: str) -> Callable[..., Any]:
        plain = getattr(Tensor, method)

        def noted(tensor: Tensor, *rest: Any, **more: Any) -> Any:
            if self.watching:
                self.note(method)
            return plain(tensor, *rest, **more)

        return noted

    def __enter__(self) -> "HostCopies":
        self.watching = True
        return super().__enter__()  # type: ignore[no-any-return]

    def __exit__(self, *error: Any) -> None:
        self.watching = False
        super().__exit__(*error)

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = function.overloadpacket.__name__
        if name in self.READS:
            self.note(name)
        return function(*args, **(kwargs or {}))


def test_no_value_is_read_between_lines_of_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies, loop = HostCopies(), engine.train
    for name in HostCopies.METHODS:
        monkeypatch.setattr(Tensor, name, copies.noting(name))

    def watched(*given: Any) -> Any:
        with copies:
            return loop(*given)

    monkeypatch.setattr("warp_train.training.stage_run.train", watched)
    more = ("train.max_steps=6", "train.log_every=3", "train.ema_decay=0.9", "data.val_samples=2")
    assert train("stage2_hybrid", tmp_path, *more, "train.grad_accum_steps=2") == 0
    assert copies.looked_at > 0
    assert copies.found == []


class OnGpu(Tensor):
    is_cuda = True


def test_on_a_gpu_the_guard_looks_one_step_later(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[int] = []
    events = iter(range(9))

    def record_event() -> object:
        number = next(events)
        return SimpleNamespace(synchronize=lambda: waited.append(number))

    gpu = SimpleNamespace(
        stack=lambda values: torch.stack(values).as_subclass(OnGpu),
        empty=lambda shape, pin_memory: torch.empty(shape),
        zeros_like=torch.zeros_like,
        cuda=SimpleNamespace(current_stream=lambda _: SimpleNamespace(record_event=record_event)),
    )
    monkeypatch.setattr(guardrails, "torch", gpu)
    guard = FiniteGuard(grads_may_overflow=False)
    guard.watch(FINE, {"pixel": FINE}, FINE, 1, ["a"])
    assert waited == []
    guard.watch(NAN, {"pixel": NAN}, FINE, 2, ["b"])
    assert waited == [0]
    with pytest.raises(NonFiniteError, match=r"step 2: loss/pixel is nan.* samples b"):
        guard.flush()
    assert waited == [0, 1]


# 10

SIZE = (45, 64)
LENS = torch.tensor([[-0.2, 0.05, 0.01, 0.003, -0.004, 0.02, -0.01, 1.1]])
GRID = geometry.build_parametric_grid(LENS, *SIZE)
HALVABLE: dict[str, tuple[Any, ...]] = {
    "build_parametric_grid": (LENS, *SIZE),
    "apply_lens": (GRID, LENS, *SIZE),
    "invert_lens": (0.5 * GRID, LENS, *SIZE),
    "grid_to_pixels": (GRID, *SIZE),
    "end_point_error": (GRID, 0.9 * GRID),
    "upsample_residual_flow": (torch.linspace(-1, 1, 24).reshape(1, 2, 3, 4), *SIZE),
    "fuse_grids": (GRID, 0.01 * GRID.flip(1)),
    "jacobian_determinant": (GRID,),
    "warp_image": (GRID.permute(0, 3, 1, 2), GRID),
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", HALVABLE)
def test_geometry_computes_in_float32_under_autocast(name: str, dtype: torch.dtype) -> None:
    function = getattr(geometry, name)
    given = [a.to(dtype) if isinstance(a, Tensor) else a for a in HALVABLE[name]]
    exact = function(*(a.float() if isinstance(a, Tensor) else a for a in given))
    with torch.autocast("cpu", dtype):
        result = function(*given)
    assert result.dtype == torch.float32
    assert torch.equal(result, exact)


def test_whatever_is_held_in_full_precision_leaves_autocast() -> None:
    product = geometry.full_precision(torch.matmul)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.matmul(LENS, LENS.T).dtype == torch.bfloat16
        assert product(LENS, LENS.T).dtype == torch.float32


# 12


def test_the_process_group_ends_also_after_an_error(server: Server, tmp_path: Path) -> None:
    server.start_ranks([arguments(STAGE, tmp_path, f"seed={rank}") for rank in (0, 1)])
    assert server.exit_statuses() == [1, 1]
