"""Which photos are meant, where their results go, and how files come to be there."""

import errno
import os
import resource
import sys
from pathlib import Path
from typing import Any

import pytest

from warp_train.inference.rectify_inputs import Plan, plan_jobs
from warp_train.photos.folders import skipped_line
from warp_train.photos.formats import unread_line
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


def test_readable_photos_are_found_whatever_they_are_called(root: Path) -> None:
    names = ["a.JPE", "b.jfif", "c.mpo", "d.Dib", "e.HEIC", "f.heif", "g.hif", "h.avif"]
    touch(*(root / "all" / name for name in names), root / "all/i.txt", root / "all/._a.JPE")
    plan = plan_jobs(["all"], Path("o"), "")
    assert {job.input.name: job.output and job.output.name for job in plan.jobs} == {
        "a.JPE": "a.JPE",
        "b.jfif": "b.jfif",
        "c.mpo": "c.mpo",
        "d.Dib": "d.Dib",
        "e.HEIC": "e.jpg",
        "f.heif": "f.jpg",
        "g.hif": "g.jpg",
        "h.avif": "h.jpg",
    }
    assert (plan.refusals, plan.unread) == ([], {})
    tiff = plan_jobs(["all/e.HEIC"], Path("o"), "", "tiff")
    assert tiff.jobs[0].output == Path("o/e.tif")
    named = plan_jobs(["all/i.txt"], Path("o"), "")
    assert [job.input.name for job in named.jobs] == ["i.txt"], "read by its content"


def test_pictures_that_are_not_read_are_counted(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(*(root / f"in/sub/{name}" for name in ("x.CR2", "y.cr2", "z.nef", "k.jxl", "h.heic")))
    plan = plan_jobs(["in", "in/sub", "in/**/*.cr2", "in/sub/*"], Path("o"), "")
    assert plan.unread == {".cr2": 2, ".nef": 1, ".jxl": 1}
    assert unread_line(plan.unread) == (
        "2 .cr2, 1 .nef files were not read: develop to TIFF or JPEG first; "
        "1 .jxl file was not read: convert to JPEG, PNG or TIFF first"
    )
    assert [refusal.reason for refusal in plan.refusals] == [
        "in/**/*.cr2: no photos that can be read: 1 .cr2 file was not read: "
        "develop to TIFF or JPEG first"
    ]
    named = plan_jobs(["in/sub/z.nef"], Path("o"), "")
    assert [job.input.name for job in named.jobs] == ["z.nef"], "read by its content"
    assert named.unread == plan_jobs(["in/sub/z.nef", "in/sub/*.n*"], Path("o"), "").unread == {}
    touch(*(root / f"phone/{n}.HEIC" for n in range(12)), root / "phone/a.avif")
    assert len(plan_jobs(["phone"], Path("o"), "").jobs) == 13
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    [refusal] = plan_jobs(["phone"], Path("o"), "").refusals
    assert refusal.reason == (
        "phone: no photos that can be read: 1 .avif, 12 .heic files were not read: "
        "pip install 'warp_train[heic]'"
    )


def test_folders_of_thumbnails_are_not_searched(root: Path) -> None:
    skipped = ["@eaDir", ".thumbnails", "__MACOSX", "#recycle", "$RECYCLE.BIN", ".Trash-1000"]
    skipped += ["_gsdata_", ".AppleDouble", "My Previews.lrdata"]
    touch(*(root / "in" / name / "deep/a.jpg" for name in skipped), root / "in/@eaDir/b.cr2")
    before = plan_jobs(["in/a.jpg", "in/sub"], Path("o"), "").jobs
    for inputs in (["in"], ["in/*"], ["in/**/*.[jJtT]*"], ["in", "in/**"]):
        plan = plan_jobs(inputs, Path("o"), "")
        assert {job.input for job in plan.jobs} == {job.input for job in before}
        assert plan.unread == {}
    assert plan_jobs(["in"], Path("o"), "").skipped == dict.fromkeys(skipped, 1)
    line = skipped_line({"@eaDir": 2, "__MACOSX": 1})
    assert line == (
        "folders that were not searched: 2 @eaDir (thumbnails), 1 __MACOSX (metadata of macOS)"
    )
    given = plan_jobs(["in/@eaDir", "in/.thumbnails/*/*.jpg"], Path("o"), "")
    assert len(given.jobs) == 2, "folders that are named are searched"
    assert given.skipped == {}


def test_patterns_below_folders_with_brackets(root: Path) -> None:
    touch(root / "shoot [raw]/a.jpg", root / "shoot [raw]/day [1]/b.jpg", root / "shoot r/c.jpg")

    def found(pattern: str) -> list[str]:
        return sorted(job.input.name for job in plan_jobs([pattern], Path("o"), "").jobs)

    assert found("shoot [raw]/*.jpg") == ["a.jpg"]
    assert found(str(root / "shoot [raw]/**/*.jpg")) == ["a.jpg", "b.jpg"]
    assert found("shoot [raw]/day [1]/*.jpg") == ["b.jpg"]
    assert found("./shoot [r]/*.jpg") == ["c.jpg"], "a pattern where no such folder exists"
    assert found("sh*/day [1]/*.jpg") == ["b.jpg"], "a name where no such pattern matches"
    assert found("shoot [raw]/*/") == ["b.jpg"]


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
