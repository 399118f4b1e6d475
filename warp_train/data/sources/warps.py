"""`data.warps`: lenses of pairs that come without, as `warp-train recover` writes them."""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from warp_train.data.lenses import Array
from warp_train.data.samples import UNKNOWN_LENS
from warp_train.data.sources.manifest import PairItem
from warp_train.errors import WarpTrainError
from warp_train.geometry import PARAM_NAMES


def read_warps(path: Path) -> dict[str, Array]:
    """The lens of each pair by its image id: NaN where it could not be recovered, or not surely.

    Raises WarpTrainError, naming file and line, for what is not a line of `recover`.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise WarpTrainError(f"data.warps: {path}: cannot be read: {error}") from error
    warps: dict[str, Array] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"data.warps: {path}, line {number}"
        image_id, lens = _warp(line, where)
        if image_id in warps:
            raise WarpTrainError(f"{where}: a second line for image_id '{image_id}'")
        warps[image_id] = lens
    return warps


def with_warps(
    train: Sequence[PairItem], val: Sequence[PairItem], path: Path
) -> tuple[list[PairItem], list[PairItem]]:
    """Both lists with the lenses of a file of warps, which goes before a manifest's.

    Raises WarpTrainError where the file names none of the pairs, or one of an id that is in both.
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
    first, second = (
        [dataclasses.replace(i, params=warps.get(i.image_id, i.params)) for i in items]
        for items in (train, val)
    )
    return first, second


def _warp(line: str, where: str) -> tuple[str, Array]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise WarpTrainError(f"{where}: not JSON: {getattr(error, 'msg', error)}") from error
    image_id = row.get("image_id") if isinstance(row, dict) else None
    if not isinstance(image_id, str) or not image_id:
        raise WarpTrainError(f"{where}: must be an object with an 'image_id'")
    if "error" in row:
        return image_id, UNKNOWN_LENS
    lens = _lens(row.get("params"), where)
    if not isinstance(row.get("ok"), bool):
        raise WarpTrainError(f"{where}: 'ok' must be true or false, got {row.get('ok')!r}")
    return image_id, lens if row["ok"] else UNKNOWN_LENS


def _lens(params: Any, where: str) -> Array:
    numbers = params if isinstance(params, list) else []
    good = all(
        isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in numbers
    )
    if len(numbers) != len(PARAM_NAMES) or not good or not numbers[-1] > 0:
        raise WarpTrainError(
            f"{where}: 'params' must be eight numbers ({', '.join(PARAM_NAMES)}) with s above 0"
        )
    lens: Array = np.array(numbers, dtype=np.float64)
    return lens
