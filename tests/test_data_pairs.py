"""Pairs: found by name or manifest, and brought to size with their lenses, exactly."""

import json

import cv2
import numpy as np
import pytest
import torch
from data_helpers import LENS_COLUMNS, as_picture, opencv_correct, opencv_maps, save, textured

from warp_train.data import DataConfig, LensConfig, SampleKey, build_sources, collate, sample_lens
from warp_train.data.frames import lens_in_frame, mirror_lens, turn_lens
from warp_train.geometry import build_parametric_grid
from warp_train.runtime.errors import WarpTrainError

SIZE = (64, 96)


def pairs(root, **kwargs):
    return build_sources(DataConfig(source="pairs", root=root, size=SIZE, **kwargs), 0)


def lens_of(shape: tuple[int, int], seed: int) -> np.ndarray:
    strong = LensConfig(tangential=0.03, decentre=0.05)
    return sample_lens(np.random.default_rng((11, seed)), strong, *shape)


def true_pair(shape: tuple[int, int], seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(input, target, params): the target made from the input by OpenCV."""
    source, params = textured(*shape, seed=seed), lens_of(shape, seed)
    return source, cv2.remap(source, *opencv_maps(params, *shape), cv2.INTER_CUBIC), params


@pytest.fixture
def manifest(tmp_path):
    """A function that writes a manifest of true pairs and returns its path."""

    def write(shape=(200, 300), count=8, header="tier", cell="real"):
        lines = [f"image_id,group,input,target,{LENS_COLUMNS},{header}"]
        for i in range(count):
            source, target, params = true_pair(shape, i)
            save(tmp_path / "in" / f"{i}.png", source)
            save(tmp_path / "out" / f"{i}.png", target)
            numbers = ",".join(f"{value:.8g}" for value in params)
            lines.append(f"id{i},g{i // 2},in/{i}.png,out/{i}.png,{numbers},{cell}")
        path = tmp_path / "manifest.csv"
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


@pytest.mark.parametrize("shape", [(200, 300), (300, 200), (200, 230), (230, 200), (201, 407)])
def test_frames_and_lens_are_converted_together(manifest, shape):
    train, _ = pairs(manifest(shape), flip=True)
    before, after = [], []
    for epoch in range(3):
        for index in range(len(train)):
            sample = train[SampleKey(epoch, index)]
            assert sample["orig_size"] == shape
            straight = as_picture(sample["target_image"])[4:-4, 4:-4]
            before.append(np.abs(as_picture(sample["input_image"])[4:-4, 4:-4] - straight).mean())
            after.append(np.abs(opencv_correct(sample)[4:-4, 4:-4] - straight).mean())
    assert np.mean(after) < 0.35 * np.mean(before)


@pytest.mark.parametrize("size", [(64, 96), (96, 64), (80, 80), (90, 91)])
@pytest.mark.parametrize("shape", [(200, 300), (301, 200), (240, 240)])
def test_the_converted_lens_is_the_same_warp_in_pixels(shape, size):
    """A point's way by the new lens, and by turn, crop and scale after the old: the same."""
    for seed in range(10):
        params = lens_of(shape, seed)
        new, points = params, pixel_lattice(size)
        # New frame -> old frame, about the centres: scale, then the turn undone.
        across = (shape[0] - shape[1]) * (size[0] - size[1]) < 0
        turned = shape[::-1] if across else shape
        if across:
            new = turn_lens(new)
        scale = max(size[0] / turned[0], size[1] / turned[1])
        new = lens_in_frame(new, turned, size)
        old_points = points / scale
        if across:
            old_points = np.stack([-old_points[..., 1], old_points[..., 0]], -1)
        read_old = by_formula(params, old_points, shape)
        if across:
            read_old = np.stack([read_old[..., 1], -read_old[..., 0]], -1)
        read_new = grid_in_pixels(new, size)
        assert np.abs(read_new - read_old * scale).max() < 1e-6


def pixel_lattice(size: tuple[int, int]) -> np.ndarray:
    rows, columns = np.mgrid[: size[0], : size[1]].astype(float)
    return np.stack([columns - (size[1] - 1) / 2, rows - (size[0] - 1) / 2], -1)


def grid_in_pixels(params: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    grid = build_parametric_grid(torch.from_numpy(params)[None], *size)[0].numpy()
    return grid * ((size[1] - 1) / 2, (size[0] - 1) / 2)


def by_formula(params: np.ndarray, points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Brown–Conrady as OpenCV's documentation has it, about the centre, in pixels."""
    k1, k2, k3, p1, p2, dcx, dcy, s = params
    half = np.hypot(shape[0] - 1, shape[1] - 1) / 2
    x, y = (points[..., 0] / half - dcx) / s, (points[..., 1] / half - dcy) / s
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    qx = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x) + dcx
    qy = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y + dcy
    return np.stack([qx, qy], -1) * half


def test_a_mirrored_lens_is_the_mirrored_warp():
    for seed in range(10):
        params = lens_of((60, 90), seed)
        mirrored = grid_in_pixels(params, (60, 90))[:, ::-1] * (-1, 1)
        assert np.abs(grid_in_pixels(mirror_lens(params), (60, 90)) - mirrored).max() < 1e-9


def test_flips_come_in_training_only(manifest):
    train, val = pairs(manifest(count=10), val_fraction=0.3)
    signs = {
        name: [np.sign(float(source[SampleKey(e, i)]["target_params"][5])) for e in range(12)]
        for name, source in (("train", train), ("val", val))
        for i in (0,)
    }
    assert set(signs["train"]) == {-1, 1}
    assert len(set(signs["val"])) == 1


def test_looks_change_the_training_pairs_and_nothing_else(manifest):
    where = manifest(count=10)
    plain, changed = (pairs(where, flip=False, photometric=share) for share in (0.0, 1.0))
    for split, alike in ((0, False), (1, True)):
        for index in range(len(plain[split])):
            a, b = (source[split][SampleKey(0, index)] for source in (plain, changed))
            assert a["input_image"].equal(b["input_image"]) == alike
            assert a["target_image"].equal(b["target_image"]) == alike
            assert a["target_params"].equal(b["target_params"])


def test_folders_pair_by_name_with_the_lens_unknown(tmp_path):
    for house in range(4):
        source, target, _ = true_pair((200, 300), house)
        save(tmp_path / f"house{house}_g0_original.png", source)
        save(tmp_path / f"house{house}_g0_generated.png", target)
    train, val = pairs(tmp_path)
    assert len(train) + len(val) == 4
    sample = val[SampleKey(0, 0)]
    assert sample["target_params"].isnan().all()
    assert sample["image_id"].endswith("_g0")
    house = int(sample["image_id"][5])
    expected = cv2.resize(true_pair((200, 300), house)[0], SIZE[::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(as_picture(sample["input_image"]) * 255 - expected).mean() < 3


def test_extra_columns_pass_through(manifest):
    path = manifest()
    train, _ = pairs(path.parent)  # a folder uses its manifest.csv
    batch = collate([train[SampleKey(0, i)] for i in range(3)])
    assert batch["tier"] == ["real"] * 3
    train, _ = pairs(manifest(header="weight", cell="0.5"))
    batch = collate([train[SampleKey(0, i)] for i in range(3)])
    assert batch["weight"].tolist() == [0.5] * 3


def test_jsonl_with_splits_and_unknown_lenses(tmp_path):
    save(tmp_path / "a.png", textured(200, 300))
    rows = [
        {"input": "a.png", "target": "a.png", "group": f"g{i}", "split": split, "note": None}
        for i, split in enumerate(["train", "val", "train", ""])
    ]
    # One picture in every row would be in training and validation alike.
    save(tmp_path / "b.png", textured(200, 300, 1))
    rows[1]["target"] = "b.png"
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n\n".join(json.dumps(row) for row in rows))
    train, val = pairs(path)
    assert (len(train), len(val)) == (3, 1)
    assert train[SampleKey(0, 0)]["note"] == ""
    assert train[SampleKey(0, 0)]["target_params"].isnan().all()


def test_a_pair_of_two_sizes_is_replaced(tmp_path):
    for house in range(5):
        save(tmp_path / f"h{house}_original.png", textured(200, 300 - 10 * (house == 2)))
        save(tmp_path / f"h{house}_generated.png", textured(200, 300))
    train, val = pairs(tmp_path)
    reports = [s[SampleKey(0, i)]["replaced"] for s in (train, val) for i in range(len(s))]
    assert [r.split("/")[-1] for r in reports if r] == [
        "h2_original.png: is 290x200 px, but its target is 300x200 px"
    ]


def edit(path, old, new):
    path.write_text(path.read_text().replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",target,", ",goal,", "manifest.csv: column 'target' is missing"),
        (",k3,", ",k33,", r"csv: column 'k3' is missing \(a lens needs all eight"),
        (",tier", ",index", "manifest.csv: the column name 'index' is reserved"),
        (
            "in/3.png",
            "in/33.png",
            "manifest.csv, line 5, column 'input': no such file: .*in/33.png",
        ),
        ("out/2.png", "", "manifest.csv, line 4, column 'target': is empty"),
        (",real", ",real,7", "manifest.csv, line 2: more fields"),
        (",tier\n", ",split\n", "line 2, column 'split': got 'real', allowed are train, val"),
    ],
)
def test_manifest_mistakes_are_named(manifest, old, new, message):
    path = manifest()
    edit(path, old, new)
    with pytest.raises(WarpTrainError, match=message) as caught:
        pairs(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cell", ["wide", "nan", ""])
def test_a_lens_that_is_no_number_is_named(manifest, cell):
    path = manifest()
    lines = path.read_text().splitlines()
    fields = lines[3].split(",")
    fields[5] = cell
    path.write_text("\n".join([*lines[:3], ",".join(fields), *lines[4:]]))
    with pytest.raises(
        WarpTrainError, match=f"line 4, column 'k2': must be a number, got '{cell}'"
    ):
        pairs(path)


def test_other_mistakes_are_named(tmp_path):
    picture = textured(70, 100)
    save(tmp_path / "lone" / "a_original.png", picture)
    save(tmp_path / "plain" / "a.png", picture)
    (tmp_path / "m.jsonl").write_text('{"input": 1}\n{oops')
    (tmp_path / "l.jsonl").write_text("[1]\n")
    (tmp_path / "e.csv").write_text("input,target\n")
    (tmp_path / "m.txt").write_text("input,target\n")
    for name, message in [
        ("lone", "a_original.png: has no partner"),
        ("plain", "data.root: .*plain contains no manifest.csv"),
        ("m.jsonl", "m.jsonl, line 2: not JSON"),
        ("l.jsonl", "l.jsonl, line 1: must be a JSON object"),
        ("e.csv", "e.csv: contains no pairs"),
        ("m.txt", "m.txt: a manifest must be a .csv or .jsonl"),
        ("gone.csv", "data.root: .*gone.csv does not exist"),
    ]:
        with pytest.raises(WarpTrainError, match=message):
            pairs(tmp_path / name)


def test_a_group_on_both_sides_is_named(tmp_path):
    for split in ("train", "val"):
        for role in ("original", "generated"):
            save(tmp_path / split / f"house1_g{len(split)}_{role}.png", textured(70, 100))
    with pytest.raises(WarpTrainError, match=r"house1_g3_generated.png: its group 'house1' is in"):
        pairs(tmp_path / "train", val_root=tmp_path / "val")
