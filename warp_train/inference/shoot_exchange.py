"""What the processes of a launch have seen of shoots, put together: the lens of each shoot depends
on all its photos, whichever process has looked at them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from warp_train.inference.by_value import packed, unpacked
from warp_train.inference.rectify_inputs import ShootLens
from warp_train.inference.shoot import Shoot
from warp_train.models.heads_parametric import ParametricHead
from warp_train.runtime.json_arrays import array_from_json, array_to_json
from warp_train.runtime.team import Team

Key = TypeVar("Key")


def pooled(
    team: Team, head: ParametricHead, found: Sequence[Sequence[Shoot]]
) -> dict[int, list[Shoot]]:
    """What all processes have seen of the zooms whose lenses this process finds, by their numbers.

    The shoots of one zoom are in one process, because their lenses depend on each other.

    Args:
        found: what this process has seen of the shoots of each zoom, in the same order in all
            processes.

    Raises:
        PeerError: a process has failed.
        OSError: a file cannot be written.
    """
    for rank in range(team.world):
        seen = [
            [z, s, _to_json(shoot)]
            for z, zoom in enumerate(found)
            for s, shoot in enumerate(zoom)
            if z % team.world == rank and shoot.photos
        ]
        team.put(f"looks-for-{rank}", seen)
    pool = {
        z: [Shoot(head) for _ in zoom]
        for z, zoom in enumerate(found)
        if z % team.world == team.rank
    }
    for rank in range(team.world):
        for z, s, (photos, kept) in team.get(f"looks-for-{team.rank}", rank):
            pool[z][s].absorb(photos, (unpacked(tuple(map(array_from_json, a))) for a in kept))
    return pool


def everyones(
    team: Team, keys: Sequence[Key], own: Iterable[tuple[Key, ShootLens]]
) -> list[tuple[Key, ShootLens]]:
    """The lenses that all processes have found, each with its key. Raises PeerError and OSError."""
    numbers = {key: number for number, key in enumerate(keys)}
    lenses = [
        [numbers[key], lens.name, lens.photos, list(map(array_to_json, lens.lens))]
        for key, lens in own
    ]
    return [
        (keys[number], ShootLens(name, photos, tuple(map(array_from_json, lens))))
        for found in team.exchange("lenses", lenses)
        for number, name, photos, lens in found
    ]


def _to_json(shoot: Shoot) -> list[Any]:
    return [shoot.photos, [list(map(array_to_json, packed(photo))) for photo in shoot.kept]]
