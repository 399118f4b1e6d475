"""Ctrl-C, SIGTERM and SIGUSR1: the run saves a checkpoint soon, on all ranks together."""

import os
import signal
import time
from types import FrameType, TracebackType
from typing import Any

import torch
from accelerate import Accelerator

from warp_train.runtime.locks import release_all

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Slurm can send SIGUSR1 before a job's time is up; it is handled like SIGTERM."""
_ECHO_SECONDS = 1.0
"""A launcher passes a signal on that the whole process group has received already: signals within
this time count as one."""


class Interrupts:
    """Records signals while the context is active; a second signal ends the process at once."""

    def __init__(self) -> None:
        self.received: int | None = None
        """The signal that this process received itself or learned of from another rank."""
        self._received_at = 0.0
        self._agreed: int | None = None
        self._before: dict[int, Any] = {}
        self._group: Any = None

    def join(self, accelerator: Accelerator) -> None:
        """Sets up the exchange between ranks. Collective: call on every rank, before `agreed`."""
        if accelerator.num_processes > 1 and self._group is None:
            # Ranks exchange this in every step, over the CPU: a GPU would have to wait for it.
            self._group = torch.distributed.new_group(backend="gloo")

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
        number = signal.SIGTERM if number == signal.SIGUSR1 else number
        if self.received is None:
            self._receive(number)
        elif time.monotonic() - self._received_at > _ECHO_SECONDS:
            release_all()
            os._exit(128 + number)

    def _receive(self, number: int) -> None:
        # The time first: a signal between these two lines must not count as a second one.
        self._received_at = time.monotonic()
        self.received = number

    def noticed(self) -> bool:
        """Whether this process has received a signal or learned of one. Not collective."""
        return self.received is not None

    def agreed(self) -> int | None:
        """The signal that any rank received. Collective: call on every rank, at the same step."""
        self.round(working=True)
        return self._agreed

    def round(self, working: bool) -> tuple[bool, bool]:
        """One round of a loop whose length differs between the ranks.

        Collective: call on every rank until none has work.

        Returns:
            Whether any rank received a signal, and whether any has work.
        """
        number = self.received or 0
        if self._group is not None:
            word = torch.tensor([number, int(working)])
            torch.distributed.all_reduce(word, op=torch.distributed.ReduceOp.MAX, group=self._group)
            number, working = int(word[0]), bool(word[1])
            # A signal that arrived meanwhile stays for the next round: no other rank has it.
            if number and self.received != number:
                self._receive(number)  # the same signal may still arrive at this process
        self._agreed = number or None
        return self._agreed is not None, working
