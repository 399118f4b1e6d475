"""Files that lie elsewhere: any URL that fsspec can open, such as `s3://`, `gs://` and `hf://`."""

import re
from dataclasses import dataclass

import fsspec
from fsspec.spec import AbstractFileSystem
from fsspec.utils import get_protocol

from warp_train.runtime.errors import WarpTrainError

_URL = re.compile(r"[A-Za-z][\w+.-]*://")


@dataclass(frozen=True)
class Remote:
    """A folder or file elsewhere, and the file system that it lies on."""

    url: str
    """As the user has written it, for messages."""
    files: AbstractFileSystem
    path: str
    """The path on `files`."""

    def __truediv__(self, name: str) -> "Remote":
        """The file or folder `name` below this one."""
        return Remote(f"{self.url.rstrip('/')}/{name}", self.files, f"{self.path}/{name}")

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> "Remote":
        """The folder that this file or folder lies in."""
        url = self.url.rstrip("/").rpartition("/")[0]
        return Remote(url, self.files, self.path.rpartition("/")[0])


def reason(error: Exception) -> str:
    """The first line of an error's message: file systems raise errors of many kinds."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def is_url(text: str) -> bool:
    """Whether a text is a URL rather than a path: it begins with `scheme://`."""
    return _URL.match(text) is not None


def open_url(url: str) -> Remote:
    """The place that a URL names; nothing is read yet.

    Raises:
        WarpTrainError: the scheme is unknown, its package is not installed, or the URL is not
            valid for it.
    """
    try:
        files, path = fsspec.core.url_to_fs(url)
    except ImportError as error:  # names the package that is missing
        raise WarpTrainError(f"{url}: {error}") from error
    except ValueError as error:
        raise WarpTrainError(f"{url}: {get_protocol(url)}:// cannot be opened ({error})") from error
    return Remote(url, files, path.rstrip("/"))
