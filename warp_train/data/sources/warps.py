"""`data.warps`: a file of lenses for pairs with unknown lenses, written by `warp-train recover`."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from warp_train.data.lenses import Array
from warp_train.data.profiles import Profile
from warp_train.data.samples import UNKNOWN_LENS
from warp_train.data.sources.manifest import PairItem
from warp_train.geometry import PARAM_NAMES
from warp_train.runtime.errors import WarpTrainError


class Warp(NamedTuple):
    """The warp of a pair, from one line of the file."""

    params: Array
    """`[8]`; NaN if the lens was not recovered reliably and has no profile."""
    profile: Profile | None = None
    """The radial displacement that the lens leaves over, if the line contains it."""


_UNKNOWN = Warp(UNKNOWN_LENS)
_LEAST_RADII = 2


def read_warps(path: Path, key: str = "data.warps") -> dict[str, Warp]:
    """The warp of each pair, by image id. `key` is the recipe's key whose value is `path`.

    Raises WarpTrainError, which names file and line, if a line does not have `recover`'s format.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise WarpTrainError(f"{key}: {path}: cannot be read: {error}") from error
    warps: dict[str, Warp] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{key}: {path}, line {number}"
        image_id, warp = _warp(line, where)
        if image_id in warps:
            raise WarpTrainError(f"{where}: a second line for image_id '{image_id}'")
        warps[image_id] = warp
    return warps


def with_warps(
    train: Sequence[PairItem], val: Sequence[PairItem], path: Path
) -> tuple[list[PairItem], list[PairItem]]:
    """Both lists, with the warps in the file `path`, which replace those of a manifest.

    Raises WarpTrainError if the file contains none of the pairs, or an image id that occurs in
    both lists.
    """
    warps = read_warps(path)
    ids = [{item.image_id for item in items} for items in (train, val)]
    ambiguous = ids[0] & ids[1] & warps.keys()
    if ambiguous:
        raise WarpTrainError(
            f"data.warps: {path}: '{min(ambiguous)}' is the image_id of a training and of a "
            "validation pair"
        )
    if not (ids[0] | ids[1]) & warps.keys():
        shown = f"; the first pair is '{train[0].image_id}'" if train else ""
        raise WarpTrainError(f"data.warps: {path}: names none of the pairs{shown}")
    first, second = ([_with(item, warps) for item in items] for items in (train, val))
    return first, second


def _with(item: PairItem, warps: Mapping[str, Warp]) -> PairItem:
    warp = warps.get(item.image_id)
    return dataclasses.replace(item, **warp._asdict()) if warp else item


def _warp(line: str, where: str) -> tuple[str, Warp]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise WarpTrainError(f"{where}: not JSON: {getattr(error, 'msg', error)}") from error
    image_id = row.get("image_id") if isinstance(row, dict) else None
    if not isinstance(image_id, str) or not image_id:
        raise WarpTrainError(f"{where}: must be an object with an 'image_id'")
    return image_id, warp_of(row, where)


def warp_of(row: Mapping[str, Any], where: str) -> Warp:
    """The warp in a line of `recover`'s file; unknown if the line has an error or is not sure.

    Raises WarpTrainError, which begins with `where`, if the line does not have `recover`'s format.
    """
    if "error" in row:
        return _UNKNOWN
    lens = _lens(row.get("params"), where)
    if not isinstance(row.get("ok"), bool):
        raise WarpTrainError(f"{where}: 'ok' must be true or false, got {row.get('ok')!r}")
    if "profile" in row:  # only reliable profiles are written, even if the lens alone is not `ok`
        return Warp(lens, _profile(row["profile"], where))
    return Warp(lens) if row["ok"] else _UNKNOWN


def _lens(params: Any, where: str) -> Array:
    lens = _numbers(params)
    if len(lens) != len(PARAM_NAMES) or not lens[-1] > 0:
        raise WarpTrainError(
            f"{where}: 'params' must be eight numbers ({', '.join(PARAM_NAMES)}), with s > 0"
        )
    return lens


def _profile(values: Any, where: str) -> Profile:
    profile = _numbers(values)
    if len(profile) < _LEAST_RADII:
        raise WarpTrainError(f"{where}: 'profile' must be two or more numbers, at radii 0 to 1")
    return Profile(profile)


def _numbers(values: Any) -> Array:
    """The array of a list of finite numbers; empty if `values` is anything else."""
    numbers = values if isinstance(values, list) else []
    good = all(
        isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in numbers
    )
    return np.array(numbers if good else [], dtype=np.float64)
