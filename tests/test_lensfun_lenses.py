"""Lenses from lensfun: bent as lensfun itself does, split by maker, refused in one line."""

import pickle
import sys
from typing import Any

import lensfunpy
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from warp_train.data import DataConfig, LensConfig, SampleKey, build_sources
from warp_train.data.lens_config import LensfunConfig
from warp_train.data.lensfun_calibrations import (
    Calibration,
    model_terms,
    read_calibrations,
    split_calibrations,
)
from warp_train.data.lensfun_lenses import LensfunLenses, lensfun_lenses
from warp_train.geometry import build_parametric_grid, jacobian_determinant
from warp_train.runtime.errors import WarpTrainError

HEIGHT, WIDTH = 301, 451  # 3:2 between pixel centres, as lensfun takes a lens to be calibrated
ALIGNED = LensConfig(tangential=0, decentre=0)

ENTRY = """<lensdatabase version="1"><lens><maker>A</maker><model>B</model><mount>Generic</mount>
<cropfactor>1</cropfactor><aspect-ratio>1.5</aspect-ratio>
<calibration><distortion focal="20" model="{model}" {terms}/></calibration></lens></lensdatabase>"""


def diagonal(grid_x: Any, grid_y: Any) -> np.ndarray:
    """Radius in px at which pixels on the way from the centre to a corner are read."""
    steps = np.arange(75, 151)
    x, y = grid_x[2 * steps, 3 * steps], grid_y[2 * steps, 3 * steps]
    return np.hypot(x - (WIDTH - 1) / 2, y - (HEIGHT - 1) / 2)


def lensfun_reads(lens: Any, focal: float) -> np.ndarray:
    modifier = lensfunpy.Modifier(lens, lens.crop_factor, WIDTH, HEIGHT)
    flags = lensfunpy.ModifyFlags.DISTORTION | lensfunpy.ModifyFlags.SCALE
    modifier.initialize(focal, 8.0, 1000.0, scale=0.88, flags=flags)  # reads farther than ours
    read = modifier.apply_geometry_distortion().astype(float)
    return diagonal(read[..., 0], read[..., 1])


def our_reads(params: np.ndarray) -> np.ndarray:
    grid = build_parametric_grid(torch.from_numpy(params)[None], HEIGHT, WIDTH)[0].numpy()
    return diagonal((grid[..., 0] + 1) * (WIDTH - 1) / 2, (grid[..., 1] + 1) * (HEIGHT - 1) / 2)


def difference(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """In px of the corrected frame, at the zoom between the two that suits best."""
    assert ours[-1] < theirs[-1]
    assert np.diff(theirs).min() > 0
    radius = np.linspace(0, np.hypot(WIDTH - 1, HEIGHT - 1) / 2, len(ours))
    there = np.interp(ours, theirs, radius)  # where lensfun's frame reads what ours reads
    zoom = (there @ radius) / (radius @ radius)
    return np.abs(there / zoom - radius)


def table(terms: tuple[float, ...], amplify: float | None = None) -> LensfunLenses:
    factor, share = (1.0, 1.0) if amplify is None else (amplify, 0.0)
    return LensfunLenses(np.array([terms]), np.ones(1), (factor, factor), share, ALIGNED)


@pytest.mark.parametrize("factor", [1, 3])
@pytest.mark.parametrize(
    ("model", "terms"),
    [
        ("ptlens", {"a": 0.02797, "b": -0.09138, "c": 0.04487}),
        ("ptlens", {"a": -0.006, "b": 0.03, "c": -0.01}),
        ("poly3", {"k1": -0.015}),
        ("poly3", {"k1": 0.02}),
        ("poly5", {"k1": -0.0154, "k2": 0.0017}),
    ],
)
def test_a_lens_bends_as_lensfun_says(model: str, terms: dict[str, float], factor: int) -> None:
    given = " ".join(f'{name}="{factor * value}"' for name, value in terms.items())
    xml = ENTRY.format(model=model, terms=given)
    database = lensfunpy.Database(xml=xml, load_common=False, load_bundled=False)
    row = model_terms(model.upper(), [*terms.values(), 0, 0][:3])
    params = table(row, factor).sample(np.random.default_rng(0), HEIGHT, WIDTH)
    off = difference(our_reads(params), lensfun_reads(database.lenses[0], 20))
    assert off.mean() < 0.1 * factor  # what the even powers of a calibration leave to ours
    assert off.max() < 0.5 * factor


def test_calibrations_are_those_of_the_database() -> None:
    found = {
        (entry.maker, entry.lens, round(entry.focal, 2)): entry for entry in read_calibrations()
    }
    lenses = [
        lens for lens in lensfunpy.Database(load_common=False).lenses if lens.calib_distortion
    ]
    slr = [lens for lens in lenses if lens.crop_factor == 1 and lens.maker in ("Canon", "Sigma")]
    compared = 0
    for lens in slr[::12]:
        focal = lens.calib_distortion[0].focal
        if lens.type != lensfunpy.LensType.RECTILINEAR:
            assert (lens.maker, lens.model, round(focal, 2)) not in found
            continue
        terms = found[lens.maker, lens.model, round(focal, 2)].terms
        params = table(terms).sample(np.random.default_rng(0), HEIGHT, WIDTH)
        assert difference(our_reads(params), lensfun_reads(lens, focal)).max() < 0.5
        compared += 1
    assert compared >= 8


@pytest.mark.parametrize("size", [(96, 144), (144, 96), (100, 100)])
def test_lenses_cover_the_frame_and_do_not_fold(size: tuple[int, int]) -> None:
    lenses, _ = lensfun_lenses(LensfunConfig(amplify=(2, 6)), LensConfig())
    drawn = [lenses.sample(np.random.default_rng((1, i)), *size) for i in range(150)]
    grids = build_parametric_grid(torch.from_numpy(np.stack(drawn)), *size)
    farthest = grids.abs().amax((1, 2, 3))
    assert farthest.max() <= 1
    assert farthest.min() > 1 - 1e-4
    assert jacobian_determinant(grids).min() > 0.3 - 0.02
    assert len({params[0] for params in drawn}) > 140


def test_a_lens_depends_on_the_generator_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    lenses, _ = lensfun_lenses(LensfunConfig(amplify=(2, 6)), LensConfig())
    first = lenses.sample(np.random.default_rng(5), 64, 96)
    again, _ = lensfun_lenses(LensfunConfig(amplify=(2, 6)), LensConfig())
    assert np.array_equal(first, again.sample(np.random.default_rng(5), 64, 96))
    monkeypatch.setitem(sys.modules, "lensfunpy", None)  # a loading process reads no database
    unpickled = pickle.loads(pickle.dumps(lenses))
    assert np.array_equal(first, unpickled.sample(np.random.default_rng(5), 64, 96))


def test_tangential_terms_and_the_centre_are_those_of_the_lens_section() -> None:
    found, _ = lensfun_lenses(LensfunConfig(), LensConfig(tangential=0.003, decentre=0.02))
    drawn = np.stack([found.sample(np.random.default_rng(i), 64, 96) for i in range(100)])
    for columns, most in ((slice(3, 5), 0.003), (slice(5, 7), 0.02)):
        assert 0.9 * most < np.abs(drawn[:, columns]).max() <= most
    aligned, _ = lensfun_lenses(LensfunConfig(), ALIGNED)
    assert not aligned.sample(np.random.default_rng(0), 64, 96)[3:7].any()


def test_as_many_calibrations_stand_as_they_are_as_stated() -> None:
    terms = model_terms("POLY3", [-0.01, 0, 0])
    lenses = LensfunLenses(np.array([terms]), np.ones(1), (2, 4), 0.3, ALIGNED)
    drawn = np.stack([lenses.sample(np.random.default_rng(i), 64, 96) for i in range(300)])
    as_is = table(terms).sample(np.random.default_rng(0), 64, 96)
    weakest = table(terms, 2).sample(np.random.default_rng(0), 64, 96)
    strongest = table(terms, 4).sample(np.random.default_rng(0), 64, 96)
    real = np.abs(drawn - as_is).max(1) < 1e-9
    assert 0.22 < real.mean() < 0.38
    assert strongest[0] <= drawn[~real, 0].min() < drawn[~real, 0].max() <= weakest[0]


def test_large_makers_do_not_drown_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    large = [Calibration("A", f"lens {i}", 20.0, 1.0, (0, 0, 0.001 * i, 0, 0)) for i in range(4)]
    zoom = [Calibration("B", "zoom", 10.0 + i, 1.0, (0, 0, 0.1 + i, 0, 0)) for i in range(10)]
    monkeypatch.setattr("warp_train.data.lensfun_lenses.read_calibrations", lambda: large + zoom)
    lenses, _ = lensfun_lenses(LensfunConfig(), ALIGNED)
    assert lenses.cumulative == pytest.approx(
        [*np.arange(1, 5) / 6, *2 / 3 + np.arange(1, 11) / 30]
    )


def makers(entries: list[Calibration]) -> set[str]:
    return {entry.maker.casefold() for entry in entries}


def test_validation_lenses_are_new() -> None:
    found = read_calibrations()
    train, val = split_calibrations(found, LensfunConfig(val_makers=("ZEISS", "nikon")))
    assert {"zeiss", "carl zeiss", "nikon"} <= makers(val)
    assert all("zeiss" in maker or "nikon" in maker for maker in makers(val))
    assert not any("zeiss" in maker or "nikon" in maker for maker in makers(train))
    assert {entry.terms for entry in train}.isdisjoint(entry.terms for entry in val)
    assert len(makers(train)) > 20
    same, as_well = split_calibrations(found, LensfunConfig())
    assert same == as_well


def test_calibrations_are_chosen_by_maker_focal_length_and_crop_factor() -> None:
    chosen = LensfunConfig(
        makers=("canon", "sony"), val_makers=("nikon",), exclude_makers=("sony",), focal=(15, 25)
    )
    train, val = split_calibrations(read_calibrations(), chosen)
    assert (makers(train), makers(val)) == ({"canon"}, {"nikon", "nikon corporation"})
    focal = [entry.focal for entry in train + val]
    assert 15 <= min(focal) < max(focal) <= 25
    small, _ = split_calibrations(read_calibrations(), LensfunConfig(crop=(4, 10)))
    assert small
    assert min(entry.crop for entry in small) >= 4


def test_sources_take_their_lenses_from_their_own_makers() -> None:
    choice = {"val_makers": ["sony", "leica"]}
    config = DataConfig(size=(32, 48), lenses="lensfun", lensfun=choice, val_samples=3)
    train, val = build_sources(config, seed=0)
    rows = [{tuple(row) for row in source.lenses.terms} for source in (train, val)]  # type: ignore[union-attr]
    assert rows[0]
    assert rows[1]
    assert rows[0].isdisjoint(rows[1])
    for source in (train, val):
        sample, again = source[SampleKey(1, 2)], source[SampleKey(1, 2)]
        assert torch.equal(sample["input_image"], again["input_image"])


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        ({"makers": ("Nikkon",)}, r"data\.lensfun\.makers: .*'Nikkon'; nearest: Nikon"),
        ({"val_makers": ("sonny",)}, r"data\.lensfun\.val_makers: .*'sonny'; nearest: Sony"),
        ({"exclude_makers": ("qqqqqq",)}, r"exclude_makers: .*nearest: \w+"),
        ({"makers": ("sony",), "exclude_makers": ("sony",)}, r"to train on; .*makers \['sony'\]"),
        ({"focal": (1, 2)}, r"data\.lensfun: .* to train on; widen focal \[1\.0, 2\.0\], crop"),
        ({"val_makers": ("gopro",), "crop": (1, 2)}, r"to validate on; .*val_makers \['gopro'\]"),
    ],
)
def test_choices_without_lenses_are_refused_in_one_line(choice: Any, says: str) -> None:
    with pytest.raises(WarpTrainError, match=says) as caught:
        lensfun_lenses(LensfunConfig(**choice), LensConfig())
    assert "\n" not in str(caught.value)


def test_without_lensfunpy_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lensfunpy", None)
    with pytest.raises(WarpTrainError, match=r"pip install 'warp_train\[lensfun\]'") as caught:
        build_sources(DataConfig(lenses="lensfun"), seed=0)
    assert "\n" not in str(caught.value)
    build_sources(DataConfig(), seed=0)  # the stated distribution does without


def test_lenses_that_all_fold_are_refused_in_one_line() -> None:
    with pytest.raises(WarpTrainError, match=r"amplify \[10, 10\]") as caught:
        table(model_terms("POLY3", [-0.2, 0, 0]), 10).sample(np.random.default_rng(0), 64, 96)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "lensfun",
    [
        {"focal": (30, 20)},
        {"focal": (0, 20)},
        {"crop": (1, 99)},
        {"amplify": (0, 2)},
        {"amplify": (3, 2)},
        {"real_share": 1.5},
        {"makers": ("",)},
        {"maker": ("canon",)},
    ],
)
def test_settings_out_of_range_are_refused(lensfun: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DataConfig(lenses="lensfun", lensfun=lensfun)


def test_a_choice_of_calibrations_that_nothing_uses_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"data\.lenses: lensfun"):
        DataConfig(lensfun={"amplify": (2, 6)})
    assert DataConfig(lensfun={}).lenses == "analytic"


@pytest.mark.parametrize(
    ("more", "part"),
    [
        ({"source": "pairs", "root": "x"}, "data.rebend and data.lenses belong together"),
        ({"source": "external", "external": "a:b"}, "no effect on source 'external'"),
        ({"lens": {"bend": (-0.1, 0.1)}}, "data.lens.bend has no effect"),
        ({"lens": {"ripple": 0.01}}, "data.lens.ripple has no effect"),
    ],
)
def test_keys_that_would_do_nothing_are_refused(more: dict[str, Any], part: str) -> None:
    with pytest.raises(ValueError, match=part):
        DataConfig.model_validate({"lenses": "lensfun", **more})
    DataConfig.model_validate({"lenses": "lensfun", "lens": {"decentre": 0.0, "min_det": 0.2}})
