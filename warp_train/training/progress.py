"""What a run prints: a progress bar per epoch, plain lines in a pipe, and the final table."""

import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TextIO

from tqdm import tqdm

from warp_train.runtime.console import tell

COLUMNS = ("", "epe_px", "vs identity", "vs fixed warp", "loss/total", "folds %")


class EpochProgress:
    """Progress of one epoch: a bar on a terminal, a plain line now and then anywhere else."""

    def __init__(
        self,
        *,
        epoch: int,
        epochs: int,
        total: int,
        done: int = 0,
        enabled: bool = True,
        stream: TextIO | None = None,
        seconds_between_lines: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args:
        epoch: counted from 0.
        total: optimizer steps in the epoch.
        done: steps of it that a resumed run has behind it.
        enabled: False on all but the main process.
        stream: where to print; standard error if None.
        """
        self._title = f"epoch {epoch + 1}/{epochs}"
        self._total, self._done = total, done
        self._enabled, self._stream = enabled, stream or sys.stderr
        self._pause, self._clock = seconds_between_lines, clock
        self._printed_at = clock()
        self._shown: dict[str, float] = {}
        self._bar: tqdm[Any] | None = None
        if enabled and self._stream.isatty():
            self._bar = tqdm(
                total=total,
                initial=done,
                desc=self._title,
                unit="step",
                file=self._stream,
                dynamic_ncols=True,
            )

    def advance(self, values: Mapping[str, float] | None = None) -> None:
        """One optimizer step; `values`, where there are new ones, are shown from now on."""
        self._done += 1
        self._shown.update(values or {})
        if self._bar is not None:
            self._bar.set_postfix_str(_format_values(self._shown), refresh=False)
            self._bar.update()
        elif self._enabled and self._clock() - self._printed_at >= self._pause:
            self._print_line()

    def close(self) -> None:
        """Ends the epoch's bar, or prints its last line."""
        if self._bar is not None:
            self._bar.close()
        elif self._enabled:
            self._print_line()

    def __enter__(self) -> "EpochProgress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _print_line(self) -> None:
        self._printed_at = self._clock()
        line = f"{self._title}  step {self._done}/{self._total}  {_format_values(self._shown)}"
        tell(line.rstrip(), self._stream)


def results_table(
    identity: Mapping[str, float],
    fixed_warp: Mapping[str, float] | None,
    stages: Mapping[str, Mapping[str, float]],
) -> str:
    """The table at the end of a stage; all rows from the same unseen samples.

    Args:
        identity: `loss/total`, `warp_negative_det_pct` and, where the true warp is known, `epe_px`
            of returning the photo as it is.
        fixed_warp: the same of one warp for every photo; None where no warp is known.
        stages: the same by stage, in order.
    """
    named = {"identity": identity, "fixed warp": fixed_warp or {}, **stages}
    rows = [COLUMNS]
    for name, metrics in named.items():
        epe = metrics.get("epe_px")
        rows.append(
            (
                name,
                _cell(epe, ".3f"),
                _cell(_ratio(epe, identity.get("epe_px")), ".3f"),
                _cell(_ratio(epe, named["fixed warp"].get("epe_px")), ".3f"),
                _cell(metrics.get("loss/total"), ".4f"),
                _cell(metrics.get("warp_negative_det_pct"), ".3f"),
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    lines = [_table_line(row, widths) for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _table_line(row: tuple[str, ...], widths: list[int]) -> str:
    name, *cells = (
        f"{cell:<{width}}" if i == 0 else f"{cell:>{width}}"
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join([name, *cells])


def _ratio(value: float | None, reference: float | None) -> float | None:
    return value / reference if value is not None and reference else None


def _cell(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _format_values(values: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in values.items())
