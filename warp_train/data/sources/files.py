"""Code shared by `photos` and `pairs`: finding files, splitting them, replacing unreadable ones."""

import hashlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from torch.utils.data import Dataset

from warp_train.data.decoding import IMAGE_SUFFIXES, BadSample
from warp_train.data.samples import Sample, SampleKey
from warp_train.data.splits import held_out
from warp_train.photos.folders import is_skipped_folder
from warp_train.photos.formats import remedy, unread_line
from warp_train.runtime.console import rank, say
from warp_train.runtime.errors import WarpTrainError

_MOST_TRIES = 64


@dataclass(frozen=True)
class Item:
    """A straight photo."""

    image_id: str
    group: str
    target: Path
    orig_size: tuple[int, int] | None = field(default=None, kw_only=True)
    """(height, width) of the original photo if `target` is a smaller copy of it."""


AnyItem = TypeVar("AnyItem", bound=Item)


class FileSource(Dataset[Sample], ABC, Generic[AnyItem]):
    """A source over files. An unreadable file is replaced by the next readable one."""

    items: Sequence[AnyItem]

    def __len__(self) -> int:
        return len(self.items)

    def listing_digest(self) -> str:
        """A digest of the files' names and order: equal on machines with the same files."""
        digest = hashlib.sha256()
        for item in self.items:
            names = f"{item.image_id}\n{item.target.name}\n"
            digest.update(names.encode("utf-8", "surrogateescape"))  # names may not be UTF-8
        return digest.hexdigest()[:12]

    @abstractmethod
    def load(self, key: SampleKey) -> Sample:
        """The sample of a key. Raises BadSample if its file cannot be used."""

    def __getitem__(self, key: SampleKey) -> Sample:
        first: BadSample | None = None
        for offset in range(min(len(self), _MOST_TRIES)):
            try:
                sample = self.load(SampleKey(key.epoch, (key.index + offset) % len(self)))
            except BadSample as bad:
                first = first or bad
                continue
            return {**sample, "index": key.index, "replaced": str(first) if first else ""}
        raise WarpTrainError(f"{first} (none of the {offset} files after it could be read either)")


def list_images(root: Path, key: str) -> list[Path]:
    """All image files under a folder, without hidden ones and thumbnails, sorted by path.

    Pictures of other formats are counted in a line on standard error.

    Raises WarpTrainError, which names the recipe's `key`, if `root` is not a folder or contains no
    images.
    """
    if not root.is_dir():
        problem = "is not a folder" if root.exists() else "does not exist"
        raise WarpTrainError(f"{key}: {root} {problem}")
    files = [path for path in root.rglob("*") if not _is_passed_over(path, root)]
    found = sorted(path for path in files if path.suffix.lower() in IMAGE_SUFFIXES)
    others = Counter(path.suffix.lower() for path in files if remedy(path.name, training=True))
    unread = unread_line(others, training=True)
    if not found:
        problem = f"contains no images ({unread or ', '.join(IMAGE_SUFFIXES)})"
        raise WarpTrainError(f"{key}: {root} {problem}")
    if unread and rank() == 0:
        say(f"{key}: {root}: {unread}")
    return found


def _is_passed_over(path: Path, root: Path) -> bool:
    folders = path.relative_to(root).parts[:-1]
    return path.name.startswith(".") or any(map(is_skipped_folder, folders))


def split_items(
    items: Sequence[AnyItem], fraction: float, where: str
) -> tuple[list[AnyItem], list[AnyItem]]:
    """The training and the validation items of one folder; no group is in both.

    Raises WarpTrainError, which names `where`, if there is only one group.
    """
    out = held_out([item.group for item in items], fraction, where)
    train = [item for item in items if item.group not in out]
    return train, [item for item in items if item.group in out]


def check_disjoint(train: Sequence[Item], val: Sequence[Item]) -> None:
    """Raises WarpTrainError, which names it, if a group or a file is in both.

    A group that consists of a single id is compared as a file, not by name: two cameras may both
    have written a DSC_0001.
    """
    groups = {item.group for item in train if item.group != item.image_id}
    files = {item.target.resolve() for item in train}
    for item in val:
        if item.group in groups:
            raise WarpTrainError(
                f"{item.target}: its group '{item.group}' is in both training and validation"
            )
        if item.target.resolve() in files:
            raise WarpTrainError(f"{item.target}: is in both training and validation")


def at_most(items: Sequence[AnyItem], count: int) -> list[AnyItem]:
    """At most `count` items, evenly spread over the sequence."""
    if len(items) <= count:
        return list(items)
    return [items[place * len(items) // count] for place in range(count)]
