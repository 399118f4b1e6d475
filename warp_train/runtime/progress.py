"""How a long command shows its progress: a bar on a terminal, lines in a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TextIO

from tqdm import tqdm

from warp_train.runtime.console import say, tell


class Progress:
    """A bar on a terminal; elsewhere a plain line every half minute.

    Errors and notes have lines of their own, which do not tear the bar.
    """

    def __init__(
        self,
        total: int,
        unit: str,
        *,
        title: str = "",
        initial: int = 0,
        enabled: bool = True,
        stream: TextIO | None = None,
        seconds_between_lines: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args:
        total: how many there are.
        unit: of what, in the singular.
        title: the part of a longer job that this is, such as `epoch 2/3`. It begins every line,
            and in a pipe each part ends with a line.
        initial: how many were done before; a resumed run starts there.
        enabled: False on all processes but the main one: no bar and no lines.
        stream: where to print; standard error if None.
        """
        self._total, self._unit, self._title = total, unit, title
        self._initial = self._done = initial
        self._enabled, self._stream = enabled, stream or sys.stderr
        self._pause, self._clock = seconds_between_lines, clock
        self._began = self._printed_at = clock()
        self._values: dict[str, float] = {}
        self._bar: tqdm[Any] | None = None
        if enabled and self._stream.isatty():
            self._bar = tqdm(
                total=total,
                initial=initial,
                desc=title or None,
                unit=unit,
                file=self._stream,
                dynamic_ncols=True,
            )

    @property
    def rate(self) -> float:
        """How many were done per second."""
        return (self._done - self._initial) / max(self._clock() - self._began, 1e-9)

    def error(self, message: str) -> None:
        """Prints what went wrong, as one line."""
        self.note(f"error: {message}")

    def note(self, message: str) -> None:
        """Prints a message as one line."""
        line = " ".join(message.split())
        if self._bar is None:
            say(line, self._stream)
            return
        with tqdm.external_write_mode(file=self._stream):
            say(line, self._stream)

    def advance(self, values: Mapping[str, float] | None = None) -> None:
        """One more is done; `values`, where there are new ones, are shown from now on."""
        self._done += 1
        self._values.update(values or {})
        if self._bar is not None:
            self._bar.set_postfix_str(_format_values(self._values), refresh=False)
            self._bar.update()
        elif self._enabled and (now := self._clock()) - self._printed_at >= self._pause:
            self._printed_at = now
            self._print_line()

    def close(self) -> None:
        """Leaves the bar as it stands; in a pipe, prints the last line of a part of a job."""
        if self._bar is not None:
            self._bar.close()
        elif self._enabled and self._title:
            self._print_line()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _print_line(self) -> None:
        # A full log must not stop the work: `tell` ignores write errors.
        if self._title:
            counted = f"{self._title}  {self._unit} {self._done}/{self._total}"
            tell(f"{counted}  {_format_values(self._values)}".rstrip(), self._stream)
        else:
            counted = f"{self._done}/{self._total} {self._unit}s"
            tell(f"warp-train: {counted}, {self.rate:.1f}/s", self._stream)


def _format_values(values: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in values.items())
