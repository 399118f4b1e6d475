"""`score`, `evaluate` and `prepare` in the processes of one launch."""

from pathlib import Path

import pytest
from data_helpers import save, textured
from evaluate_helpers import LENS, OTHER, make_pair, save_model, write_manifest
from training_server import Server

from warp_train.data.shards import layout


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Five pairs, two of them in one shoot; another one cannot be read."""
    folder = tmp_path / "pairs"
    lenses = [LENS, OTHER, LENS, LENS, OTHER]
    items = [
        make_pair(folder, f"h{i}", lens, seed=i, shoot="s" if i in (0, 3) else "")
        for i, lens in enumerate(lenses)
    ]
    manifest = write_manifest(folder, items, "shoot")
    items[1].input.write_bytes(b"nothing")
    return manifest


def test_score_prints_and_writes_what_one_process_does(
    pairs: Path, server: Server, tmp_path: Path
) -> None:
    photos = pairs.parent
    pairs.unlink()
    for path in photos.glob("h*_original.png"):
        (tmp_path / "pred" / path.name).parent.mkdir(exist_ok=True)
        path.rename(tmp_path / "pred" / path.name)
    save(photos / "h2_generated.png", textured(50, 60))  # of another size
    arguments = ["score", str(tmp_path / "pred"), str(photos), "--workers", "0"]
    outputs = []
    for count in (1, 2):
        out = tmp_path / f"{count}.json"
        server.start_ranks([[*arguments, "--json", str(out)]] * count)
        assert server.exit_statuses() == [1, 0][:count]
        outputs.append((server.printed(), out.read_bytes()))
    assert outputs[0] == outputs[1]
    assert "mean of 4" in outputs[0][0]
    # Without --json, they meet in the working directory.
    server.start_ranks([arguments] * 2, cwd=tmp_path)
    assert server.exit_statuses() == [1, 0]
    assert server.printed() == outputs[0][0]
    assert list(tmp_path.glob("*.ranks")) == []


def test_evaluate_prints_and_writes_what_one_process_does(
    pairs: Path, server: Server, tmp_path: Path
) -> None:
    model = save_model(tmp_path / "model", LENS, OTHER)
    arguments = ["evaluate", str(model), "--data", str(pairs), "--workers", "0", "--device", "cpu"]
    outputs = []
    for count in (1, 2):
        out, page = tmp_path / f"{count}.json", tmp_path / f"{count}.html"
        argv = [*arguments, "--json", str(out), "--report", str(page)]
        server.start_ranks([argv] * count)
        assert server.exit_statuses() == [1, 0][:count], server.printed()
        outputs.append((server.printed(), out.read_bytes(), page.read_bytes()))
    assert outputs[0] == outputs[1]
    assert "one lens" in outputs[0][0]
    assert list(tmp_path.glob("*.ranks")) == []


def small_shards() -> None:
    layout.SHARD_ITEMS = 2


def test_prepare_writes_the_shards_that_one_process_does(server: Server, tmp_path: Path) -> None:
    for number in range(9):
        save(tmp_path / "photos" / f"p{number}.jpg", textured(60, 90, number))
    (tmp_path / "r.yaml").write_text(
        "stage: stage1_param_only\n"
        f"data: {{size: [32, 48], workers: 0, source: photos, root: {tmp_path / 'photos'}}}\n"
    )
    arguments = ["prepare", str(tmp_path / "r.yaml"), "--workers", "0", "--out"]
    small = "test_ranks_results:small_shards"
    printed = {}
    for count in (1, 2):
        argv = [*arguments, str(tmp_path / str(count))]
        server.start_ranks([argv] * count, before=small)
        assert server.exit_statuses() == [0] * count, server.printed()
        printed[count] = server.printed().replace(f"/{count}:", "/:").splitlines()
    assert files(tmp_path / "2") == files(tmp_path / "1")
    assert printed[2][-1] == printed[1][-1]
    assert len(printed[2]) == len(printed[1]) == 2
    # What a killed launch has left is continued: these are shards of both processes.
    for path in (tmp_path / "2").glob("train-00000[12]*"):
        path.unlink()
    server.start_ranks([[*arguments, str(tmp_path / "2")]] * 2, before=small)
    assert server.exit_statuses() == [0, 0]
    assert "5 of 9 photos are in" in server.printed()
    assert files(tmp_path / "2") == files(tmp_path / "1")
    assert list(tmp_path.glob("*.ranks")) == []
