"""What the processes of a launch have seen of shoots, put together: the lens of each shoot depends
on all its photos, whichever process has looked at them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

from warp_train.inference.rectify_inputs import ShootLens
from warp_train.inference.shoot import Shoot, packed, unpacked
from warp_train.models.heads_parametric import ParametricHead
from warp_train.runtime.json_arrays import array_from_json, array_to_json
from warp_train.runtime.team import Team

Key = TypeVar("Key")


def pooled(
    team: Team, head: ParametricHead, found: Mapping[Key, Shoot], zooms: Sequence[Hashable]
) -> dict[Key, Shoot]:
    """What all processes have seen of the shoots whose lenses this process finds.

    The shoots of one zoom are in one process, because their lenses depend on each other.

    Args:
        found: what this process has seen, in the same order of shoots in all processes.
        zooms: the zoom of each shoot; None: no other shoot has it.

    Raises:
        PeerError: a process has failed.
        OSError: a file cannot be written.
    """
    if team.alone:
        return dict(found)
    owners = _owners(zooms, team.world)
    for rank in range(team.world):
        theirs = zip(owners, found.values(), strict=True)
        seen = [
            [number, _to_json(shoot)]
            for number, (owner, shoot) in enumerate(theirs)
            if owner == rank and shoot.photos
        ]
        team.put(f"looks-for-{rank}", seen)
    keys = list(found)
    pool = {key: Shoot(head) for key, owner in zip(keys, owners, strict=True) if owner == team.rank}
    for rank in range(team.world):
        for number, (photos, kept) in team.get(f"looks-for-{team.rank}", rank):
            seen = [(index, unpacked(tuple(map(array_from_json, a)))) for index, a in kept]
            pool[keys[number]].absorb(photos, seen)
    return pool


def everyones(
    team: Team, keys: Sequence[Key], own: Mapping[Key, ShootLens]
) -> dict[Key, ShootLens]:
    """The lenses that all processes have found. Raises PeerError and OSError."""
    if team.alone:
        return dict(own)
    numbers = {key: number for number, key in enumerate(keys)}
    lenses = [
        [numbers[key], lens.name, lens.photos, list(map(array_to_json, lens.lens))]
        for key, lens in own.items()
    ]
    return {
        keys[number]: ShootLens(name, photos, tuple(map(array_from_json, lens)))
        for found in team.exchange("lenses", lenses)
        for number, name, photos, lens in found
    }


def _owners(zooms: Sequence[Hashable], world: int) -> list[int]:
    """The rank that finds the lens of each shoot."""
    apart = [
        ("shoot", number) if zoom is None else ("zoom", zoom) for number, zoom in enumerate(zooms)
    ]
    numbers = {unit: number for number, unit in enumerate(dict.fromkeys(apart))}
    return [numbers[unit] % world for unit in apart]


def _to_json(shoot: Shoot) -> list[Any]:
    kept = [[index, list(map(array_to_json, packed(photo)))] for index, photo in shoot.kept]
    return [shoot.photos, kept]
