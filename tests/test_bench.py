"""`bench`: what it measures, what it makes of it, and that it leaves nothing behind."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from runs_helpers import ROOT, SMALL, STAGES, one_line_error

from warp_train.benchmark.bench import Result
from warp_train.benchmark.peer import EagerPeer, warp_grid
from warp_train.benchmark.probes import host_syncs, peak_bytes
from warp_train.benchmark.report import change_first, format_result, format_scale, format_targets
from warp_train.benchmark.stopwatch import Stopwatch, interleave
from warp_train.cli import main
from warp_train.geometry import build_parametric_grid, fuse_grids, upsample_residual_flow
from warp_train.recipe import Recipe, load_recipe

CPU = torch.device("cpu")
RESULT = Result(
    recipe="night",
    stage="stage2_hybrid",
    backbone="tiny",
    batch=(8, 256, 384),
    device="cpu, 1 threads",
    processes=2,
    precision="no",
    steps=20,
    step_ms={"ours": 100.0, "accelerate": 99.0, "bare": 80.0, "peer": 300.0},
    ratios={"ours/accelerate": 1.01, "ours/bare": 1.25, "ours/peer": 0.33},
    parts_ms={
        **dict.fromkeys(("host to device", "forward", "warp", "losses", "true warp"), 5.0),
        **dict.fromkeys(("backward", "clip", "optimizer", "logging", "checkpoint"), 10.0),
    },
    losses_ms={"edge": 7.0, "line": 9.0, "grid": 3.0},
    samples_per_sec=160.0,
    data_wait_frac=0.01,
    peak_bytes={"ours": 150_000_000, "bare": 100_000_000},
    host_syncs_per_step=None,
    log_every=10,
)


def bench(recipe: str, *more: str) -> int:
    return main(["bench", f"{ROOT}/recipes/{recipe}.yaml", *SMALL, "--steps", "2", *more])


def test_a_stage_is_measured_with_its_peer_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    # Stage 1's weights are not there, and are not needed to know the time.
    more = ("--json", "out.json", "--trace", "trace.json", "init_from=missing")
    assert bench(STAGES[1], "--peer", *more) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json", "trace.json"]
    assert_a_trace_of_steps(tmp_path / "trace.json")
    figures = json.loads((tmp_path / "out.json").read_text())
    assert set(figures["step_ms"]) == {"ours", "accelerate", "bare", "peer"}
    assert set(figures["ratios"]) == {"ours/accelerate", "ours/bare", "ours/peer"}
    assert {"edge", "ssim", "grid", "flow_curv", "jacobian"} <= set(figures["losses_ms"])
    assert figures["batch"] == [4, 32, 48]
    assert figures["host_syncs_per_step"] is None
    assert figures["data_wait_frac"] > 0  # no workers: samples are drawn between the steps
    for name in ("step_ms", "ratios", "parts_ms", "losses_ms", "peak_bytes"):
        assert min(figures[name].values()) > 0, name
    table = capsys.readouterr().out
    assert f"{figures['step_ms']['bare']:.2f} ms" in table
    assert table.endswith(f"change first: {figures['change_first']}\n")


def assert_a_trace_of_steps(path: Path) -> None:
    """Whole steps, each with its wait for data and with operations of torch inside it."""
    events = [e for e in json.loads(path.read_text())["traceEvents"] if e.get("ph") == "X"]
    spans = {name: [e for e in events if e["name"] == name] for name in ("step", "data")}
    operations = [e["ts"] for e in events if e["name"] == "aten::convolution_backward"]
    assert {name: len(found) for name, found in spans.items()} == {"step": 3, "data": 3}
    for step, data in zip(spans["step"], spans["data"], strict=True):
        end = step["ts"] + step["dur"]
        assert step["ts"] <= data["ts"] <= data["ts"] + data["dur"] <= end
        assert any(step["ts"] <= at <= end for at in operations)


def test_a_trace_is_of_one_case_and_can_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        bench(STAGES[1], "--scale", "--trace", str(tmp_path / "trace.json"))
    assert "--trace: one file holds one case" in capsys.readouterr().err
    assert bench(STAGES[1], "--trace", str(tmp_path / "nowhere" / "trace.json")) == 1
    assert "there is no folder" in one_line_error(capsys)


def test_a_chain_is_measured_by_its_last_stage_or_the_one_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert bench("three_stages") == 0
    assert STAGES[2] in capsys.readouterr().out
    assert bench("three_stages", "--stage", STAGES[0], "train.grad_accum_steps=2") == 0
    out = capsys.readouterr().out
    assert STAGES[0] in out
    assert "flow_tv" not in out
    assert bench("three_stages", "--stage", "stage9") == 1
    assert ", ".join(STAGES) in one_line_error(capsys)


def test_loops_take_turns_and_warm_up_untimed() -> None:
    turns: list[str] = []
    watch = Stopwatch(CPU)
    loops = {"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}
    interleave(watch, loops, rounds=2, warm_up=1)
    assert "".join(turns) == "ababab"
    assert set(watch.milliseconds()) == {"a", "b"}


def test_a_ratio_is_the_median_over_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Stopwatch(CPU)
    # Two rounds in which the machine is ten times as slow change the times, but no ratio.
    clock = iter([0.0, 3, 3, 5, 0, 30, 30, 50, 0, 30, 30, 50])
    monkeypatch.setattr(watch, "now", lambda: next(clock))
    interleave(watch, {"one": lambda: None, "other": lambda: None}, rounds=3, warm_up=0)
    assert watch.ratio("one", "other") == pytest.approx(1.5)
    assert watch.milliseconds() == {"one": 30_000, "other": 20_000}


def test_peak_memory_is_of_what_lives_at_once() -> None:
    start = torch.zeros(1_000_000)

    def step() -> None:
        second = start + 1  # 4 MB
        third = second + 1  # 8 MB
        del second
        fourth = third[:500_000] + 1  # 6 MB
        del third, fourth

    assert peak_bytes(step, CPU) == pytest.approx(8_000_000, rel=0.01)


def test_there_is_nothing_to_wait_for_on_a_cpu() -> None:
    assert host_syncs(lambda: torch.ones(1).item(), CPU) is None


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"data_wait_frac": 0.4, "host_syncs_per_step": 3}, "data.workers: 40%"),
        ({"host_syncs_per_step": 3}, "the 3 waits"),
        ({"log_every": 1}, "train.log_every"),
        ({"ratios": {"ours/bare": 1.6}}, "loss.line_weight"),
        ({}, "nothing beside the network, which takes 80%"),
    ],
)
def test_what_costs_most_is_named_first(changes: dict[str, object], named: str) -> None:
    assert change_first(dataclasses.replace(RESULT, **changes)).startswith(named)  # type: ignore[arg-type]


def test_the_table_says_what_was_measured_and_what_was_not() -> None:
    table = format_result(RESULT)
    # 8 samples of each of 2 processes at 160 a second take 100 ms, of which a hundredth is waiting.
    for cells in (["data wait", "1.00 ms"], ["peak memory", "150.0 MB", "1.50 ×"], ["CPU: none"]):
        assert any(all(cell in line for cell in cells) for line in table.splitlines()), cells
    assert "drawing" not in table
    unknown = format_result(dataclasses.replace(RESULT, peak_bytes={}))
    assert "peak memory" not in unknown
    assert format_targets({"tiny": RESULT}).split()[-6:] == [
        *("tiny", "1.250", "3.788", "0.330", "1.010", "1.50")
    ]


def test_the_peer_builds_the_same_warp() -> None:
    generator = torch.Generator().manual_seed(0)
    params = torch.tensor([[0.2, -0.1, 0.05, 0.01, -0.02, 0.03, -0.04, 1.1]])
    flow = torch.rand(1, 2, 3, 4, generator=generator)
    ours = fuse_grids(build_parametric_grid(params, 33, 47), upsample_residual_flow(flow, 33, 47))
    torch.testing.assert_close(warp_grid(params, flow, 33, 47), ours, atol=1e-5, rtol=0)


@pytest.mark.parametrize("known", [True, False])
def test_the_peer_trains_on_every_term(known: bool) -> None:
    recipe = load_recipe(ROOT / "recipes" / f"{STAGES[1]}.yaml", SMALL)
    assert isinstance(recipe, Recipe)
    assert len(recipe.loss.weights) == 11
    generator = torch.Generator().manual_seed(0)
    batch = {
        "input_image": torch.rand(2, 3, 64, 96, generator=generator),
        "target_image": torch.rand(2, 3, 64, 96, generator=generator),
        "target_params": torch.tensor([[0.1, 0, 0, 0, 0, 0, 0, 1.0]] * 2),
    }
    if not known:
        batch["target_params"] = torch.full((2, 8), torch.nan)
    peer = EagerPeer(recipe, iter([batch] * 4), CPU)
    losses = [peer.step()["loss/total"] for _ in range(4)]
    assert losses[-1] < losses[0]


def test_what_grows_as_the_root_has_the_exponent_one_half() -> None:
    grown = dataclasses.replace(RESULT, step_ms={**RESULT.step_ms, "ours": 200.0, "bare": 320.0})
    head, first, second = format_scale({"as it is": RESULT, "batch × 4": grown}).splitlines()
    assert head.split() == ["step", "exponent", "bare", "exponent", "peak"]
    assert " ".join(first.split()) == "as it is 100.0 ms 80.0 ms 150 MB"
    assert " ".join(second.split()) == "batch × 4 200.0 ms 0.50 320.0 ms 1.00 150 MB"


def test_a_step_is_measured_as_it_grows(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(STAGES[1], "--scale", "train.batch_size=1") == 0
    *_, base, batch, pixels, samples = capsys.readouterr().out.splitlines()
    assert base.startswith("as it is ")
    for line, name in ((batch, "batch"), (pixels, "pixels"), (samples, "samples")):
        assert line.startswith(f"{name} × 4 ")
        float(line.split()[5])
