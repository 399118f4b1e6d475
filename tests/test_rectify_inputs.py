"""Which photos are meant, where their results go, and how files come to be there."""

import errno
import os
import resource
from pathlib import Path
from typing import Any

import pytest

from warp_train.inference.rectify_inputs import Plan, plan_jobs
from warp_train.runtime import atomic_files
from warp_train.runtime.atomic_files import check_free, make_folders, write_atomically
from warp_train.runtime.journal import append_line, begin_journal


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def pairs(plan: Plan, root: Path) -> dict[str, str]:
    return {
        str(job.input.relative_to(root)): str(job.output.relative_to(root))
        for job in plan.jobs
        if job.output is not None
    }


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    touch(tmp_path / "in/a.jpg", tmp_path / "in/sub/deep/B.JPG", tmp_path / "in/sub/c.tiff")
    touch(tmp_path / "in/.hidden.jpg", tmp_path / "in/.git/d.jpg", tmp_path / "in/notes.txt")
    return tmp_path


def test_a_folder_is_searched_in_depth_and_its_tree_kept(root: Path) -> None:
    (root / "in/loop").symlink_to(root / "in")
    plan = plan_jobs([str(root / "in")], root / "out", "_r")
    assert pairs(plan, root) == {
        "in/a.jpg": "out/a_r.jpg",
        "in/sub/c.tiff": "out/sub/c_r.tiff",
        "in/sub/deep/B.JPG": "out/sub/deep/B_r.JPG",
    }
    assert plan.refusals == []
    webp = plan_jobs([str(root / "in/sub")], root / "out", "", "webp")
    assert pairs(webp, root)["in/sub/c.tiff"] == "out/c.webp"


def test_patterns_and_names_that_look_like_them(root: Path) -> None:
    touch(root / "in/odd[1].jpg", root / "in/new\nline é.jpg")
    plan = plan_jobs([str(root / "in/**/*.t*f*"), str(root / "in/odd[1].jpg")], root / "o", "")
    assert [job.input.name for job in plan.jobs] == ["c.tiff", "odd[1].jpg"]
    assert len(plan_jobs(["in/*.jpg"], Path("o"), "").jobs) == 3
    every = plan_jobs(["in/**", "in/sub/*", "in"], Path("o"), "_r").jobs
    assert len({job.output for job in every}) == len({job.input for job in every}) == 5
    assert Path("o/sub/deep/B_r.JPG") in {job.output for job in every}
    none = plan_jobs(["in/*.png", "in/gone.jpg", "empty"], Path("o"), "")
    assert [refusal.reason for refusal in none.refusals] == [
        "in/*.png: no such file",
        "in/gone.jpg: no such file",
        "empty: no such file",
    ]
    (root / "x.jpg").mkdir()
    assert plan_jobs(["x.jpg"], Path("o"), "").refusals[0].reason == "x.jpg: contains no photos"


def test_two_photos_never_become_one_file(root: Path) -> None:
    touch(root / "other/a.jpg", root / "other/a.png")
    plan = plan_jobs(["in/a.jpg", "other/a.jpg", "in/a.jpg", "./in/../in/a.jpg"], Path("o"), "_r")
    assert [str(job.input) for job in plan.jobs] == ["in/a.jpg"]
    assert [refusal.reason for refusal in plan.refusals] == [
        "other/a.jpg: its result o/a_r.jpg would overwrite that of in/a.jpg"
    ]
    plan = plan_jobs(["other"], Path("o"), "_r", "tiff")
    assert [refusal.reason for refusal in plan.refusals] == [
        "other/a.png: its result o/a_r.tif would overwrite that of other/a.jpg"
    ]
    measured = plan_jobs(["in/a.jpg", "other/a.jpg", "in"], Path("o"), "", measure_only=True)
    assert [str(job.input) for job in measured.jobs] == [
        "in/a.jpg",
        "other/a.jpg",
        "in/sub/c.tiff",
        "in/sub/deep/B.JPG",
    ]
    assert measured.refusals == []


def test_no_photo_becomes_anothers_input(root: Path) -> None:
    touch(root / "in/a_r.jpg")
    plan = plan_jobs(["in/a.jpg", "in/a_r.jpg"], root / "in", "_r")
    assert [str(job.output) for job in plan.jobs] == [str(root / "in/a_r.jpg")]
    assert plan.earlier == 1
    touch(root / "in/a.webp")
    plan = plan_jobs(["in/a.jpg", "in/a.webp"], Path("in"), "", "webp")
    assert plan.refusals[0].reason.endswith("would overwrite in/a.webp, which is another input")
    assert [str(job.input) for job in plan.jobs] == ["in/a.webp"]


def test_results_in_the_photos_own_folder_are_not_corrected_again(root: Path) -> None:
    first = plan_jobs(["in"], Path("in"), "_r")
    touch(*(job.output for job in first.jobs if job.output))
    again = plan_jobs(["in"], Path("in"), "_r")
    assert again.jobs == first.jobs
    assert again.earlier == 3
    touch(root / "in/out/x_r.jpg")
    inside = plan_jobs(["in"], Path("in/out"), "_r")
    assert all("out" not in job.input.parts for job in inside.jobs)


def test_a_file_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ("n" * 240 + ".jpg")
    write_atomically(path, b"one", overwrite=False)
    with pytest.raises(FileExistsError):
        write_atomically(path, b"two", overwrite=False)
    assert path.read_bytes() == b"one"
    write_atomically(path, b"two", overwrite=True)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(atomic_files.os, "fsync", full)
        for overwrite in (False, True):
            with pytest.raises(OSError, match="No space left"):
                write_atomically(path, b"three", overwrite=overwrite)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            write_atomically(tmp_path / "b.jpg", b"x" * 5000, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    with pytest.raises(OSError, match="too long"):
        write_atomically(tmp_path / ("n" * 256), b"four", overwrite=False)
    with pytest.raises(OSError, match="too long"):
        check_free(tmp_path / ("n" * 256))
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def test_without_links_a_free_place_is_still_respected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(source: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(atomic_files.os, "link", no_links)
    write_atomically(tmp_path / "a", b"one", overwrite=False)
    with pytest.raises(FileExistsError):
        write_atomically(tmp_path / "a", b"two", overwrite=False)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"one"]


def test_links_are_replaced_not_followed(tmp_path: Path) -> None:
    original = tmp_path / "original.jpg"
    original.write_bytes(b"only copy")
    link = tmp_path / "link.jpg"
    link.symlink_to(original)
    with pytest.raises(FileExistsError):
        check_free(link)
    write_atomically(link, b"new", overwrite=True)
    assert original.read_bytes() == b"only copy"
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(FileExistsError):
        write_atomically(tmp_path / "loop", b"new", overwrite=False)


def test_folders_are_made_below_one_that_is_there(tmp_path: Path) -> None:
    make_folders(tmp_path / "a/b", tmp_path)
    assert (tmp_path / "a/b").is_dir()
    with pytest.raises(FileNotFoundError):
        make_folders(tmp_path / "gone/b", tmp_path / "gone")


def test_a_journal_holds_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rectify.jsonl"
    path.write_bytes(b'{"input": "cut o')
    begin_journal(path)
    append_line(path, {"input": "\udcff é"})
    opened = Path.open

    class Full:
        """A disk that takes part of what it is given; like `write(2)`, it returns how much."""

        def __init__(self, file: Any) -> None:
            self._file = file

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *error: object) -> None:
            self._file.close()

        def write(self, data: bytes) -> int:
            return int(self._file.write(data[:-4]))

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda path, *how, **more: Full(opened(path, *how, **more)))
        with pytest.raises(OSError, match="No space"):
            append_line(path, {"input": "b"})
    append_line(path, {"input": "c"})
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[1:] == ['{"input": "\\udcff é"}', '{"input": "c"}']
