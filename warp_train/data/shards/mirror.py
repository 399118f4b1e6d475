"""Indexes of shards that lie elsewhere, in a folder here: from there on they are like shards here.

<data.cache_dir>/
    indexes/<digest of the URL and of cache.json>/
        cache.json  train-000000.jsonl …    as they lie elsewhere
        train-000000.tar …                  empty: their photos are read by `elsewhere`
        elsewhere.json
    photos/<the same digest>/<shard>/       copies of photos
"""

import atexit
import hashlib
import logging
import os
import shutil
import tempfile
from functools import partial
from pathlib import Path

from warp_train.data.config import DataConfig
from warp_train.data.shards.elsewhere import ELSEWHERE_FILE, Elsewhere
from warp_train.data.shards.layout import CACHE_FILE, Cache, parse_cache
from warp_train.data.shards.members import INDEX_SUFFIX, SHARD_SUFFIX
from warp_train.runtime.atomic_files import INCOMING, write_atomically
from warp_train.runtime.console import rank
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.urls import Remote, open_url, reason

log = logging.getLogger("warp_train")


def local_root(config: DataConfig) -> Path:
    """The folder that `data.root` names; for a URL, a folder here with the indexes of its shards.

    Raises:
        WarpTrainError: there are no prepared shards at the URL, or they cannot be read.
    """
    root = config.files_root
    if isinstance(root, Path):
        return root
    try:
        return _mirror(open_url(root), config)
    except WarpTrainError as error:
        raise WarpTrainError(f"data.root: {error}") from error


def default_cache_dir() -> Path:
    """The user's folder for copies: below `XDG_CACHE_HOME`, or `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "warp_train"


def _mirror(root: Remote, config: DataConfig) -> Path:
    content = _read(root / CACHE_FILE)
    cache = parse_cache(content, f"{root.url}/{CACHE_FILE}")
    digest = hashlib.sha256(root.url.encode() + b"\n" + content).hexdigest()[:16]
    wanted = config.cache_dir or default_cache_dir()
    try:
        return _in_folder(wanted, int(config.cache_gb * 1e9), root, cache, content, digest)
    except OSError as error:
        if rank() == 0:
            log.warning(
                "data.cache_dir: %s cannot be written to (%s): no photo is kept, and each is "
                "fetched again whenever it is used",
                wanted,
                error.strerror,
            )
    temporary = Path(tempfile.mkdtemp(prefix="warp_train-"))
    atexit.register(partial(shutil.rmtree, temporary, ignore_errors=True))
    return _in_folder(temporary, 0, root, cache, content, digest)


def _in_folder(
    cache_dir: Path, most_bytes: int, root: Remote, cache: Cache, content: bytes, digest: str
) -> Path:
    """Fills the folder of indexes if it is not there. Raises OSError if that cannot be written."""
    folder = cache_dir.absolute() / "indexes" / digest
    about = Elsewhere(
        url=root.url.rstrip("/"), photos=cache_dir.absolute() / "photos", most_bytes=most_bytes
    )
    text = about.model_dump_json() + "\n"
    if folder.is_dir():
        if (folder / ELSEWHERE_FILE).read_text("utf-8") != text:  # another limit than before
            write_atomically(folder / ELSEWHERE_FILE, text, process=os.getpid())
        return folder
    incoming = folder.with_name(f"{INCOMING}{digest}-{os.getpid()}")
    incoming.mkdir(parents=True, exist_ok=True)
    try:
        for name, index in _indexes(root, cache).items():
            (incoming / f"{name}{INDEX_SUFFIX}").write_bytes(index)
            (incoming / f"{name}{SHARD_SUFFIX}").touch()
        (incoming / CACHE_FILE).write_bytes(content)
        (incoming / ELSEWHERE_FILE).write_text(text, "utf-8")
        incoming.rename(folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process was faster
            raise
    finally:
        shutil.rmtree(incoming, ignore_errors=True)
    return folder


def _indexes(root: Remote, cache: Cache) -> dict[str, bytes]:
    """The indexes of all shards, by name, once their sizes are found to be those written.

    Raises:
        WarpTrainError: a shard is missing or of another size, or cannot be read.
    """
    shards = cache.shards or {}
    files, paths = root.files, {name: f"{root.path}/{name}" for name in shards}
    try:
        sizes = files.sizes([path + SHARD_SUFFIX for path in paths.values()])
        read = files.cat([path + INDEX_SUFFIX for path in paths.values()]) if paths else {}
    except Exception as error:  # a file system may raise anything
        raise WarpTrainError(f"{root.url}: cannot be read ({reason(error)})") from error
    for (name, size), found in zip(shards.items(), sizes, strict=True):
        if found not in (size, None):  # None: the server does not tell
            raise WarpTrainError(
                f"{root.url}/{name}{SHARD_SUFFIX}: has {found} bytes, but {size} were written"
            )
    return {name: read[files._strip_protocol(path + INDEX_SUFFIX)] for name, path in paths.items()}


def _read(file: Remote) -> bytes:
    try:
        content: bytes = file.files.cat_file(file.path)
    except FileNotFoundError as error:
        raise WarpTrainError(
            f"{file.url}: there is no such file; only shards that warp-train prepare has written "
            "can be read from a URL"
        ) from error
    except Exception as error:  # a file system may raise anything
        raise WarpTrainError(f"{file.url}: cannot be read ({reason(error)})") from error
    return content
