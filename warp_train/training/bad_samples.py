"""Unreadable files: listed, replaced, and beyond a limit a reason to stop."""

import json
import logging
from pathlib import Path

from torch import Tensor

from warp_train.data import Batch
from warp_train.errors import WarpTrainError
from warp_train.training.run_folder import to_json

log = logging.getLogger("warp_train")


class BadSamples:
    """Counts this process's unreadable samples of the running epoch."""

    def __init__(self, path: Path, *, max_fraction: float, samples_per_epoch: int) -> None:
        """Args:
        path: `bad_samples.jsonl`; every process appends to it.
        samples_per_epoch: of this process.
        """
        self._path = path
        self._allowed = max_fraction * samples_per_epoch
        self._max_fraction = max_fraction
        self._known = _listed(path)
        self._epoch, self._count = -1, 0

    def note(self, batch: Batch, epoch: int) -> None:
        """Lists the files that training samples of `batch` had to stand in for, and counts them.

        Raises:
            WarpTrainError: more than the allowed share of an epoch could not be read.
        """
        if epoch != self._epoch:
            self._epoch, self._count = epoch, 0
        reasons = self.list_unreadable(batch, epoch)
        self._count += len(reasons)
        if reasons and self._count > self._allowed:
            raise WarpTrainError(
                f"{self._count} samples of epoch {epoch + 1} could not be read, more than "
                f"data.max_bad_fraction {self._max_fraction:g} allows; the last: {reasons[-1]}; "
                f"all: {self._path}"
            )

    def list_unreadable(self, batch: Batch, epoch: int) -> list[str]:
        """Lists the files that samples of `batch` had to stand in for; returns why, one each."""
        stand_ins = [
            (image_id, reason)
            for image_id, reason in zip(batch["image_id"], batch["replaced"], strict=True)
            if reason
        ]
        for image_id, reason in stand_ins:
            if reason not in self._known:
                self._known.add(reason)
                log.warning("skipped %s", reason)
                with self._path.open("a", encoding="utf-8") as file:
                    row = {"epoch": epoch, "reason": reason, "replaced_by": image_id}
                    file.write(to_json(row) + "\n")
        return [reason for _, reason in stand_ins]


def without_stand_ins(batch: Batch) -> Batch:
    """The batch less the samples that stand in for unreadable ones, which are counted elsewhere."""
    kept = [place for place, reason in enumerate(batch["replaced"]) if not reason]
    if len(kept) == len(batch["replaced"]):
        return batch
    return {
        key: value[kept] if isinstance(value, Tensor) else [value[place] for place in kept]
        for key, value in batch.items()
    }


def _listed(path: Path) -> set[str]:
    """Reasons that the file holds from before a resume."""
    if not path.exists():
        return set()
    return {json.loads(line)["reason"] for line in path.read_text(encoding="utf-8").splitlines()}
