"""Photos in shards that lie elsewhere: each is read by its range of bytes, and a copy is kept.

Training takes photos in random order, so a range is one photo: larger blocks would mostly hold
photos that are not used before they are removed again.
"""

import os
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import Field

from warp_train.data.shards.photo_cache import PhotoCache
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.section import Section
from warp_train.runtime.urls import Remote, open_url, reason

ELSEWHERE_FILE = "elsewhere.json"
_PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""After failed attempts to read: about as long as a server takes to restart."""


class Elsewhere(Section):
    """The contents of `elsewhere.json`, beside the indexes of shards that lie at a URL."""

    url: str
    photos: Path
    """Folder of the copies, of all data sets."""
    most_bytes: int = Field(ge=0)
    """The limit of that folder."""


@dataclass(frozen=True)
class RemoteShards:
    """Shards that lie elsewhere, read by this process."""

    url: str
    copies: PhotoCache
    label: str
    """Differs between data sets that share the copies."""

    def read(self, shard: str, name: str, start: int, length: int) -> bytes:
        """A photo, from its copy or from its shard.

        Args:
            start, length: the photo's bytes in the shard.

        Raises:
            WarpTrainError: the shard cannot be read, also after some time, or has been changed.
        """
        place = f"{self.label}/{shard}/{name}"
        content = self.copies.get(place, length)
        if content is None:
            content = _fetched(self.url, shard, start, length)
            self.copies.put(place, content)
        return content


@cache
def shards_elsewhere(folder: Path) -> RemoteShards | None:
    """Where the shards of a folder with indexes lie, if that is elsewhere."""
    file = folder / ELSEWHERE_FILE
    if not file.is_file():
        return None
    about = Elsewhere.model_validate_json(file.read_bytes())
    return RemoteShards(about.url, PhotoCache(about.photos, about.most_bytes), folder.name)


@cache
def _opened(url: str, process: int) -> Remote:
    """A place, opened by each process for itself: connections do not survive a fork."""
    return open_url(url)


def _fetched(url: str, shard: str, start: int, length: int) -> bytes:
    for pause in (*_PAUSES_S, None):
        try:
            place = _opened(url, os.getpid()) / shard
            content: bytes = place.files.cat_file(place.path, start=start, end=start + length)
        except Exception as error:  # a file system may raise anything
            if pause is None or isinstance(error, FileNotFoundError | PermissionError):
                raise WarpTrainError(
                    f"data.root: {url}/{shard}: cannot be read ({reason(error)}); resume the run "
                    "when it can"
                ) from error
            time.sleep(pause)
        else:
            break
    if len(content) != length:
        raise WarpTrainError(f"data.root: {url}/{shard}: has been changed, or is truncated")
    return content
