"""Dirty data: replaced alike in every run, listed once, and beyond a limit a reason to stop."""

import json
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from data_helpers import save, textured
from runs_helpers import (
    arguments,
    as_if_killed_after,
    assert_same_weights,
    losses,
    metrics,
    one_line_error,
    train,
)
from training_server import Server

from warp_train.data.samples import SampleKey
from warp_train.data.sources.photos import Photos, find_photos
from warp_train.runtime import journal
from warp_train.runtime.errors import WarpTrainError
from warp_train.training import bad_samples
from warp_train.training.bad_samples import BadSamples
from warp_train.training.disk import Disk

STAGE = "stage1_param_only"
BAD = {
    "p03.jpg": "not a picture of a known format",
    "p07.jpg": "truncated",
    "p11.jpg": "regular",
    "p12.jpg": "regular",
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """28 photos, four of which cannot be read, each in its own way, and two in a row."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(28):
        save(folder / f"p{number:02}.jpg", textured(40, 60, number))
    (folder / "p03.jpg").write_text("not a picture")
    whole = (folder / "p07.jpg").read_bytes()
    (folder / "p07.jpg").write_bytes(whole[: len(whole) // 2])
    for name in ("p11.jpg", "p12.jpg"):
        (folder / name).unlink()
    (folder / "p11.jpg").mkdir()
    os.mkfifo(folder / "p12.jpg")
    save(folder.with_name(f"{folder.name}-val") / "v0.jpg", textured(40, 60, 99))
    (folder.with_name(f"{folder.name}-val") / "v1.jpg").write_text("not a picture either")
    return folder


def on(photos: Path, fraction: float = 0.5) -> tuple[str, ...]:
    return (
        "data.source=photos",
        f"data.root={photos}",
        f"data.val_root={photos.with_name(f'{photos.name}-val')}",
        f"data.max_bad_fraction={fraction}",
        "train.epochs=3",
        "checkpoint.every_steps=3",
    )


def listed(run: Path) -> list[dict[str, str]]:
    """The list, without the order in which processes came upon the files."""
    rows = [json.loads(line) for line in (run / "bad_samples.jsonl").read_text().splitlines()]
    return sorted(rows, key=lambda row: str(row["reason"]))


@pytest.fixture(scope="module")
def whole(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("whole")
    assert train(STAGE, output, *on(photos)) == 0
    return output / STAGE


def test_every_bad_file_is_listed_once_with_its_reason(whole: Path, photos: Path) -> None:
    left_out, *rows = listed(whole)
    for row, (name, why) in zip(rows, BAD.items(), strict=True):
        assert row["reason"].startswith(f"{photos / name}: ")
        assert why in row["reason"].lower()
        assert row["replaced_by"] == ("p13" if name == "p11.jpg" else f"p{int(name[1:3]) + 1:02}")
    assert "v1.jpg" in left_out["reason"]
    assert left_out["replaced_by"] is None  # of a validation sample, which nothing stands in for


def test_a_resumed_run_replaces_alike_and_repeats_nothing(
    whole: Path, photos: Path, tmp_path: Path
) -> None:
    broken = tmp_path / STAGE
    as_if_killed_after(whole, 9, broken)
    with (broken / "bad_samples.jsonl").open("ab") as file:
        file.write('{"epoch": 1, "reason": "/photos/caf\u00e9'.encode()[:-1])  # half a character
    assert train(STAGE, tmp_path, *on(photos), "data.workers=2", "--resume-from", "auto") == 0
    assert_same_weights(whole, broken)
    assert losses(broken) == losses(whole)
    assert listed(broken) == listed(whole)


def test_two_processes_replace_alike_and_list_once(
    whole: Path, photos: Path, server: Server, tmp_path: Path
) -> None:
    server.start_ranks([arguments(STAGE, tmp_path, *on(photos), "train.batch_size=2")] * 2)
    assert server.exit_statuses() == [0, 0], server.printed()
    two = tmp_path / STAGE
    for (step, value), (_, expected) in zip(losses(two), losses(whole), strict=True):
        assert value == pytest.approx(expected, rel=1e-4), step
    reasons = [row["reason"] for row in listed(two)]
    assert reasons == [row["reason"] for row in listed(whole)]


def test_past_the_limit_the_run_stops_with_the_list(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strict = on(photos, 0.08)  # 2.24 of 28
    assert train(STAGE, tmp_path, *strict) == 1
    message, run = one_line_error(capsys), tmp_path / STAGE
    assert "3 samples of epoch 1 could not be read" in message
    assert f"all: {run / 'bad_samples.jsonl'}" in message
    assert len([row for row in listed(run) if row["replaced_by"]]) == 3
    reached = metrics(run)[-1]["step"]
    assert (run / "last" / "model.safetensors").is_file()
    # It counts on where it was, however often it is started again.
    assert train(STAGE, tmp_path, *strict, "--resume-from", "auto") == 1
    assert "3 samples of epoch 1" in one_line_error(capsys)
    assert metrics(run)[-1]["step"] <= reached
    assert train(STAGE, tmp_path, *on(photos), "--resume-from", "auto") == 0


def batch(*pairs: tuple[str, str]) -> dict[str, list[str]]:
    return {"replaced": [reason for reason, _ in pairs], "image_id": [by for _, by in pairs]}


def test_the_limit_is_one_for_all_processes(tmp_path: Path) -> None:
    path = tmp_path / "bad_samples.jsonl"
    first, second = (
        BadSamples(path, Disk("raise"), max_fraction=0.2, samples_per_epoch=10) for _ in range(2)
    )
    first.note(batch(("", "a"), ("x: bad", "b")), 0)
    second.note(batch(("y: bad", "c")), 0)
    first.note(batch(("x: bad", "b")), 1)
    second.note(batch(("x: bad", "b")), 1)  # listed by the other process
    assert len(path.read_text().splitlines()) == 2
    second.note(batch(("z: bad", "d")), 1)
    with pytest.raises(WarpTrainError, match=r"3 samples of epoch 2 .* z2: bad"):
        second.note(batch(("z2: bad", "e")), 1)


def test_names_that_are_no_text_do_not_stop_a_run(server: Server, tmp_path: Path) -> None:
    def run_apart(*more: str) -> int:
        server.start(*arguments(STAGE, tmp_path, *more))
        return server.exit_status()

    folder = tmp_path / "photos"
    for name in (b"one\xff.jpg", "two\u2028\x85.jpg".encode()):
        path = folder / os.fsdecode(name)
        save(path, textured(40, 60))
        path.write_bytes(b"")
    save(folder / "three.jpg", textured(40, 60))
    more = ("train.max_steps=2", "train.batch_size=2", "data.val_fraction=0.01")
    val = folder.with_name("photos-val")
    save(val / "v.jpg", textured(40, 60, 1))
    more = (*on(folder, 1), *more, f"data.val_root={val}")
    # In processes of their own: what they print of such names, a test runner cannot pass on.
    assert run_apart(*more) == 0
    rows = listed(tmp_path / STAGE)
    assert len(rows) == 2
    more = (*more, "--resume-from", "auto", "train.max_steps=3")
    assert run_apart(*more) == 0
    assert listed(tmp_path / STAGE) == rows
    train_source = Photos(
        find_photos(folder, "data.root"),
        (32, 48),
        None,
        seed=0,
        split="train",
        flip=False,  # type: ignore[arg-type]
    )
    assert len(train_source.listing_digest()) == 12


def _append(path: Path, name: str) -> None:
    for number in range(300):
        journal.append_line(path, {"by": name, "number": number, "text": name * 3000})


def test_lines_of_several_processes_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "bad_samples.jsonl"
    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=_append, args=(path, name)) for name in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for name in "abc":
        assert [row["number"] for row in rows if row["by"] == name] == list(range(300))


def test_a_list_of_anything_does_not_stop_a_run(tmp_path: Path) -> None:
    path = tmp_path / "bad_samples.jsonl"
    noise = np.random.default_rng(0).bytes(300)
    lines = (b"[1]", b"null", b'{"epoch": "x", "reason": 3}', b"[" * 99999, noise, b'{"epo')
    path.write_bytes(b"\n".join(lines))
    listing = BadSamples(path, Disk("raise"), max_fraction=1, samples_per_epoch=10)
    listing.note(batch(("x: bad", "b")), 0)
    journal.drop_cut_line(path)
    assert len(journal.read_lines(path)) == 1
    assert bad_samples.without_stand_ins({"replaced": ["x"], "a": torch.ones(1)})["a"].numel() == 0


def test_a_stand_in_depends_on_the_index_alone(photos: Path) -> None:
    from warp_train.data.lens_config import LensConfig
    from warp_train.data.lenses import AnalyticLenses

    source = Photos(
        find_photos(photos, "data.root"),
        (32, 48),
        AnalyticLenses(LensConfig()),
        seed=0,
        split="train",
        flip=True,
    )
    first = source[SampleKey(2, 11)]
    for index in (12, 3, 0):
        source[SampleKey(2, index)]
    again = source[SampleKey(2, 11)]
    assert first["image_id"] == again["image_id"] == "p13"
    assert torch.equal(first["input_image"], again["input_image"])
