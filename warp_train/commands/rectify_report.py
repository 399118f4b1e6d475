"""The report of `rectify`: journal lines, errors, progress, warnings and a summary."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from warp_train.inference.rectify_inputs import Record
from warp_train.runtime.console import say
from warp_train.runtime.journal import append_line
from warp_train.runtime.progress import Progress

JOURNAL = "rectify.jsonl"
"""Where users find the lines of all photos, in the folder of the results."""
_MOST_WARNINGS = 10  # lines
_MOST_DISTINCT = 1000  # that are counted by their texts; the journal has all
_LEFT_ALONE = "left alone: corrected already"


class RectifyReport:
    """Reports photos as they finish."""

    def __init__(
        self,
        journal: Path,
        total: int,
        unread: str = "",
        *,
        looks: int = 0,
        share: int | None = None,
        talks: bool = True,
    ) -> None:
        """Args:
        journal: the file that gets a line for each photo.
        total: number of photos.
        unread: which files were not read, for the end of the summary; empty if there are none.
        looks: number of photos that are looked at before any is corrected.
        share: number of photos that this process reports; None: all.
        talks: whether to show progress and the summary; errors are always printed.
        """
        self._talks = talks
        self._journal, self._total, self._unread = journal, total, unread
        self._lost_lines = 0
        self._done: Counter[str] = Counter()
        self._modes: Counter[str] = Counter()
        self._warnings = _Warnings()
        steps = looks + (total if share is None else share)
        self._progress = Progress(steps, "look" if looks else "photo", enabled=talks)

    @property
    def failed(self) -> bool:
        """Whether a photo failed or is missing, or its line could not be written."""
        return bool(self._done["failed"] or self._missed > 0 or self._lost_lines)

    @property
    def _missed(self) -> int:
        """Number of photos that were not reported."""
        return self._total - self._done.total()

    def looked(self) -> None:
        """Reports one first look at a photo."""
        self._progress.advance()

    def add(self, record: Record) -> None:
        """Reports one finished photo."""
        try:
            append_line(self._journal, record)
        except OSError as error:
            if not self._lost_lines:
                self._progress.error(f"{JOURNAL} cannot be written ({error.strerror})")
            self._lost_lines += 1
        if "error" in record:
            self._progress.error(record["error"])
        self.count(record)
        self._progress.advance()

    def count(self, record: Record) -> None:
        """Adds one photo to the summary, such as one that another process has reported."""
        if "error" in record:
            self._done["failed"] += 1
        else:
            self._done[_outcome(record)] += 1
            self._modes[record["mode_used"]] += 1
            self._warnings.add(record)

    def close(self) -> None:
        """Prints the warnings and, as the last line, the summary; also after an error."""
        self._progress.close()
        if not self._talks:
            return
        for line in self._warnings.lines():
            say(line)
        parts = [f"{count} {what}" for what, count in sorted(self._done.items())]
        if self._missed > 0:
            parts.append(f"{self._missed} not corrected")
        if self._lost_lines:
            parts.append(f"{self._lost_lines} lines of {JOURNAL} lost")
        if self._warnings.photos:
            parts.append(f"{self._warnings.photos} with warnings, see {JOURNAL}")
        modes = ", ".join(f"{mode} {count}" for mode, count in sorted(self._modes.items()))
        summary = (", ".join(parts) or "no photos") + (f" ({modes})" if modes else "")
        say(f"{summary}; {self._unread}" if self._unread else summary)


class _Warnings:
    """The warnings of photos, counted by their texts."""

    def __init__(self) -> None:
        self.photos = 0
        """Number of photos with warnings."""
        self._first: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._others = 0

    def add(self, record: Record) -> None:
        texts = dict.fromkeys(" ".join(str(text).split()) for text in record["warnings"])
        self.photos += bool(texts)
        for text in texts:
            if text not in self._counts and len(self._counts) >= _MOST_DISTINCT:
                self._others += 1
                continue
            self._counts[text] += 1
            self._first.setdefault(text, record["input"])

    def lines(self) -> list[str]:
        """A line for each text, the most frequent first, with the first file that has it."""
        shown = self._counts.most_common()
        if len(shown) > _MOST_WARNINGS or self._others:
            shown = shown[: _MOST_WARNINGS - 1]
        lines = []
        for text, count in shown:
            more = f" and {count - 1} more" if count > 1 else ""
            lines.append(f"warning: {self._first[text]}{more}: {text}")
        rest = self._counts.total() - sum(count for _, count in shown) + self._others
        if rest:
            lines.append(f"warning: {rest} more warnings of other kinds")
        return lines


def _outcome(record: dict[str, Any]) -> str:
    if record.get("left_alone"):
        return _LEFT_ALONE
    if record["output"] is None:
        return "measured"
    return "corrected" if record["resampled"] else "unchanged"
