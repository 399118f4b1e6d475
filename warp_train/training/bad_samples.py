"""Unreadable files: listed and replaced; training stops beyond a limit."""

import logging
from pathlib import Path

from torch import Tensor

from warp_train.data import Batch
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.journal import append_line, read_lines
from warp_train.training.disk import Disk

log = logging.getLogger("warp_train")


class BadSamples:
    """Counts the unreadable training samples of the current epoch and lists all unreadable files.

    All processes append to one list and count its entries, so the limit does not depend on the
    number of processes, and a resumed run continues the count.
    """

    def __init__(
        self, path: Path, disk: Disk, *, max_fraction: float, samples_per_epoch: int
    ) -> None:
        """Args:
        path: `bad_samples.jsonl`.
        disk: handles failed writes.
        samples_per_epoch: of all processes.
        """
        self._path, self._disk = path, disk
        self._allowed = max_fraction * samples_per_epoch
        self._max_fraction = max_fraction
        self._listed: dict[str, tuple[int, str]] = {}
        self._epoch = -1
        self._seen: set[tuple[str, str]] = set()
        self._read_list()

    def note(self, batch: Batch, epoch: int) -> None:
        """Lists and counts the unreadable files that samples of the training `batch` replace.

        Raises:
            WarpTrainError: more than the allowed share of an epoch could not be read.
        """
        if epoch != self._epoch:
            self._epoch, self._seen = epoch, set()
        bad = self._list(batch, epoch, training=True)
        if not bad:
            return
        self._seen |= bad
        here = {(reason, by) for reason, (of, by) in self._listed.items() if of == epoch and by}
        count = len(self._seen | here)
        if count > self._allowed:
            raise WarpTrainError(
                f"{count} samples of epoch {epoch + 1} could not be read, more than "
                f"data.max_bad_fraction {self._max_fraction:g} allows; one of them: "
                f"{max(bad)[0]}; all: {self._path}"
            )

    def list_unreadable(self, batch: Batch, epoch: int) -> None:
        """Lists the unreadable files of a validation batch; they are not counted."""
        self._list(batch, epoch, training=False)

    def _list(self, batch: Batch, epoch: int, *, training: bool) -> set[tuple[str, str]]:
        """Adds new entries to the list; returns (reason, replacing sample) of the whole batch."""
        pairs = zip(batch["replaced"], batch["image_id"], strict=True)
        bad = {(str(reason), str(by)) for reason, by in pairs if reason}
        with self._disk.writing(self._path):
            if any(reason not in self._listed for reason, _ in bad):
                self._read_list()  # another process may have listed it
            for reason, stand_in in sorted(bad):
                if reason not in self._listed:
                    log.warning("skipped %s", reason)
                    by = stand_in if training else None
                    append_line(self._path, {"epoch": epoch, "reason": reason, "replaced_by": by})
                    self._listed[reason] = (epoch, by or "")
        return bad

    def _read_list(self) -> None:
        for row in read_lines(self._path):
            epoch, reason, by = (row.get(key) for key in ("epoch", "reason", "replaced_by"))
            if isinstance(epoch, int) and isinstance(reason, str):
                self._listed[reason] = (epoch, str(by or ""))


def without_stand_ins(batch: Batch) -> Batch:
    """The batch without the samples that replace unreadable ones, since those would count twice."""
    kept = [place for place, reason in enumerate(batch["replaced"]) if not reason]
    if len(kept) == len(batch["replaced"]):
        return batch
    return {
        key: value[kept] if isinstance(value, Tensor) else [value[place] for place in kept]
        for key, value in batch.items()
    }
