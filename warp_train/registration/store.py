"""The registered pairs of a folder of runs: no pair is registered twice.

A pair is recognised by the contents of its two files, wherever they lie. So that a large folder is
not read again at each start, files with the path, size and time of change of an earlier start count
as unchanged.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable, Generator, Sequence
from functools import partial
from pathlib import Path

from warp_train.data.decoding import file_bytes
from warp_train.data.shards.members import container_of
from warp_train.registration.pairs import PairJob, Record, load_recovery, spread
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.journal import append_line, read_lines

_OWN = ("content", "files")


class Store:
    """The journals of a folder, one for each process that has registered pairs there."""

    def __init__(self, folder: Path) -> None:
        self._journal = folder / f"{socket.gethostname()}-{os.getpid()}.jsonl"
        self._by_files: dict[str, Record] = {}
        self._by_content: dict[str, Record] = {}
        for path in sorted(folder.glob("*.jsonl")):
            for line in read_lines(path):
                self._note(line)

    def find(self, job: PairJob) -> Record | None:
        """The record of a pair whose files are unchanged since an earlier start."""
        found = self._by_files.get(_identity(job) or "")
        return None if found is None else {**found, "image_id": job.image_id}

    def register(
        self, jobs: Sequence[PairJob], workers: int
    ) -> Generator[tuple[PairJob, Record], None, None]:
        """The record of each pair as it finishes; failed ones are not kept.

        Raises:
            WarpTrainError: a line cannot be written.
        """
        load = partial(_load, frozenset(self._by_content))
        for job, record in spread(jobs, load, workers):
            if "content" in record and "error" not in record:
                record = {**self._by_content.get(record["content"], {}), **record}
                self._append({**record, "files": _identity(job) or ""})
            yield job, {name: value for name, value in record.items() if name not in _OWN}

    def _append(self, record: Record) -> None:
        try:
            self._journal.parent.mkdir(parents=True, exist_ok=True)
            append_line(self._journal, record)
        except OSError as error:
            raise WarpTrainError(f"{self._journal}: {error.strerror}") from error
        self._note(record)

    def _note(self, line: Record) -> None:
        if isinstance(line.get("params"), list) and {*_OWN} <= line.keys():
            record = {name: value for name, value in line.items() if name != "files"}
            self._by_content[str(line["content"])] = record
            self._by_files[str(line["files"])] = {
                name: value for name, value in record.items() if name != "content"
            }


def _identity(job: PairJob) -> str | None:
    """Path, size and time of change of both files; None if one is missing."""
    parts = []
    for path in (job.bent, job.straight):
        try:
            found = container_of(path).stat()
        except OSError:
            return None
        parts.append(f"{path.absolute()} {found.st_size} {found.st_mtime_ns}")
    return " ".join(parts)


def _content(job: PairJob) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for path in (job.bent, job.straight):
        data = file_bytes(path)
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def _load(known: frozenset[str]) -> Callable[[PairJob], Record]:
    """Prepares a worker process and returns the function that it runs."""
    recover = load_recovery()

    def work(job: PairJob) -> Record:
        try:
            content = _content(job)
        except (OSError, ValueError, KeyError):
            return recover(job)  # which names the file and the reason
        if content in known:
            return {"image_id": job.image_id, "content": content}
        return {**recover(job), "content": content}

    return work
