"""Time by name, on the CPU and on devices that work on their own."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch


class Stopwatch:
    """Collects seconds under names; a GPU is waited for before each reading of the clock."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seconds: dict[str, list[float]] = defaultdict(list)

    def now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Times what is in the block."""
        began = self.now()
        yield
        self._seconds[name].append(self.now() - began)

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, every call of which is timed."""

        def call(*args: Any, **kwargs: Any) -> Any:
            with self.timing(name):
                return function(*args, **kwargs)

        return call

    def milliseconds(self) -> dict[str, float]:
        """The median of each name."""
        return {name: 1e3 * statistics.median(times) for name, times in self._seconds.items()}

    def ratio(self, name: str, other: str) -> float:
        """The median over the rounds in which both were timed of `name` ÷ `other`.

        Round by round, because what else the machine does comes and goes.
        """
        pairs = zip(self._seconds[name], self._seconds[other], strict=True)
        return statistics.median(one / another for one, another in pairs)


def interleave(
    watch: Stopwatch, loops: Mapping[str, Callable[[], Any]], *, rounds: int, warm_up: int
) -> None:
    """Runs one step of each loop in turn, `rounds` times after `warm_up` that are not timed."""
    for number in range(warm_up + rounds):
        for name, step in loops.items():
            if number < warm_up:
                step()
            else:
                with watch.timing(name):
                    step()
