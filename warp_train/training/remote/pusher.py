"""Copies runs elsewhere while they train: one thread, which no step of training waits for."""

import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from warp_train.runtime.console import tell
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.locks import Lock, lock_folder
from warp_train.runtime.urls import Remote, reason
from warp_train.training.checkpoints.folder import STAGING
from warp_train.training.remote.places import KEY
from warp_train.training.remote.staging import Snapshot, take_snapshot
from warp_train.training.remote.uploading import upload
from warp_train.training.remote.writers import Stamp

log = logging.getLogger("warp_train")


@dataclass(frozen=True)
class Patience:
    """How long failing copies are repeated."""

    first_pause_s: float = 1.0
    """Pause after the first failure; each further one doubles it."""
    longest_pause_s: float = 60.0
    at_the_end_s: float = 120.0
    """How long a run that has ended waits while copies keep failing."""


@dataclass(frozen=True)
class Job:
    """A snapshot and the folder that it is copied to."""

    snapshot: Snapshot
    target: Remote
    sent: dict[str, Stamp] = field(default_factory=dict)
    """Files that a failed attempt has copied already."""


class Pusher:
    """Copies the newest state of each run; states in between are left out.

    A failure is a warning, once until it works again, and the copy is repeated.
    """

    def __init__(
        self, places: Mapping[str, Remote] | None = None, patience: Patience | None = None
    ) -> None:
        """`places`: by `checkpoint.push_to`; none on all but the main process."""
        self._places, self._patience = places or {}, patience or Patience()
        self._pending: dict[Path, Job] = {}
        self._active: Job | None = None
        self._failures = 0
        """Failed attempts since the last one that worked."""
        self._reason = ""
        self._ending = self._given_up = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._locks: dict[Path, Lock] = {}
        self._number = 0
        self._beside: list[tuple[Path, str | None]] = []

    def note(self, run_dir: Path, push_to: str | None) -> None:
        """Notes that the newest state of a run is to be copied to `<push_to>/<its name>`.

        Returns at once: the thread copies. Does nothing where `push_to` is null.
        """
        place = self._places.get(push_to or "")
        if place is None:
            return
        beside, self._beside = self._beside, []
        for folder, its_place in beside:
            self.note(folder, its_place)
        try:
            snapshot = self._snapshot(run_dir)
        except (OSError, WarpTrainError) as error:
            log.warning("%s: this state of %s is not copied: %s", KEY, run_dir, reason(error))
            return
        with self._changed:
            replaced = self._pending.get(run_dir)
            self._pending[run_dir] = Job(snapshot, place / run_dir.resolve().name)
            self._changed.notify_all()
        if replaced:
            replaced.snapshot.discard()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="push", daemon=True)
            self._thread.start()

    def note_later(self, run_dir: Path, push_to: str | None) -> None:
        """The same, together with the next run that is noted: a chain's own folder is copied when
        its first stage has begun."""
        self._beside.append((run_dir, push_to))

    def finish(self, stopped: Callable[[], bool]) -> None:
        """Waits until everything is copied, and ends; prints what it waits for.

        Args:
            stopped: whether the user has ended the wait.
        """
        with self._changed:
            self._ending = True
            self._changed.notify_all()
            if waiting := self._outstanding():
                job = waiting[-1]
                tell(
                    f"copying {job.snapshot.what} to {job.target.url} ({KEY}); Ctrl-C ends the wait"
                )
            limit = time.monotonic() + self._patience.at_the_end_s
            while self._outstanding() and not stopped():
                if self._failures and time.monotonic() > limit:
                    break
                self._changed.wait(0.05)
            self._given_up = True
            left = self._outstanding()
            if waiting and not left:
                tell(f"copied to {waiting[-1].target.url}")
            self._changed.notify_all()
        for job in {job.snapshot.run_dir: job for job in left}.values():  # the newest of each run
            why = f" ({self._reason})" if self._failures else ""
            log.warning(
                "%s: %s is not completely copied to %s%s; it is complete on this disk: resume the "
                "run to copy it",
                *(KEY, job.snapshot.what, job.target.url, why),
            )
        for run_dir, lock in self._locks.items():
            for staged in (run_dir / STAGING).glob("[0-9]*"):
                shutil.rmtree(staged, ignore_errors=True)
            lock.release()

    def _snapshot(self, run_dir: Path) -> Snapshot:
        """Raises OSError, or WarpTrainError where another process copies this run."""
        if run_dir not in self._locks:  # until the end, which may be after that of the run itself
            self._locks[run_dir] = lock_folder(run_dir / STAGING)
        self._number += 1
        return take_snapshot(run_dir, self._number)

    def _outstanding(self) -> list[Job]:
        active = [self._active] if self._active else []
        return [*active, *self._pending.values()]

    def _work(self) -> None:
        while (job := self._next()) is not None:
            try:
                upload(job.snapshot, job.target, job.sent)
            except Exception as error:  # a file system may raise anything, and training goes on
                self._failed(job, error)
            else:
                self._succeeded(job)

    def _next(self) -> Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._pending or self._ending)
            if self._given_up or not self._pending:
                return None
            self._active = self._pending.pop(next(iter(self._pending)))
            return self._active

    def _succeeded(self, job: Job) -> None:
        job.snapshot.discard()
        if self._failures:
            log.warning("%s: %s works again", KEY, job.target.url)
        with self._changed:
            self._active, self._failures = None, 0
            self._changed.notify_all()

    def _failed(self, job: Job, error: Exception) -> None:
        with self._changed:
            if self._given_up:
                return
            self._failures, self._reason = self._failures + 1, reason(error)
            superseded = job.snapshot.run_dir in self._pending
            if not superseded:  # first in the queue again
                self._pending = {job.snapshot.run_dir: job, **self._pending}
            self._active = None
            was_ending = self._ending
        if superseded:
            job.snapshot.discard()
        if self._failures == 1:
            log.warning(
                "%s: %s cannot be written now (%s); training continues, and the copy is repeated",
                *(KEY, job.target.url, self._reason),
            )
        doubled = self._patience.first_pause_s * 2 ** min(self._failures - 1, 30)
        with self._changed:
            self._changed.wait_for(
                lambda: self._given_up or self._ending != was_ending,
                min(doubled, self._patience.longest_pause_s),
            )
