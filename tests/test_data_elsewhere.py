"""Prepared shards at a URL: the samples of the same shards here, read by ranges, kept in bounds."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import yaml
from data_helpers import save, textured
from fsspec.implementations.local import LocalFileSystem
from runs_helpers import (
    ENVIRONMENT,
    arguments,
    as_if_killed_after,
    assert_same_weights,
    losses,
    one_line_error,
    train,
)
from s3_server import s3_server
from training_server import Server

from warp_train.cli import main
from warp_train.data.shards import elsewhere, layout
from warp_train.data.shards.photo_cache import PhotoCache

STAGE = "stage1_param_only"
ON = ("data.source=photos", "train.max_steps=4", "data.val_samples=3", "train.batch_size=2")
ON = (*ON, "checkpoint.every_steps=1", "scheduler.warmup_steps=0", "data.max_bad_fraction=0")


def prepared(folder: Path, photos: int, seed: int = 0) -> Path:
    """A folder of shards with three photos each."""
    for number in range(photos):
        path = folder / "photos" / f"house{number}" / f"p{number}.jpg"
        save(path, textured(60, 90 + number, seed + number))
    recipe = ("prepare", STAGE, "data.source=photos", f"data.root={folder / 'photos'}")
    size = layout.SHARD_ITEMS
    layout.SHARD_ITEMS = 3
    try:
        out = ("--workers", "0", "--out", str(folder / "cache"), "data.size=[32,48]")
        assert main([*recipe, *out]) == 0
    finally:
        layout.SHARD_ITEMS = size
    return folder / "cache"


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("shards"), 12)


@pytest.fixture(scope="module")
def whole(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run from the shards on this disk."""
    output = tmp_path_factory.mktemp("whole")
    assert train(STAGE, output, *ON, f"data.root={shards}") == 0
    return output / STAGE


class Watched(LocalFileSystem):
    """The local disk as `watched://`: notes what is read, and fails while `failures` last."""

    protocol = "watched"
    reads: list[tuple[str, Any, Any]] = []  # noqa: RUF012 (of all instances)
    failures = 0

    def cat_file(self, path: str, start: Any = None, end: Any = None, **more: Any) -> bytes:
        self.reads.append((Path(path).name, start, end))
        if path.endswith(".tar") and Watched.failures:
            Watched.failures -= 1
            raise ConnectionError("the server has gone away")
        return bytes(super().cat_file(path, start=start, end=end, **more))

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, str):
            path = path.removeprefix("watched://")
        return super()._strip_protocol(path)


@pytest.fixture
def watched(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The shards' URL on a disk that is watched."""
    fsspec.register_implementation("watched", Watched, clobber=True)
    Watched.reads.clear()
    monkeypatch.setattr(Watched, "failures", 0)
    monkeypatch.setattr(elsewhere, "_PAUSES_S", (0.0,) * 3)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    yield f"watched://{shards}"
    elsewhere.shards_elsewhere.cache_clear()


def tars_read() -> list[tuple[str, Any, Any]]:
    return [read for read in Watched.reads if read[0].endswith(".tar")]


def test_two_processes_read_from_s3_what_lies_on_the_disk(
    server: Server, shards: Path, tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    more = (*ON, "data.workers=1", "train.max_steps=3")
    server.start_ranks([arguments(STAGE, here, *more, f"data.root={shards}")] * 2)
    assert server.exit_statuses() == [0, 0], server.printed()
    with s3_server("bucket") as environment:
        files = fsspec.filesystem("s3")
        files.put(str(shards), "bucket/shards", recursive=True)
        url = "s3://bucket/shards/" if files.exists("bucket/shards/cache.json") else ""
        remote = (f"data.root={url}", f"data.cache_dir={tmp_path / 'copies'}")
        server.start_ranks([arguments(STAGE, there, *more, *remote)] * 2, env=environment)
        assert server.exit_statuses() == [0, 0], server.printed()
    for split in ("train", "val"):
        assert losses(there / STAGE, split) == losses(here / STAGE, split)
    assert_same_weights(there / STAGE, here / STAGE)
    recorded = yaml.safe_load((there / STAGE / "recipe.yaml").read_text())
    assert recorded["data"]["root"] == url == "s3://bucket/shards/"
    assert list((tmp_path / "copies" / "photos").rglob("*.jpg"))


def test_each_photo_is_read_once_by_its_range_and_again_without_copies(
    watched: str, whole: Path, tmp_path: Path
) -> None:
    assert train(STAGE, tmp_path / "a", *ON, f"data.root={watched}") == 0
    assert losses(tmp_path / "a" / STAGE) == losses(whole)
    reads = tars_read()
    assert reads
    assert all(end - start < 10_000 for _, start, end in reads)
    assert len(set(reads)) == len(reads) <= 12
    assert (tmp_path / "xdg" / "warp_train" / "photos").is_dir()
    assert train(STAGE, tmp_path / "b", *ON, f"data.root={watched}") == 0
    assert tars_read() == reads  # all others are read from their copies
    elsewhere.shards_elsewhere.cache_clear()
    none = ("data.cache_gb=0", f"data.cache_dir={tmp_path / 'none'}")
    assert train(STAGE, tmp_path / "c", *ON, *none, f"data.root={watched}") == 0
    assert len(tars_read()) > len(reads) + 12
    assert not list((tmp_path / "none").rglob("*.jpg"))
    for run in ("b", "c"):
        assert losses(tmp_path / run / STAGE) == losses(whole)


def test_a_resumed_run_without_its_copies_is_the_unbroken_one(
    watched: str, whole: Path, tmp_path: Path
) -> None:
    root = f"data.root={watched}"
    assert train(STAGE, tmp_path / "a", *ON, root) == 0
    as_if_killed_after(tmp_path / "a" / STAGE, 2, tmp_path / "b" / STAGE)
    shutil.rmtree(tmp_path / "xdg")
    elsewhere.shards_elsewhere.cache_clear()
    assert train(STAGE, tmp_path / "b", *ON, root, "--resume-from", "auto") == 0
    assert losses(tmp_path / "b" / STAGE) == losses(whole)
    assert_same_weights(tmp_path / "b" / STAGE, whole)


def test_a_server_that_is_away_for_a_moment_is_waited_for_and_a_dead_one_ends_the_run(
    watched: str, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ("data.cache_gb=0", f"data.root={watched}")
    Watched.failures = 3
    assert train(STAGE, tmp_path, *ON, *run, "train.max_steps=2") == 0
    Watched.failures = 10**6
    assert train(STAGE, tmp_path, *ON, *run, "--resume-from", "auto") == 1
    message = one_line_error(capsys)
    assert f"data.root: {watched}/train-00000" in message
    assert "the server has gone away" in message
    Watched.failures = 0
    assert train(STAGE, tmp_path, *ON, *run, "--resume-from", "auto") == 0
    assert [step for step, _ in losses(tmp_path / STAGE)] == [1, 2, 3, 4]
    assert not (tmp_path / STAGE / "bad_samples.jsonl").exists()


def test_another_data_set_at_the_same_url_has_copies_of_its_own(
    watched: str, whole: Path, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    shutil.copytree(watched.removeprefix("watched://"), place)
    root = f"data.root=watched://{place}"
    assert train(STAGE, tmp_path / "a", *ON, root) == 0
    assert losses(tmp_path / "a" / STAGE) == losses(whole)
    other = prepared(tmp_path / "other", 12, seed=50)
    shutil.rmtree(place)
    shutil.copytree(other, place)
    assert train(STAGE, tmp_path / "b", *ON, root) == 0
    assert train(STAGE, tmp_path / "c", *ON, f"data.root={other}") == 0
    assert losses(tmp_path / "b" / STAGE) == losses(tmp_path / "c" / STAGE) != losses(whole)


def test_what_is_not_there_or_not_whole_is_one_line(
    watched: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    root = f"data.root=watched://{place}"

    def refused() -> str:
        assert train(STAGE, tmp_path / "runs", *ON, root) == 1
        return one_line_error(capsys)

    missing = f"data.root: watched://{place}/cache.json: there is no such file; only shards that"
    assert missing in refused()
    shutil.copytree(watched.removeprefix("watched://"), place, dirs_exist_ok=True)
    tar = place / "train-000001.tar"
    tar.write_bytes(tar.read_bytes()[:-1])
    assert f"{tar}: has " in refused()
    tar.unlink()
    assert f"data.root: watched://{place}: cannot be read (" in refused()
    assert not (tmp_path / "runs").exists()
    assert main(["prepare", STAGE, "data.source=photos", root, "--out", str(tmp_path / "x")]) == 1
    assert "prepare reads photos from a disk only" in one_line_error(capsys)


def test_a_folder_that_cannot_be_written_to_is_a_warning(
    watched: str, whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way, as a right that is missing would be")
    more = (f"data.root={watched}", f"data.cache_dir={tmp_path / 'file' / 'copies'}")
    assert train(STAGE, tmp_path, *ON, *more) == 0
    assert losses(tmp_path / STAGE) == losses(whole)
    warnings = [line.getMessage() for line in caplog.records if "cache_dir" in line.getMessage()]
    assert len(warnings) == 1


def test_the_copies_stay_below_their_limit_and_the_used_ones_stay(tmp_path: Path) -> None:
    limit, length = 256_000, 1000
    one, other = (PhotoCache(tmp_path, limit) for _ in range(2))
    for number in range(600):
        (one if number % 2 else other).put(f"set/shard/{number}", bytes([number % 256]) * length)
        assert one.get("set/shard/0", length) is not None  # used all the time
        total = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
        assert total <= limit * (1 + 2 / 256) + length
    assert one.get("set/shard/599", length) == bytes([599 % 256]) * length
    assert one.get("set/shard/1", length) is None
    assert total > limit * 0.8


WRITER = """
import sys
from pathlib import Path
from warp_train.data.shards.photo_cache import PhotoCache
copies, number = PhotoCache(Path(sys.argv[1]), 10**9), 0
while True:
    copies.put(f"set/shard/{number % 7}", bytes([number % 251]) * 3_000_000)
    number += 1
    print(number, flush=True)
"""


def test_a_killed_writer_leaves_no_part_of_a_photo(tmp_path: Path) -> None:
    for lines in (1, 9, 20):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, env=ENVIRONMENT, text=True)
        assert writer.stdout is not None
        for _ in range(lines):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        copies = PhotoCache(tmp_path, 10**9)
        found = [copies.get(f"set/shard/{number}", 3_000_000) for number in range(7)]
        whole = [content for content in found if content is not None]
        assert len(whole) >= min(lines, 7)
        assert all(content == content[:1] * len(content) for content in whole)
