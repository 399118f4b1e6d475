"""Ctrl-C and SIGTERM: the run saves a checkpoint at the next step's end, on all ranks together."""

import os
import signal
import time
from types import FrameType, TracebackType
from typing import Any

import torch
from accelerate import Accelerator

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ECHO_SECONDS = 1.0
"""A launcher passes on what the whole group has got: within this time it is the same signal."""


class Interrupts:
    """Notes signals while it is entered; a second one ends the process at once."""

    def __init__(self, accelerator: Accelerator) -> None:
        """Collective: call on every rank."""
        self.received: int | None = None
        self._received_at = 0.0
        self._before: dict[int, Any] = {}
        self._many = accelerator.num_processes > 1
        # Ranks agree over the CPU in every step; asking a GPU would make it wait.
        self._group: Any = torch.distributed.new_group(backend="gloo") if self._many else None

    def __enter__(self) -> "Interrupts":
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.received is None:
            self.received, self._received_at = number, now
        elif now - self._received_at > _ECHO_SECONDS:
            os._exit(128 + number)

    def noticed(self) -> bool:
        """Whether work that no other process waits in, such as validating alone, should be left.

        Several processes could leave at different batches: they look at a signal afterwards.
        """
        return not self._many and self.received is not None

    def agreed(self) -> int | None:
        """The signal that any rank received. Collective: call on every rank, at the same step."""
        if self._group is not None:
            number = torch.tensor([self.received or 0])
            torch.distributed.all_reduce(
                number, op=torch.distributed.ReduceOp.MAX, group=self._group
            )
            self.received = int(number.item()) or None
        return self.received
