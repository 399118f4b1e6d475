"""Lenses as those of ordinary cameras are, beside real calibrations of lensfun."""

import numpy as np
import pytest
from numpy.typing import NDArray

from warp_train.data.lens_config import LensConfig, LensfunConfig
from warp_train.data.lenses import LensSampler, sample_lens
from warp_train.data.lensfun_lenses import lensfun_lenses

SIZE = (96, 144)
COUNT = 1500
CENTRED = {"tangential": 0.0, "decentre": 0.0, "min_det": 0.2}


def drawn(**shares: object) -> NDArray[np.float64]:
    rng, lens = np.random.default_rng(0), LensConfig.model_validate({**CENTRED, **shares})
    return np.array([sample_lens(rng, lens, *SIZE) for _ in range(COUNT)])


def calibrated(**options: object) -> NDArray[np.float64]:
    config = LensfunConfig.model_validate({"focal": (8, 40), **options})
    sampler: LensSampler = lensfun_lenses(config, LensConfig.model_validate(CENTRED))[0]
    rng = np.random.default_rng(1)
    return np.array([sampler.sample(rng, *SIZE) for _ in range(COUNT)])


def displacements(lenses: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """Radial displacements at a radius of the lens, in half diagonals."""
    k1, k2, k3 = lenses[:, :3].T
    displaced: NDArray[np.float64] = radius**3 * (k1 + radius**2 * (k2 + radius**2 * k3))
    return displaced


@pytest.mark.parametrize("radius", [0.5, 0.8, 1.0])
@pytest.mark.parametrize(
    ("shares", "options", "usual_factor"),
    [
        ({"ordinary": 1.0}, {"real_share": 1.0}, 1.0),
        ({"amplified": 1.0}, {"real_share": 0.0, "amplify": (1.5, 8)}, (1.5 * 8) ** 0.5),
    ],
)
def test_lenses_are_distributed_as_real_calibrations_are(
    shares: dict[str, float], options: dict[str, object], usual_factor: float, radius: float
) -> None:
    ours, real = (
        np.quantile(displacements(lenses, radius), (0.1, 0.25, 0.5, 0.75, 0.9))
        for lenses in (drawn(**shares), calibrated(**options))
    )
    assert (np.abs(ours - real) < 0.2 * np.abs(real) + 0.005 * usual_factor).all()


def test_the_shares_add_up() -> None:
    lenses = drawn(straight=0.3, ordinary=0.8, amplified=0.2)
    straight = (lenses == (0, 0, 0, 0, 0, 0, 0, 1)).all(1)
    assert straight.mean() == pytest.approx(0.3, abs=0.03)
    strong = [
        float((np.abs(displacements(one, 1.0)) > 0.2).mean())
        for one in (lenses[~straight], drawn(amplified=1.0))
    ]
    assert 0.1 * strong[1] < strong[0] < 0.35 * strong[1]  # about a fifth


def test_without_shares_lenses_are_those_of_the_ranges() -> None:
    bends = drawn()[:, :3].sum(1)
    assert bends.min() > -0.36
    assert np.abs(np.quantile(bends, (0.25, 0.5, 0.75)) - (-0.17, 0, 0.17)).max() < 0.05


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("straight", 1.2, "less than or equal to 1"),
        ("ordinary", -0.1, "greater than or equal to 0"),
        ("amplify", (3, 2), "low not above high"),
        ("amplify", (0.01, 2), "0.1 ... 10"),
    ],
)
def test_shares_out_of_range_are_refused(key: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LensConfig.model_validate({key: value})


def test_shares_beyond_everything_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must not exceed 1 together, got 0\.7 and 0\.5"):
        LensConfig(ordinary=0.7, amplified=0.5)
