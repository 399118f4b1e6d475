"""`rectify`, `evaluate` and `export` where photos share a lens."""

import gc
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from export_helpers import camera_tags
from lens_helpers import SIZE, as_if_trained, seen_through
from PIL import Image as Pillow
from test_shoot import LENS, drawing, error

from warp_train import Straightener
from warp_train.cli import main
from warp_train.data.decoding import decode_image
from warp_train.data.sources.manifest import PairItem
from warp_train.evaluation.evaluate import evaluate
from warp_train.export.lenses import find_lens, shared_by_exif, shared_lenses
from warp_train.geometry import covering_zoom, invert_lens
from warp_train.inference.rectify import plan_shoots, rectify
from warp_train.inference.rectify_inputs import Job, Settings
from warp_train.models import HybridModel, TrainedOn, save_pretrained
from warp_train.models.heads_parametric import Observation
from warp_train.models.hybrid_model import Prediction

OTHER = (0.25, -0.05, 0.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that is sure of its lens, so that it is applied as it is."""
    network = as_if_trained()
    network.residual_enabled = False
    network.trained_on = TrainedOn(stage="stage1_param_only", size=SIZE)
    torch.nn.init.constant_(network.parametric_head.uncertainty.out.bias, -7.0)
    folder = tmp_path_factory.mktemp("model")
    save_pretrained(network, folder)
    return folder


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """`rectify` without worker processes, which take seconds to start."""

    def run(jobs: list[Job], load: Callable[[], Callable[[Job], object]], workers: int) -> object:
        work = load()
        yield from ((job, work(job)) for job in jobs)

    monkeypatch.setattr("warp_train.inference.rectify.run_jobs", run)


def write(
    path: Path, lens: tuple[float, ...], seed: int, *, exif: bool = True, focal: float = 18.0
) -> Path:
    image = seen_through(lens, drawing(seed))[0].permute(1, 2, 0).mul(255).byte().numpy()
    tags = Pillow.Exif()
    if exif:
        camera_tags(tags, LensModel="18-55mm VR", FocalLength=focal)
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(image).save(path, exif=tags, quality=97)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six photos through one lens, one through another, and one without EXIF."""
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(6):
        write(folder / f"{seed}.jpg", LENS, seed)
    write(folder / "other.jpg", OTHER, 50)
    write(folder / "plain.jpg", LENS, 7, exif=False)
    return folder


def rectified(model: Path, photos: Path, out: Path, *more: str) -> dict[str, dict[str, object]]:
    arguments = ["rectify", str(model), str(photos), "--out", str(out), "--workers", "1"]
    assert main([*arguments, "--device", "cpu", *more]) == 0
    lines = (out / "rectify.jsonl").read_text().splitlines()
    return {Path(record["input"]).stem: record for record in map(json.loads, lines)}


def radial(record: dict[str, object]) -> Sequence[float]:
    params = record["params"]
    assert isinstance(params, list)
    return params[:3]


def test_rectify_gives_the_photos_of_a_lens_one_lens(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = rectified(model, photos, tmp_path / "alone", "--shoot", "off")
    capsys.readouterr()
    found = rectified(model, photos, tmp_path / "auto")
    assert "one lens for 7 photos: NIKON D7000, 18-55mm VR, 18 mm" in capsys.readouterr().err
    first = radial(found["0"])
    for seed in range(6):
        record = found[str(seed)]
        np.testing.assert_allclose(radial(record), first, atol=1e-6)
        shoot = record["shoot"]
        assert isinstance(shoot, dict)
        assert (shoot["photos"], shoot["disagrees"]) == (7, False)
        assert shoot["own_lens_differs_px"] > 0
        assert record["warnings"] == []
    assert all("shoot" not in record for record in alone.values())
    # The one through another lens, and the one of an unknown camera, are corrected by themselves.
    assert found["other"]["shoot"]["disagrees"] is True  # type: ignore[index]
    (warning,) = found["other"]["warnings"]  # type: ignore[misc]
    assert "contradicts the lens of its shoot (NIKON D7000" in warning
    assert "shoot" not in found["plain"]
    for name in ("other", "plain"):
        np.testing.assert_allclose(radial(found[name]), radial(alone[name]), atol=1e-9)
    # Nearer to the truth than the photos are alone.
    errors = [np.abs(np.sum(radial(record)) - sum(LENS)) for record in alone.values()]
    assert np.abs(np.sum(first) - sum(LENS)) < 0.5 * np.mean(errors)


def test_rectify_by_folder_and_by_exif(
    model: Path, photos: Path, tmp_path: Path, in_this_process: None
) -> None:
    folder = rectified(model, photos, tmp_path / "folder", "--shoot", "folder", "--params-only")
    assert folder["plain"]["shoot"]["photos"] == 8  # type: ignore[index]
    exif = rectified(model, photos, tmp_path / "exif", "--shoot", "exif", "--params-only")
    assert exif["plain"]["warnings"] == [
        "its EXIF has no camera or no focal length; corrected by itself"
    ]


def test_straighten_shoot_is_rectify(
    model: Path, photos: Path, tmp_path: Path, in_this_process: None
) -> None:
    paths = sorted(photos.glob("[0-5].jpg"))
    found = rectified(model, photos, tmp_path, "--shoot", "auto", "--format", "png")
    rgb = [decode_image(path).pixels for path in [*paths, photos / "other.jpg"]]
    results = Straightener.from_pretrained(model, "cpu").straighten_shoot(rgb)
    for path, result in zip(paths, results, strict=False):
        record = found[path.stem]
        np.testing.assert_allclose(result.params, record["params"], atol=1e-6)  # type: ignore[arg-type]
        written = cv2.imread(str(record["output"]))[..., ::-1]
        assert np.abs(written.astype(int) - result.image).max() <= 1


def test_evaluate_has_a_row_for_the_lens_of_a_shoot(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    zoom = covering_zoom(torch.tensor([LENS]), *SIZE).item()
    rows = ["input,target,shoot,k1,k2,k3,p1,p2,dcx,dcy,s"]
    numbers = ",".join(map(str, (*LENS, 0, 0, 0, 0, zoom)))
    rows += [f"{photos / str(n)}.jpg,{photos / str(n)}.jpg,s,{numbers}" for n in range(6)]
    rows += [f"{photos / 'plain.jpg'},{photos / 'plain.jpg'},,{numbers}"]
    (tmp_path / "pairs.csv").write_text("\n".join(rows) + "\n")
    arguments = ["evaluate", str(model), "--data", str(tmp_path / "pairs.csv"), "--workers", "0"]
    assert main([*arguments, "--device", "cpu", "--json", str(tmp_path / "out.json")]) == 0
    assert "one lens" in capsys.readouterr().out
    found = json.loads((tmp_path / "out.json").read_text())
    row = found["one_lens"]
    assert row["photos"] == 6
    of_shoot = [image for image in found["images"] if image.get("shoot") == "s"]
    alone = np.mean([image["model"]["epe_px"] for image in of_shoot])
    assert row["epe_px"] < alone
    straightener = Straightener.from_pretrained(model, "cpu")
    common = straightener.common_lens(decode_image(photos / f"{n}.jpg").pixels for n in range(6))
    assert common is not None
    # The distance between the lens that was found and the true one, by OpenCV's own inverse.
    head = straightener.predictor.head
    params = torch.stack((common.params(head, SIZE), torch.tensor([*LENS, 0, 0, 0, 0, zoom])))
    nodes = torch.stack(
        torch.meshgrid(
            torch.linspace(-1, 1, SIZE[1]), torch.linspace(-1, 1, SIZE[0]), indexing="xy"
        ),
        -1,
    )
    there = invert_lens(nodes.expand(2, -1, -1, -1), params, *SIZE)
    half = torch.tensor([(SIZE[1] - 1) / 2, (SIZE[0] - 1) / 2])
    apart = ((there[0] - there[1]) * half).norm(dim=-1).mean().item()
    assert row["epe_px"] == pytest.approx(apart, rel=0.3)
    assert all("shoot" not in image for image in found["images"][6:])


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of the batch of each run of the network."""
    sizes: list[int] = []
    look = HybridModel.look

    def counted(network: HybridModel, image: torch.Tensor) -> tuple[Prediction, Observation]:
        sizes.append(len(image))
        return look(network, image)

    monkeypatch.setattr(HybridModel, "look", counted)
    return sizes


def test_evaluate_sees_each_photo_once_and_keeps_the_shoot_in_work_alone(
    model: Path, photos: Path, runs: list[int]
) -> None:
    # Two shoots and a photo without one, in turns, as a manifest may have them.
    names = ("0", "3", "plain", "1", "4", "2", "5")
    shoots = ("a", "b", "", "a", "b", "a", "b")
    target = photos / "plain.jpg"
    nowhere = np.full(8, np.nan)
    items = [
        PairItem(name, name, target, photos / f"{name}.jpg", nowhere, "", {"shoot": shoot})
        for name, shoot in zip(names, shoots, strict=True)
    ]
    kept = []

    def measured(_: object) -> None:
        kept.append(sum(type(thing) is Observation for thing in gc.get_objects()))

    found = evaluate(Straightener.from_pretrained(model, "cpu"), items, on_result=measured)
    assert [photo.task.item.image_id for photo in found.photos] == list(names)
    assert len(runs) == 2 * len(items)  # the photo and its target
    assert max(kept) <= 3
    by_name = {photo.task.item.image_id: photo.task for photo in found.photos}
    assert by_name["plain"].one_lens is None
    lenses = {name: by_name[name].one_lens for name in names if name != "plain"}
    for name, first in (("1", "0"), ("2", "0"), ("4", "3"), ("5", "3")):
        one, other = lenses[name], lenses[first]
        assert one is not None
        assert other is not None
        np.testing.assert_array_equal(one.common, other.common)
    assert lenses["0"] is not None
    assert lenses["3"] is not None
    assert np.abs(lenses["0"].common - lenses["3"].common).max() > 1e-6


def test_export_measures_the_photos_of_a_lens_together(
    model: Path, photos: Path, tmp_path: Path, runs: list[int]
) -> None:
    out = tmp_path / "lenses.jsonl"
    paths = [str(photos / f"{name}.jpg") for name in (*range(6), "plain")]
    arguments = ["export", str(model), *paths, "--to", "opencv", "--out", str(out)]
    assert main([*arguments, "--device", "cpu"]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(runs) == 7
    for row in rows[1:6]:
        np.testing.assert_allclose(row["params"][:3], rows[0]["params"][:3], atol=1e-6)
    assert np.abs(np.subtract(rows[6]["params"], rows[0]["params"])[:3]).max() > 1e-4


def test_a_focal_length_borrows_from_its_neighbours_in_export_as_in_rectify(
    model: Path, tmp_path: Path, in_this_process: None
) -> None:
    folder = tmp_path / "zoom"
    for seed in range(4):
        write(folder / f"{seed}.jpg", LENS, seed, focal=18.0)
    lonely = write(folder / "lonely.jpg", LENS, 8, focal=20.0)
    straightener = Straightener.from_pretrained(model, "cpu")
    paths = sorted(folder.iterdir())
    shared = shared_lenses(straightener, shared_by_exif(paths), lambda: None)
    assert set(shared) == set(paths)
    own = find_lens(straightener, lonely)
    borrowed = find_lens(straightener, lonely, shared[lonely])
    assert borrowed.refused is None
    errors = [
        error(torch.tensor([one.params], dtype=torch.float32), LENS) for one in (borrowed, own)
    ]
    assert errors[0] < 0.8 * errors[1], errors
    # As `rectify` does.
    plan = plan_shoots([Job(path) for path in paths], "auto")
    records = {record["input"]: record for record in rectify(plan, str(model), Settings(folder))}
    assert records[str(lonely)]["shoot"]["photos"] == 1
    for path in paths:
        exported = find_lens(straightener, path, shared[path]).params
        np.testing.assert_allclose(records[str(path)]["params"], exported, atol=1e-9)
