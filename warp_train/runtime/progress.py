"""How a command over many files shows that it gets on."""

import sys
import time

from warp_train.runtime.console import say

_SECONDS_BETWEEN_LINES = 30.0


class Progress:
    """A bar on a terminal, a line every half minute elsewhere, and errors that spoil neither."""

    def __init__(self, total: int, unit: str) -> None:
        """`unit` is what there are `total` of, in the singular."""
        from tqdm import tqdm

        self._total, self._unit = total, unit
        self._done = 0
        self._began = self._said = time.monotonic()
        self._bar = tqdm(total=total, unit=unit, disable=not sys.stderr.isatty())

    @property
    def rate(self) -> float:
        """How many a second."""
        return self._done / max(time.monotonic() - self._began, 1e-9)

    def error(self, message: str) -> None:
        """What went wrong, as one line."""
        self.note(f"error: {message}")

    def note(self, message: str) -> None:
        """What is worth a line."""
        with self._bar.external_write_mode(file=sys.stderr):
            say(" ".join(message.split()))

    def advance(self) -> None:
        """One more has ended."""
        self._done += 1
        self._bar.update()
        if self._bar.disable and time.monotonic() - self._said > _SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            say(f"{self._done}/{self._total} {self._unit}s, {self.rate:.1f}/s")

    def close(self) -> None:
        """Leaves the bar as it stands; what is said next has a line of its own."""
        self._bar.close()
