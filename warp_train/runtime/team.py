"""The processes of one launch share a command's work, and meet through files in a folder.

A command whose processes only have to divide a list needs no process group: each takes its share,
and the first one (rank 0) puts the results together. The folder lies beside the command's output,
on a disk that all processes see.

Launchers give no name that differs between two launches, so the processes first agree on one: each
writes a random number, rank 0 answers with the name of the run and the numbers that it has read,
and a process that finds its own number there belongs to the run. All other files have the name of
their run in theirs: what an earlier run left behind is never taken for an answer.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from warp_train.runtime.atomic_files import INCOMING, write_atomically
from warp_train.runtime.console import say
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.ranks import Ranks, ranks

Item = TypeVar("Item")

START_S = 600.0
"""Time for all processes to start."""
SILENCE_S = 60.0
"""A process without a sign of life for so long is taken for dead."""
_BEAT_S = 2.0
_POLL_S = 0.05
_SAME_ERROR_S = 2.0
"""Time in which rank 0 meets an error that all processes meet."""
_OURS = ("run-*", "hello-*.json", "journal-*.jsonl", f"{INCOMING}*")


class PeerError(WarpTrainError):
    """Another process of the launch has failed, or has died."""


class Team:
    """The processes of a launch, seen from one of them; a process alone is a team as well."""

    def __init__(self, folder: Path, place: Ranks, run: str) -> None:
        """Args:
        folder: where the files are exchanged; a process alone makes none.
        place: of this process.
        run: the name that the processes have agreed on.
        """
        self.rank, self.world = place.rank, place.world
        self.folder = folder
        self._run = run
        self._signs: dict[int, tuple[str, float]] = {}
        self._stopped = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)
        if not self.alone:
            self._heart.start()

    @property
    def alone(self) -> bool:
        """Whether there is one process only."""
        return self.world == 1

    @property
    def first(self) -> bool:
        """Whether this is the process that talks to the user and writes the results."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """The items of this process: every `world`-th one."""
        return items[self.rank :: self.world]

    def put(self, name: str, value: Any) -> None:
        """Leaves a value, which must be JSON, for the others. Raises OSError."""
        write_atomically(self._path(name, self.rank), json.dumps(value))

    def get(self, name: str, rank: int) -> Any:
        """Waits for what a process puts there.

        Raises:
            PeerError: that process has failed, or shows no sign of life.
        """
        path = self._path(name, rank)
        self._signs.pop(rank, None)
        while True:
            with suppress(FileNotFoundError):
                return json.loads(path.read_bytes())
            self._check(rank)
            time.sleep(_POLL_S)

    def exchange(self, name: str, value: Any) -> list[Any]:
        """Everyone's value, by rank; waits for all. Raises PeerError and OSError."""
        if self.alone:
            return [value]
        self.put(name, value)
        return [self.get(name, rank) for rank in range(self.world)]

    def agree(self, what: str, names: Sequence[str]) -> None:
        """Waits for all processes. Raises WarpTrainError where their lists of names differ."""
        digest = hashlib.sha256(json.dumps(list(names)).encode()).hexdigest()
        found = self.exchange(what, [digest, len(names)])
        for rank, (theirs, count) in enumerate(found):
            if theirs != found[0][0]:
                raise WarpTrainError(
                    f"rank {rank} finds other {what} than rank 0 ({count} and {found[0][1]}): all "
                    "processes need the same files and options"
                )

    def finish(self, value: Any = None) -> list[Any] | None:
        """Everyone's last value, by rank, for rank 0, which waits for all; None for the others.

        Raises PeerError and OSError.
        """
        if self.first:
            return [value, *(self.get("end", rank) for rank in range(1, self.world))]
        self._rest()  # rank 0 removes the folder as soon as it has read the value
        self.put("end", value)
        return None

    def journal(self, rank: int) -> Path:
        """The lines that a process writes until rank 0 collects them."""
        return self.folder / f"journal-{rank}.jsonl"

    def fail(self, error: BaseException) -> None:
        """Lets the others find out why this process ends; prints what rank 0 does not print."""
        self._rest()
        text = " ".join(str(error).split())
        if not isinstance(error, PeerError):
            happened = f"failed: {text}" if isinstance(error, Exception) else "was interrupted"
            text = f"rank {self.rank} {happened}"
        with suppress(OSError):
            write_atomically(self._path("failed", self.rank), json.dumps(text))
        own = isinstance(error, WarpTrainError) and not isinstance(error, PeerError)
        if own and not self.first and not self._rank_0_prints(str(error)):
            say(f"error: rank {self.rank}: {' '.join(str(error).split())}")

    def _rank_0_prints(self, error: str) -> bool:
        """Whether rank 0 fails as well, with the same error."""
        deadline = time.monotonic() + _SAME_ERROR_S
        while time.monotonic() < deadline:
            with suppress(OSError):
                text: str = json.loads(self._path("failed", 0).read_bytes())
                return text.endswith(" ".join(error.split()))
            time.sleep(_POLL_S)
        return False

    def _path(self, name: str, rank: int) -> Path:
        return self.folder / f"run-{self._run}-{name}-{rank}"

    def _beat(self) -> None:
        """A sign of life until the process ends."""
        path, count = self._path("alive", self.rank), 0
        while not self._stopped.wait(_BEAT_S):
            count += 1
            with suppress(OSError):
                path.write_text(str(count))

    def _rest(self) -> None:
        self._stopped.set()
        if not self.alone:
            self._heart.join()

    def _check(self, rank: int) -> None:
        """Raises PeerError if a process has failed or has died."""
        with suppress(FileNotFoundError):
            raise PeerError(json.loads(self._path("failed", rank).read_bytes()))
        try:
            sign = self._path("alive", rank).read_text()
        except OSError:
            sign = ""
        before, since = self._signs.get(rank, (None, 0.0))
        if sign != before:
            self._signs[rank] = (sign, time.monotonic())
        elif time.monotonic() - since > SILENCE_S:
            raise PeerError(
                f"rank {rank} has died: no sign of life for {SILENCE_S:.0f} s; start the command "
                "again"
            )


def alone() -> Team:
    """The team of a process that shares its work with no other."""
    return Team(Path(), Ranks(), "")


@contextmanager
def together(beside: Path, place: Ranks | None = None) -> Iterator[Team]:
    """This process's team, once all processes have started.

    Within, each process must reach the same exchanges, and `finish` at the end. An exception ends
    the other processes as well, when they next wait for this one.

    Args:
        beside: the command's output. The folder for the files has its name and `.ranks`. It is
            removed at the end, and stays after an error; the next run removes it.
        place: of this process; None: the one that its launcher has given it.

    Raises:
        WarpTrainError: a process has not started.
        OSError: the folder cannot be made or written to.
    """
    place = place or ranks()
    folder = beside.with_name(f"{beside.name}.ranks")
    if place.world == 1:
        yield Team(folder, place, "")
        _clear(folder)
        return
    folder.mkdir(exist_ok=True)
    team = Team(folder, place, _met(folder, place))
    try:
        yield team
    except BaseException as error:
        team.fail(error)
        raise
    if team.first:
        team._rest()
        _clear(folder)


def _met(folder: Path, place: Ranks) -> str:
    """The name of the run, once all processes have it."""
    number, deadline = uuid.uuid4().hex, time.monotonic() + START_S
    if place.rank:
        write_atomically(_hello(folder, place.rank), json.dumps({"number": number}))
        while (answer := _read(_hello(folder, 0))).get("read", {}).get(str(place.rank)) != number:
            _wait("rank 0", place, deadline)
        run = str(answer["run"])
        _alive(folder, run, place.rank).write_text("0")
        return run
    for old in folder.glob("run-*"):
        old.unlink(missing_ok=True)
    _alive(folder, number, 0).write_text("0")
    read: dict[str, Any] = {}
    others = range(1, place.world)
    while missing := [rank for rank in others if not _alive(folder, number, rank).exists()]:
        found = {str(rank): _read(_hello(folder, rank)).get("number") for rank in others}
        if found != read:
            read = found
            write_atomically(_hello(folder, 0), json.dumps({"run": number, "read": read}))
        _wait(f"rank {missing[0]}", place, deadline)
    return number


def _wait(whom: str, place: Ranks, deadline: float) -> None:
    if time.monotonic() > deadline:
        raise WarpTrainError(
            f"{whom} has not started within {START_S:.0f} s (RANK={place.rank}, "
            f"WORLD_SIZE={place.world}; without a launcher, unset them)"
        )
    time.sleep(_POLL_S)


def _hello(folder: Path, rank: int) -> Path:
    return folder / f"hello-{rank}.json"


def _alive(folder: Path, run: str, rank: int) -> Path:
    return folder / f"run-{run}-alive-{rank}"


def _read(path: Path) -> dict[str, Any]:
    """The file's object; without any, such as of a file that is missing, an empty one."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _clear(folder: Path) -> None:
    """Removes the folder, unless it has files of someone else."""
    for pattern in _OURS:
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()
