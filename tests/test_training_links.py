"""Links to checkpoints on disks without symbolic links, and in copies with folders in place."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EPERM
from pathlib import Path

import pytest
import torch
from runs_helpers import as_if_killed_after, losses, train
from training_toy import ToyRun

from warp_train.models import from_pretrained
from warp_train.runtime.links import followed, has_links
from warp_train.training.checkpoints.folder import (
    CheckpointError,
    clean_interrupted_writes,
    find_checkpoint,
    newest_checkpoint,
    point_links,
    prune_checkpoints,
)
from warp_train.training.checkpoints.links import LINKS

STAGE, SECOND = "stage1_param_only", "stage2_hybrid"
MORE = ("train.max_steps=2", "checkpoint.every_steps=1", "data.val_samples=2")
MORE = (*MORE, "data.train_samples=8")
CHAIN = """
stages: [{{extends: {recipes}/stage1_param_only.yaml}}, {{extends: {recipes}/stage2_hybrid.yaml}}]
"""


@contextmanager
def without_links() -> Iterator[None]:
    """A disk without symbolic links, such as a memory card's."""

    def refuse(*args: object, **more: object) -> None:
        raise OSError(EPERM, os.strerror(EPERM))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "symlink", refuse)
        patch.setattr(Path, "symlink_to", refuse)  # Python 3.10 has kept its own os.symlink
        yield


def same_network(one: Path, other: Path) -> bool:
    first, second = (from_pretrained(place).state_dict() for place in (one, other))
    return all(torch.equal(first[name], second[name]) for name in first)


def steps(run: Path) -> list[int]:
    return sorted(int(path.name[5:]) for path in (run / "checkpoints").iterdir())


def copied(run: Path, to: Path) -> Path:
    """A copy that follows links, as `cp -rL`, zip and a sync to a bucket do."""
    to.mkdir()
    subprocess.run(["cp", "-rL", str(run), str(to)], check=True)
    return to / run.name


def test_without_links_text_files_do_their_work(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipes = Path(__file__).parent.parent / "recipes"
    (tmp_path / "night.yaml").write_text(CHAIN.format(recipes=recipes))
    with without_links():
        assert train(str(tmp_path / "night.yaml"), tmp_path, *MORE, "train.max_steps=1") == 0
    said = [record.getMessage() for record in caplog.records]
    assert [text for text in said if "has no symbolic links" in text] == said[:1]
    assert not [path for path in tmp_path.rglob("*") if path.is_symlink()]
    run, second = (tmp_path / f"night-{stage}" for stage in (STAGE, SECOND))
    assert (run / "last").read_text() == "checkpoints/step-000000001\n"
    best = find_checkpoint(second, "best")
    assert best.parent == (second / "checkpoints").resolve()
    for model in (second, second / "best", tmp_path / "night", tmp_path / "night" / "best"):
        assert same_network(model, best)
        assert find_checkpoint(model, "best") == best
    [pin] = (run / "pinned").iterdir()
    assert followed(pin).resolve() == find_checkpoint(run, "best")
    assert [path for path in tmp_path.rglob("*") if path.name.startswith(".")] == []


def test_a_copy_with_folders_in_place_of_links_goes_on_without_links(
    tmp_path: Path,
) -> None:
    whole, killed = tmp_path / STAGE, tmp_path / "killed" / STAGE
    assert train(STAGE, tmp_path, *MORE) == 0
    as_if_killed_after(whole, 1, killed)
    (killed / "interrupted").symlink_to("checkpoints/step-000000001")
    copy = copied(killed, tmp_path / "copy")
    for link in LINKS:
        assert not (copy / link).is_symlink()
        assert find_checkpoint(copy / link, "best") == copy / "checkpoints" / "step-000000001"
        assert same_network(copy / link, killed / link)
    with without_links():
        assert train(STAGE, copy.parent, *MORE, "--resume-from", "auto") == 0
    assert (copy / "last").read_text() == "checkpoints/step-000000002\n"
    assert find_checkpoint(copy / "last", prefer="last") == copy / "checkpoints" / "step-000000002"
    assert same_network(copy / "last", whole / "last")
    assert losses(copy) == losses(whole)
    assert not (copy / "interrupted").exists()
    assert [path for path in copy.rglob("*") if path.name.startswith(".")] == []


def test_folders_in_place_of_links_become_links_again(tmp_path: Path) -> None:
    run = ToyRun()
    run.save(tmp_path / "run", 1, links=("best", "last", "interrupted"))
    copy = copied(tmp_path / "run", tmp_path / "copy")
    run.save(copy, 2, links=("last",))
    assert (copy / "last").readlink() == Path("checkpoints/step-000000002")
    assert not (copy / "interrupted").exists()
    assert (copy / "best").is_dir()


def test_what_a_copied_link_is_a_copy_of_is_kept(tmp_path: Path) -> None:
    run = ToyRun()
    for step in (1, 2, 3):
        run.save(tmp_path / "run", step, links=("best", "last") if step == 1 else ("last",))
    copy = copied(tmp_path / "run", tmp_path / "copy")
    prune_checkpoints(copy, 1)
    assert steps(copy) == [1, 3]
    assert newest_checkpoint(copy) == copy / "checkpoints" / "step-000000003"
    assert find_checkpoint(copy / "best", prefer="last") == copy / "checkpoints" / "step-000000001"


def test_a_folder_that_is_no_checkpoint_is_not_replaced(tmp_path: Path) -> None:
    saved = ToyRun().save(tmp_path, 1, links=())
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="cannot point a link"):
        point_links(tmp_path, saved, ["best"])
    assert (tmp_path / "best" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("linked", [True, False])
def test_a_replacement_that_was_killed_half_way_is_undone_or_finished(
    linked: bool, tmp_path: Path
) -> None:
    saved = ToyRun().save(tmp_path / "run", 1, links=("best",))
    copy = copied(tmp_path / "run", tmp_path / "copy")
    (copy / "best").rename(copy / ".replaced-best")
    if linked:
        (copy / "best").symlink_to("checkpoints/step-000000001")
    clean_interrupted_writes(copy)
    assert not (copy / ".replaced-best").exists()
    assert (copy / "best").is_symlink() == linked
    assert find_checkpoint(copy, "best") == copy / "checkpoints" / saved.name


def test_only_a_small_text_is_followed(tmp_path: Path) -> None:
    for name, content in {
        "pixels": b"\xff\xd8\xff\xe0",
        "long": b"x" * 5000,
        "two": b"checkpoints/step-000000001\ncheckpoints/step-000000002\n",
        "empty": b"",
        "zero": b"check\0points",
    }.items():
        (tmp_path / name).write_bytes(content)
        assert followed(tmp_path / name) == tmp_path / name
    (tmp_path / "link").write_text("checkpoints/step-000000001")
    assert followed(tmp_path / "link") == tmp_path / "checkpoints/step-000000001"
    assert followed(tmp_path / "nowhere") == tmp_path / "nowhere"
    assert followed(tmp_path) == tmp_path


def test_a_disk_that_refuses_everything_is_not_one_without_links(tmp_path: Path) -> None:
    assert has_links(tmp_path)
    assert has_links(tmp_path / "nowhere"), "whatever is written there reports it"
    assert list(tmp_path.iterdir()) == []
