"""Pairs that are listed in a manifest (.csv or .jsonl) or found by their file names."""

import csv
import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from warp_train.data.lenses import Array
from warp_train.data.profiles import Profile
from warp_train.data.samples import RESERVED_KEYS, UNKNOWN_LENS
from warp_train.data.sources.files import Item, list_images
from warp_train.data.splits import group_of, id_of
from warp_train.geometry import PARAM_NAMES
from warp_train.runtime.errors import WarpTrainError

_NAMED = ("input", "target", "image_id", "group", "split", *PARAM_NAMES)
_SPLITS = ("train", "val")
_MANIFESTS = ("manifest.csv", "manifest.jsonl")


@dataclass(frozen=True)
class PairItem(Item):
    """A distorted photo (`input`) and the same one straight (`target`)."""

    input: Path
    params: Array = field(default_factory=lambda: UNKNOWN_LENS)
    split: str = ""
    """`train`, `val`, or empty if the manifest has no value."""
    extra: Mapping[str, str | float] = field(default_factory=dict)
    """Values of the manifest's further columns, which become keys of the sample."""
    profile: Profile | None = None
    """The radial displacement that `params` leave over, if it is known."""

    @property
    def warp_known(self) -> bool:
        """Whether the warp between the two photos is known."""
        return bool(np.isfinite(self.params).all())


def find_pairs(root: Path, key: str) -> list[PairItem]:
    """The pairs of a manifest, of the manifest in a folder, or of a folder by their file names.

    `key` is the recipe's key whose value is `root`. Raises WarpTrainError if something is missing.
    """
    if root.is_file():
        return read_manifest(root)
    for name in _MANIFESTS:
        if (root / name).is_file():
            return read_manifest(root / name)
    return _pairs_by_name(root, key)


def _pairs_by_name(root: Path, key: str) -> list[PairItem]:
    by_role: dict[str, dict[Path, Path]] = {"original": {}, "generated": {}}
    for path in list_images(root, key):
        stem, _, role = path.stem.rpartition("_")
        if role in by_role:
            by_role[role][path.with_name(stem)] = path
    originals, generated = by_role["original"], by_role["generated"]
    alone = originals.keys() ^ generated.keys()
    if alone:
        path = min(originals.get(name) or generated[name] for name in alone)
        raise WarpTrainError(f"{path}: has no partner (*_original.* needs *_generated.* beside it)")
    if not originals:
        raise WarpTrainError(
            f"{key}: {root} contains no manifest.csv, no manifest.jsonl and no pairs of "
            "*_original.* and *_generated.* files"
        )
    ids = {base: base.relative_to(root).as_posix() for base in originals}
    return [
        PairItem(image_id, group_of(image_id), generated[base], originals[base])
        for base, image_id in ids.items()
    ]


def read_manifest(path: Path) -> list[PairItem]:
    """The rows of a manifest. The docstring of `sources.pairs` describes its columns.

    Raises WarpTrainError, which names the manifest, the line and the column.
    """
    rows = _csv_rows(path) if path.suffix.lower() == ".csv" else _jsonl_rows(path)
    if not rows:
        raise WarpTrainError(f"{path}: contains no pairs")
    columns = list(dict.fromkeys(name for _, row in rows for name in row))
    _check_columns(path, columns)
    numeric = {name: all(_number(row.get(name)) is not None for _, row in rows) for name in columns}
    return [_item(path, line, row, numeric) for line, row in rows]


def _csv_rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restkey="", restval="")
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise WarpTrainError(f"{path}: cannot be read as CSV: {error}") from error
    for line, row in rows:
        if "" in row:
            raise WarpTrainError(f"{path}, line {line}: more fields than the header has columns")
    return rows


def _jsonl_rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    if path.suffix.lower() != ".jsonl":
        raise WarpTrainError(f"{path}: a manifest must be a .csv or .jsonl file")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise WarpTrainError(f"{path}: cannot be read: {error}") from error
    rows = []
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", error)
            raise WarpTrainError(f"{path}, line {number}: not JSON: {reason}") from error
        if not isinstance(row, dict):
            raise WarpTrainError(f"{path}, line {number}: must be a JSON object, got {text[:40]!r}")
        rows.append((number, {name: "" if cell is None else cell for name, cell in row.items()}))
    return rows


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    given = [name for name in PARAM_NAMES if name in columns]
    needed = ["input", "target", *(PARAM_NAMES if given else ())]
    missing = [name for name in needed if name not in columns]
    if missing:
        why = " (a lens needs all eight parameters)" if given and missing[0] in PARAM_NAMES else ""
        raise WarpTrainError(f"{path}: column '{missing[0]}' is missing{why}")
    for name in columns:
        if name in RESERVED_KEYS and name not in _NAMED:
            raise WarpTrainError(f"{path}: the column name '{name}' is reserved; rename it")


def _item(path: Path, line: int, row: dict[str, Any], numeric: Mapping[str, bool]) -> PairItem:
    source, target = (_file(path, line, row, name) for name in ("input", "target"))
    image_id = str(row.get("image_id") or id_of(source.stem))
    split = str(row.get("split", ""))
    if split not in ("", *_SPLITS):
        raise WarpTrainError(
            f"{path}, line {line}, column 'split': got '{split}', allowed are train, val or nothing"
        )
    extra = {
        name: float(row[name]) if numeric[name] else str(row.get(name, ""))
        for name in numeric
        if name not in _NAMED
    }
    group = str(row.get("group") or group_of(image_id))
    return PairItem(image_id, group, target, source, _lens(path, line, row), split, extra)


def _file(path: Path, line: int, row: Mapping[str, Any], column: str) -> Path:
    name = str(row.get(column, ""))
    if not name:
        raise WarpTrainError(f"{path}, line {line}, column '{column}': is empty")
    file = path.parent / name
    try:
        exists = file.is_file()
    except (OSError, ValueError):  # not a valid file name
        exists = False
    if not exists:
        shown = textwrap.shorten(str(file), 200)
        raise WarpTrainError(f"{path}, line {line}, column '{column}': no such file: {shown}")
    return file


def _lens(path: Path, line: int, row: Mapping[str, Any]) -> Array:
    """The eight parameters; NaN if the row contains none."""
    cells = [row.get(name, "") for name in PARAM_NAMES]
    if all(cell == "" for cell in cells):
        return UNKNOWN_LENS
    numbers = [_number(cell) for cell in cells]
    for name, cell, number in zip(PARAM_NAMES, cells, numbers, strict=True):
        if number is None or (name == "s" and number <= 0):
            wanted = "a number above 0" if name == "s" else "a number"
            raise WarpTrainError(
                f"{path}, line {line}, column '{name}': must be {wanted}, got {cell!r}"
            )
    lens: Array = np.array(numbers, dtype=np.float64)
    return lens


def _number(cell: Any) -> float | None:
    try:
        number = float(cell)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
