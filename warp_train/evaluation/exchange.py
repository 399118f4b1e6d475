"""What the processes of a launch have measured, put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from warp_train.data.lenses import Array
from warp_train.data.sources.manifest import PairItem
from warp_train.evaluation.evaluate import shoot_of
from warp_train.evaluation.measuring import AppliedWarp, FailedPhoto, OneLens, PhotoResult, Task
from warp_train.runtime.json_arrays import array_from_json, array_to_json
from warp_train.runtime.team import Team

Result = PhotoResult | FailedPhoto
_Key = tuple[str, str, str]


def share_of(team: Team, items: Sequence[PairItem]) -> list[PairItem]:
    """The pairs that a process measures; those of one shoot are in one process."""
    units = [
        ("photo", str(n)) if (s := shoot_of(i)) is None else ("shoot", s)
        for n, i in enumerate(items)
    ]
    numbers = {unit: number for number, unit in enumerate(dict.fromkeys(units))}
    return [
        item
        for item, unit in zip(items, units, strict=True)
        if numbers[unit] % team.world == team.rank
    ]


def gathered(
    team: Team, items: Sequence[PairItem], results: Sequence[Result]
) -> list[Result] | None:
    """The results of all processes in the order of the pairs, for rank 0; None for the others.

    Raises:
        PeerError: a process has failed.
        OSError: a file cannot be written.
    """
    if team.alone:
        return list(results)
    everyone = team.finish([_to_json(result) for result in results])
    if everyone is None:
        return None
    known = {_key(item): item for item in items}
    place: dict[str, int] = {}
    for number, item in enumerate(items):
        place.setdefault(item.image_id, number)
    found = [_from_json(value, known) for values in everyone for value in values]
    return sorted(found, key=lambda result: place[_id_of(result)])


def _id_of(result: Result) -> str:
    return result.task.item.image_id if isinstance(result, PhotoResult) else result["image_id"]


def _key(item: PairItem) -> _Key:
    return item.image_id, str(item.input), str(item.target)


def _to_json(result: Result) -> dict[str, Any]:
    if not isinstance(result, PhotoResult):
        return {"failed": result}
    task = result.task
    return {
        "key": _key(task.item),
        "warp": _warp_to_json(AppliedWarp(task.params, task.residual, task.mode)),
        "refused": task.refused,
        "expected_error_px": task.expected_error_px,
        "target": _warp_to_json(task.target),
        "one_lens": _one_lens_to_json(task.one_lens),
        "size": result.size,
        "rows": result.rows,
        "straight": result.straight,
    }


def _from_json(value: Mapping[str, Any], items: Mapping[_Key, PairItem]) -> Result:
    if "failed" in value:
        failed: FailedPhoto = value["failed"]
        return failed
    image_id, photo, target = value["key"]
    applied = _warp_from_json(value["warp"])
    assert applied is not None
    task = Task(
        items[image_id, photo, target],
        applied.params,
        applied.residual,
        applied.mode,
        tuple(value["refused"]),
        value["expected_error_px"],
        _warp_from_json(value["target"]),
        _one_lens_from_json(value["one_lens"]),
    )
    height, width = value["size"]
    return PhotoResult(task, (height, width), value["rows"], value["straight"])


def _one_lens_to_json(lens: OneLens | None) -> list[Any] | None:
    if lens is None:
        return None
    rest = lens.common_expected_error_px, lens.own_lens_differs_px, lens.disagrees
    return [_warp_to_json(lens.applied), array_to_json(lens.common), *rest]


def _one_lens_from_json(value: list[Any] | None) -> OneLens | None:
    if value is None:
        return None
    warp, common, expected, differs, disagrees = value
    applied = _warp_from_json(warp)
    assert applied is not None
    return OneLens(applied, array_from_json(common), expected, differs, disagrees)


def _warp_to_json(warp: AppliedWarp | None) -> list[Any] | None:
    if warp is None:
        return None
    residual = None if warp.residual is None else array_to_json(warp.residual)
    return [array_to_json(warp.params), residual, warp.mode, warp.expected_error_px]


def _warp_from_json(value: list[Any] | None) -> AppliedWarp | None:
    if value is None:
        return None
    params, residual, mode, error = value
    bent: Array | None = None if residual is None else array_from_json(residual)
    return AppliedWarp(array_from_json(params), bent, mode, error)
