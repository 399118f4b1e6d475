"""What a step leaves behind besides time: its peak of memory, and its waits for the device."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile


def peak_bytes(step: Callable[[], Any], device: torch.device) -> int | None:
    """Largest size of the tensors that `step` allocates, in bytes, above what was there before.

    None on a device that does not report it.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    return _peak_on_cpu(step) if device.type == "cpu" else None


def _peak_on_cpu(step: Callable[[], Any]) -> int:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    events = recorded.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak


def host_syncs(step: Callable[[], Any], device: torch.device) -> int | None:
    """How often the host waits for the GPU in `step`; None where there is none to wait for."""
    if device.type != "cuda":
        return None
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            step()
    finally:
        torch.cuda.set_sync_debug_mode(mode)
    return sum("synchroniz" in str(warning.message) for warning in caught)
