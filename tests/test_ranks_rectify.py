"""`rectify` in the processes of one launch."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from export_helpers import camera_tags
from lens_helpers import seen_through
from PIL import Image as Pillow
from test_shoot import LENS, drawing
from training_server import Server

from warp_train.cli import main
from warp_train.inference import rectify

WORK_HERE = "test_ranks_rectify:work_here"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos through one zoom at two focal lengths, one without EXIF, and a damaged one."""
    folder = tmp_path_factory.mktemp("photos")
    for number, focal in enumerate((18, 18, 18, 35, 35, None)):
        image = seen_through(LENS, drawing(number))[0].permute(1, 2, 0).mul(255).byte().numpy()
        tags = Pillow.Exif()
        if focal is not None:
            camera_tags(tags, LensModel="18-55mm VR", FocalLength=float(focal))
        Pillow.fromarray(image).save(folder / f"{number}.jpg", exif=tags, quality=97)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8nothing")
    return folder


def command(photos: Path, out: Path) -> list[str]:
    inputs = [str(photos), str(photos / "missing.jpg")]
    return ["rectify", "tiny", *inputs, "--out", str(out), "--workers", "1", "--device", "cpu"]


def work_here() -> None:
    """A worker imports torch, which takes seconds."""

    def run_jobs(items: Any, load: Any, workers: int) -> Iterator[tuple[Any, Any]]:
        work = load()
        yield from ((item, work(item)) for item in items)

    rectify.run_jobs = run_jobs  # type: ignore[assignment]


def records(out: Path) -> list[dict[str, Any]]:
    """The lines, without what differs from run to run."""
    rows = map(json.loads, (out / "rectify.jsonl").read_text().splitlines())
    return [
        {key: str(value).replace(str(out), "") for key, value in row.items() if key != "seconds"}
        for row in rows
    ]


def pictures(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("*.jpg")}


def test_two_processes_correct_as_one_does(photos: Path, server: Server, tmp_path: Path) -> None:
    server.start_ranks([command(photos, tmp_path / "one")], before=WORK_HERE)
    assert server.exit_status() == 1
    alone = server.printed().splitlines()
    server.start_ranks([command(photos, tmp_path / "two")] * 2, before=WORK_HERE)
    assert server.exit_statuses() == [1, 0], server.printed()
    assert len(pictures(tmp_path / "one")) == 6
    assert pictures(tmp_path / "two") == pictures(tmp_path / "one")
    assert records(tmp_path / "two") == records(tmp_path / "one")
    assert [path.suffix for path in (tmp_path / "two").iterdir()].count(".ranks") == 0
    printed = server.printed().splitlines()
    assert printed[-1] == alone[-1]  # the summary
    assert sorted(printed) == sorted(alone)
    shoots = [row["shoot"] for row in records(tmp_path / "two") if "shoot" in row]
    assert sum("'photos': 3" in shoot for shoot in shoots) == 3
    assert len(shoots) == 5


def test_lines_of_a_killed_launch_are_kept(photos: Path, tmp_path: Path) -> None:
    left = tmp_path / "rectify.jsonl.ranks"
    left.mkdir()
    (left / "journal-1.jsonl").write_text('{"input": "x.jpg", "error": "x"}\n{"input": "y.j')
    (left / "run-0-alive-1").write_text("7")
    assert main(["rectify", "tiny", str(photos / "missing.jpg"), "--out", str(tmp_path)]) == 1
    rows = (tmp_path / "rectify.jsonl").read_text().splitlines()
    assert [json.loads(row)["input"] for row in rows] == ["x.jpg", str(photos / "missing.jpg")]
    assert not left.exists()
