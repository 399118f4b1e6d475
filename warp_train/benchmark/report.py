"""What a user reads of a measurement: a table, and what to change first."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from warp_train.benchmark.bench import Result
from warp_train.runtime.tables import UNKNOWN, Cells, aligned_lines, cell, ratio

_LOOPS = {
    "ours": "warp-train's step",
    "accelerate": "the same by hand, with Accelerate",
    "bare": "the bare network, in plain torch",
    "peer": "the same terms, written as first written",
}
_NOTABLE_WAIT = 0.05
_NOTABLE_LOGGING = 0.03
_NOTABLE_OVERHEAD = 1.3
_MB = 1e6
_GROWTH = 4


def as_json(result: Result) -> dict[str, Any]:
    """The figures of the table, and the advice."""
    return {**asdict(result), "change_first": change_first(result)}


def format_result(result: Result) -> str:
    """The table."""
    samples, height, width = result.batch
    lines = [
        f"{result.recipe}: {result.stage}, {result.backbone}, {samples} × {height} × {width} a"
        f" process, {result.processes} × {result.device}, precision {result.precision}",
        f"{result.samples_per_sec:.1f} samples/s with the recipe's own loader",
    ]
    blocks = _blocks(result)
    # Aligned together, so that the columns are the same in all blocks.
    aligned = iter(aligned_lines([row for rows in blocks.values() for row in rows], left={0, 2}))
    for title, rows in blocks.items():
        lines += ["", title, *(f"  {next(aligned)}".rstrip() for _ in rows)]
    return "\n".join([*lines, "", f"change first: {change_first(result)}"])


def _blocks(result: Result) -> dict[str, list[Cells]]:
    """Rows of name, figure and note, by the title above them."""
    times = [(_LOOPS[name], f"{ms:.2f} ms", "") for name, ms in result.step_ms.items()]
    ratios = [(f"ratio {name}", f"{value:.3f}", "") for name, value in result.ratios.items()]
    return {
        f"one step, medians of {result.steps} rounds in turn": [*times, *ratios],
        "parts of the step": list(_part_rows(result)),
        "each loss term alone, forward and backward, with what it shares with others": [
            (name, f"{ms:.2f} ms", "") for name, ms in result.losses_ms.items()
        ],
        "memory and waits": list(_resource_rows(result)),
    }


def change_first(result: Result) -> str:
    """The change that is likely to gain most."""
    ours = result.step_ms["ours"]
    logging = result.parts_ms["logging"] / result.log_every
    if result.data_wait_frac > _NOTABLE_WAIT:
        return (
            f"data.workers: {result.data_wait_frac:.0%} of the time is spent waiting for samples; "
            "more workers, or smaller files"
        )
    if result.host_syncs_per_step:
        return f"the {result.host_syncs_per_step} waits for the GPU in each step"
    if logging > _NOTABLE_LOGGING * ours:
        return f"train.log_every: a line every {result.log_every} steps takes {logging / ours:.0%}"
    if result.ratios["ours/bare"] > _NOTABLE_OVERHEAD:
        name, costliest = max(result.losses_ms.items(), key=lambda term: term[1])
        return (
            f"loss.{name}_weight, if it can be 0: alone it takes {costliest:.1f} ms of a step of "
            f"{ours:.1f}"
        )
    share = 1 / result.ratios["ours/bare"]
    return f"nothing beside the network, which takes {share:.0%} of the step"


def _part_rows(result: Result) -> Iterator[Cells]:
    parts, step = result.parts_ms, result.step_ms["ours"]
    wait = 1e3 * result.data_wait_frac * result.batch[0] * result.processes / result.samples_per_sec
    yield "data wait", f"{wait:.2f} ms", f"{result.data_wait_frac:6.1%}"
    for name in (
        "host to device",
        "forward",
        "warp",
        "losses",
        "true warp",
        "backward",
        "clip",
        "optimizer",
    ):
        yield name, f"{parts[name]:.2f} ms", f"{parts[name] / step:6.1%}"
    logging = parts["logging"]
    share = logging / result.log_every / step
    yield "logging", f"{logging:.2f} ms", f"{share:6.1%}, once in {result.log_every} steps"
    yield "checkpoint", f"{parts['checkpoint']:.2f} ms", "a save"
    if "drawing or decoding" in parts:
        yield "drawing or decoding", f"{parts['drawing or decoding']:.2f} ms", "a sample, one core"


def _resource_rows(result: Result) -> Iterator[Cells]:
    if result.peak_bytes:
        ours, bare = (result.peak_bytes[name] / _MB for name in ("ours", "bare"))
        compared = f"{ours / bare:.2f} × the bare network's {bare:.1f} MB"
        yield "peak memory of a step", f"{ours:.1f} MB", compared
    syncs = result.host_syncs_per_step
    yield "waits for the GPU a step", "CPU: none to count" if syncs is None else str(syncs), ""


def format_targets(results: Mapping[str, Result]) -> str:
    """One line a case: the ratios that the step is judged by."""
    rows: list[Cells] = [("", "ours/bare", "peer/bare", "ours/peer", "by hand", "mem")]
    for name, result in results.items():
        ratios, peaks = result.ratios, result.peak_bytes
        peer = ratios["ours/bare"] / ratios["ours/peer"]
        shown = (ratios["ours/bare"], peer, ratios["ours/peer"], ratios["ours/accelerate"])
        memory = ratio(peaks.get("ours"), peaks.get("bare"))
        rows.append((name, *(cell(value, ".3f") for value in shown), cell(memory, ".2f")))
    return "\n".join(aligned_lines(rows))


def format_scale(results: Mapping[str, Result]) -> str:
    """How a step grows: `cost ~ size ** exponent`, where the size is four times the first's."""
    first, *_ = results.values()
    rows: list[Cells] = [("", "step", "exponent", "bare", "exponent", "peak")]
    for name, result in results.items():
        row = [name]
        for loop in ("ours", "bare"):
            cost, before = result.step_ms[loop], first.step_ms[loop]
            exponent = "" if result is first else f"{math.log(cost / before, _GROWTH):.2f}"
            row += [f"{cost:.1f} ms", exponent]
        peak = result.peak_bytes.get("ours")
        rows.append((*row, f"{peak / _MB:.0f} MB" if peak else UNKNOWN))
    return "\n".join(aligned_lines(rows))
