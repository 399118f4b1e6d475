"""Ctrl-C, SIGTERM and SIGUSR1: the run saves a checkpoint soon, on all ranks together."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

import torch
from accelerate import Accelerator

from warp_train.runtime.locks import release_all
from warp_train.training.acceleration import PROCESS_GROUP_TIMEOUT

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Slurm can send SIGUSR1 before a job's time is up; it is handled like SIGTERM."""
_ECHO_SECONDS = 1.0
"""A launcher passes a signal on that the whole process group has received already: signals within
this time count as one."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 2e-5, 1e-3


class Interrupts:
    """Records signals while the context is active; a second signal ends the process at once."""

    def __init__(self) -> None:
        self.received: int | None = None
        """The signal that this process received itself or learned of from another rank."""
        self._received_at = 0.0
        self._agreed: int | None = None
        self._waiting = self._ended_wait = False
        self._before: dict[int, Any] = {}
        self._group: Any = None

    def join(self, accelerator: Accelerator) -> None:
        """Sets up the exchange between ranks. Collective: call on every rank, before `agreed`."""
        if accelerator.num_processes > 1 and self._group is None:
            # Ranks exchange this in every step, over the CPU: a GPU would have to wait for it.
            # Without a timeout of its own, such a group waits for half an hour.
            self._group = torch.distributed.new_group(backend="gloo", timeout=PROCESS_GROUP_TIMEOUT)

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
        echo = self.received is not None and time.monotonic() - self._received_at <= _ECHO_SECONDS
        if self.received is None or (self._waiting and not echo):
            self._ended_wait = self._waiting
            self._receive(number)
        elif not echo:
            release_all()
            os._exit(128 + number)

    @contextmanager
    def waiting(self) -> Iterator[Callable[[], bool]]:
        """While the context is active, a signal ends a wait instead of the process.

        Yields:
            Whether such a signal has arrived. Not collective.
        """
        self._waiting = True
        yield lambda: self._ended_wait
        self._waiting = False

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
            largest = torch.distributed.ReduceOp.MAX
            _await(torch.distributed.all_reduce(word, op=largest, group=self._group, async_op=True))
            number, working = int(word[0]), bool(word[1])
            # A signal that arrived meanwhile stays for the next round: no other rank has it.
            if number and self.received != number:
                self._receive(number)  # the same signal may still arrive at this process
        self._agreed = number or None
        return self._agreed is not None, working


def _await(work: Any) -> None:
    """Waits for an exchange in short pauses: Python handles no signal inside `work.wait()`, and a
    rank that waits for one that hangs could not be ended.

    Raises:
        RuntimeError: another rank is gone, or did not respond in time.
    """
    pause = _FIRST_PAUSE_S
    while not work.is_completed():
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)
    work.wait()
