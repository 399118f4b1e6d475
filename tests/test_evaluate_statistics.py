"""Totals, the share of the gap that is closed, and its interval."""

import numpy as np
import pytest

from warp_train.evaluation.statistics import bootstrap_interval, gap_closed


def houses(count: int, photos: int, seed: int) -> tuple[np.ndarray, list[str]]:
    """Photos whose gain is 0.6 of the room on average, alike within a house."""
    rng = np.random.default_rng(seed)
    share = np.repeat(rng.normal(0.6, 0.2, count), photos) + rng.normal(0, 0.02, count * photos)
    room = rng.uniform(1, 3, count * photos)
    return np.stack([share * room, room], axis=1), [f"h{i // photos}" for i in range(len(room))]


def width(gains: np.ndarray, groups: list[str]) -> float:
    low, high = bootstrap_interval(gains, groups)
    return high - low


def test_the_share_is_that_of_the_means() -> None:
    assert gap_closed(np.array([[1.0, 2.0], [0.0, 2.0]])) == 0.25
    assert gap_closed(np.array([[-1.0, 2.0]])) == -0.5


@pytest.mark.parametrize("room", [0.0, -1.0])
def test_without_room_there_is_no_share(room: float) -> None:
    assert gap_closed(np.array([[0.5, room]])) is None
    assert bootstrap_interval(np.array([[0.5, room]] * 3), ["a", "b", "c"]) is None


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    held = 0
    for seed in range(100):
        low, high = bootstrap_interval(*houses(40, 3, seed), draws=300)
        held += low <= 0.6 <= high
    assert 88 <= held <= 99


def test_the_same_seed_gives_the_same_interval() -> None:
    gains, groups = houses(12, 3, 0)
    first = bootstrap_interval(gains, groups, seed=1)
    assert first == bootstrap_interval(gains, groups, seed=1)
    assert first != bootstrap_interval(gains, groups, seed=2)
    assert first[0] < gap_closed(gains) < first[1]


def test_fewer_groups_are_less_certain() -> None:
    assert width(*houses(8, 3, 0)) > 1.5 * width(*houses(80, 3, 0))


def test_more_photos_of_the_same_houses_are_no_more_certain() -> None:
    gains, groups = houses(20, 1, 0)
    again = np.tile(gains, (5, 1))
    assert width(again, groups * 5) == pytest.approx(width(gains, groups))
    alone = [f"{group}{i}" for i, group in enumerate(groups * 5)]
    assert width(again, alone) < 0.7 * width(gains, groups)


def test_one_group_says_nothing_about_others() -> None:
    assert bootstrap_interval(np.array([[0.5, 1.0]] * 9), ["house"] * 9) is None
