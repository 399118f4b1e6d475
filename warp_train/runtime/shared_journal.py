"""A journal of which each process of a launch writes a part; rank 0 puts the parts together."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from warp_train.runtime.journal import append_line, begin_journal
from warp_train.runtime.team import Team

Row = dict[str, Any]


class SharedJournal:
    """JSON lines that belong into one file. All methods raise OSError."""

    def __init__(self, team: Team, main: Path, key: str) -> None:
        """Args:
        main: the file.
        key: what every line has, and a process alone or rank 0 orders the lines by.
        """
        self._team, self._main, self._key = team, main, key
        self.path = main if team.alone else team.journal(team.rank)
        """Where this process appends its lines, after `begin`."""

    def recollect(self) -> None:
        """Moves the lines that a killed launch has left into the file.

        For rank 0, before the others begin.
        """
        parts = sorted(self._team.folder.glob("journal-*.jsonl"))
        for _ in self._move(parts, {}):
            pass

    def begin(self) -> None:
        """Makes the file of this process ready."""
        begin_journal(self.path)

    def collect(self, names: Sequence[str]) -> Iterator[tuple[int, Row]]:
        """Moves the lines of all processes into the file; yields each with the rank it is from.

        For rank 0, after the others have finished.

        Args:
            names: the keys in the order that the lines get; lines of other keys come first.
        """
        if self._team.alone:
            return
        parts = [self._team.journal(rank) for rank in range(self._team.world)]
        yield from self._move(parts, {name: number for number, name in enumerate(names)})

    def _move(self, parts: Sequence[Path], order: Mapping[str, int]) -> Iterator[tuple[int, Row]]:
        if parts:
            begin_journal(self._main)
        for number, row in _in_order(parts, self._key, order):
            append_line(self._main, row)
            yield number, row
        for part in parts:
            part.unlink()


def _in_order(
    parts: Sequence[Path], key: str, order: Mapping[str, int]
) -> Iterator[tuple[int, Row]]:
    """The lines of several files in one order, each with the number of its file.

    Only the places of the lines are held in memory.
    """
    places = []
    for number, part in enumerate(parts):
        with part.open("rb") as file:
            offset = 0
            for line in file:
                row = _row(line, key)
                if row is not None:
                    places.append((order.get(str(row[key]), -1), number, offset))
                offset += len(line)
    files = [part.open("rb") for part in parts]
    try:
        for _, number, offset in sorted(places):
            files[number].seek(offset)
            row = _row(files[number].readline(), key)
            if row is not None:
                yield number, row
    finally:
        for file in files:
            file.close()


def _row(line: bytes, key: str) -> Row | None:
    """The line's object; None for one that a crash has cut off."""
    try:
        row = json.loads(line.decode())
    except ValueError:
        return None
    return row if isinstance(row, dict) and key in row else None
