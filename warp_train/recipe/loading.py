"""Recipe files become resolved documents: `extends`, chains of stages, overrides.

A document contains plain values, each with its origin, that are not validated yet;
`warp_train.recipe.resolving` validates them.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from warp_train.recipe.shipped import named_recipe, similar_recipe
from warp_train.recipe.yaml_io import KeyPath, Origin, parse_yaml
from warp_train.runtime.errors import WarpTrainError


@dataclass(frozen=True)
class Document:
    """Keys and values of a recipe, with the origin of each."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, Origin] = field(default_factory=dict)

    def under(self, over: Document) -> Document:
        """This document overridden by `over`: mappings are merged, other values replaced."""
        return Document(_merge(self.values, over.values), {**self.origins, **over.origins})

    def without(self, *keys: str) -> Document:
        """This document without some of its top-level keys."""
        values = {key: value for key, value in self.values.items() if key not in keys}
        return Document(values, {p: o for p, o in self.origins.items() if p[:1] not in _tops(keys)})

    def only(self, *keys: str) -> Document:
        """This document with only those of its top-level keys that are in `keys`."""
        return self.without(*(key for key in self.values if key not in keys))

    def origin(self, path: KeyPath) -> Origin:
        """Origin of the value at `path`, or of the innermost mapping around it that has one."""
        while path not in self.origins:
            path = path[:-1]
        return self.origins[path]


@dataclass(frozen=True)
class StageEntry:
    """One stage of a chain. The chain's shared sections override `base`, and `own` overrides
    both."""

    name: str
    """The stage's default run name, from the name of its file."""
    base: Document
    """The recipe that the stage extends."""
    own: Document
    """The keys that the chain's entry itself contains."""


@dataclass(frozen=True)
class RecipeFile:
    """A recipe file, merged with the files that it extends."""

    path: Path
    document: Document
    """The recipe, or the sections that a chain's stages share."""
    stages: tuple[StageEntry, ...] | None
    """The stages of a chain; None for the recipe of a single stage."""


def read_recipe_file(path: Path) -> RecipeFile:
    """Reads a recipe, or the shipped one of that name, and the files that it extends.

    Raises:
        WarpTrainError: a file is missing, is not text, not YAML or not a mapping, or extends
            itself.
    """
    return _read(named_recipe(path), ())


def overrides_document(
    path: Path, overrides: Iterable[str], literals: Mapping[str, str | None]
) -> Document:
    """The document of the command line's overrides.

    Args:
        path: the recipe, for error messages.
        overrides: `key.sub=value`, the value in YAML; later ones replace earlier ones.
        literals: values of top-level keys, which are not parsed as YAML; None: not overridden.
    """
    where = f"{path} (command line)"
    document = Document()
    for override in overrides:
        dotted, _, text = override.partition("=")
        value, origins = parse_yaml(text, f"{where}: {dotted}", numbered=False)
        steps = tuple(dotted.split("."))
        if steps[0] in ("stages", "extends"):
            raise WarpTrainError(f"{where}: {dotted}: only allowed in a recipe file")
        around = {steps[:i]: f"{'.'.join(steps[i:])}={text}" for i in range(1, len(steps))}
        written = around | {(*steps, *path_): origin.text for path_, origin in origins.items()}
        origins = {key: Origin(where, shown) for key, shown in written.items()}
        document = document.under(Document(_nested(steps, value), origins))
    given = {key: value for key, value in literals.items() if value is not None}
    return document.under(
        Document(dict(given), {(key,): Origin(where, value) for key, value in given.items()})
    )


def _read(path: Path, trail: tuple[Path, ...]) -> RecipeFile:
    document = _read_document(path)
    trail = (*trail, path)
    base = _extended(document, path, trail)
    stages = base.stages if base else None
    if "stages" in document.values:
        stages = _stage_entries(document, path, trail)
    own = document.without("extends", "stages")
    return RecipeFile(path, base.document.under(own) if base else own, stages)


def _extended(document: Document, path: Path, trail: tuple[Path, ...]) -> RecipeFile | None:
    """The recipe that `document`, from the file `path`, extends; None if it extends none."""
    if "extends" not in document.values:
        return None
    where, text = document.origin(("extends",))
    target = _sibling(document.values["extends"], path, f"{where}: extends: {text}")
    seen = [step.resolve() for step in trail]
    if target.resolve() in seen:
        cycle = " -> ".join(map(str, (*trail[seen.index(target.resolve()) :], target)))
        raise WarpTrainError(f"{where}: extends: the recipes extend each other: {cycle}")
    return _read(target, trail)


def _stage_entries(
    document: Document, path: Path, trail: tuple[Path, ...]
) -> tuple[StageEntry, ...]:
    entries = document.values["stages"]
    where, text = document.origin(("stages",))
    if not isinstance(entries, list) or not entries:
        raise WarpTrainError(f"{where}: stages: {text or 'nothing'} must be a list of recipes")
    return tuple(
        _stage_entry(_below(document, i), entry, path, trail) for i, entry in enumerate(entries)
    )


def _stage_entry(own: Document, entry: Any, path: Path, trail: tuple[Path, ...]) -> StageEntry:
    where, text = own.origin(())
    if isinstance(entry, dict):
        base = _extended(own, path, trail)
        own = own.without("extends")
        name = base.path.stem if base else str(entry.get("stage"))
    else:
        target = _sibling(entry, path, f"{where}: stages: {text}")
        base, name, own = _read(target, trail), target.stem, Document()
    if "stages" in own.values or (base and base.stages):
        raise WarpTrainError(f"{where}: stages: {text}: a chain must not contain another chain")
    return StageEntry(folder_name(name), base.document if base else Document(), own)


def folder_name(stem: str) -> str:
    """A run name made from a file name: blanks and other special characters become dashes."""
    return re.sub(r"[^\w.+-]+", "-", stem).strip("-.") or "run"


def _sibling(value: Any, path: Path, mention: str) -> Path:
    """The file with the path `value`, relative to the folder of `path`, or the shipped recipe of
    that name.

    Raises WarpTrainError, whose message starts with `mention`, if there is no such file.
    """
    if not isinstance(value, str) or not value:
        raise WarpTrainError(f"{mention}: must be the path of a recipe")
    target = Path(os.path.normpath(path.parent / value))
    shipped = named_recipe(Path(value))
    if not _holds(target.is_file) and shipped != Path(value):
        return shipped
    if not _holds(target.is_file):
        raise WarpTrainError(f"{mention}: no such file: {target}{_similar(target)}")
    return target


def _read_document(path: Path) -> Document:
    if not _holds(path.is_file):
        raise WarpTrainError(f"{path}: {_why_no_file(path)}")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise WarpTrainError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise WarpTrainError(f"{path}: not a text file in UTF-8") from error
    values, origins = parse_yaml(text, str(path))
    if values is None:
        raise WarpTrainError(f"{path}: the file is empty; a recipe needs at least `stage: NAME`")
    if not isinstance(values, dict):
        raise WarpTrainError(f"{origins[()].where}: {origins[()].text}: must be `key: value` lines")
    origins[()] = Origin(str(path), "")
    return Document(values, origins)


def _holds(test: Callable[[], bool]) -> bool:
    try:
        return test()
    except (OSError, ValueError):  # not a valid file name
        return False


def _why_no_file(path: Path) -> str:
    if _holds(path.is_dir):
        return f"a folder, not a recipe file{_similar(path / 'recipe.yaml')}"
    return f"no such file{_similar(path)}"


def _similar(path: Path) -> str:
    """A hint at the recipe in the same folder, or in the package, whose name is most similar."""
    try:
        names = [entry.name for entry in path.parent.glob("*.y*ml")]
    except (OSError, ValueError):
        return ""
    near = difflib.get_close_matches(path.name, names, 1) or difflib.get_close_matches(
        path.name + ".yaml", names, 1
    )
    if near:
        return f" (did you mean {path.parent / near[0]}?)"
    shipped = similar_recipe(path)
    return f" (did you mean {shipped}, which comes with the package?)" if shipped else ""


def _below(document: Document, index: int) -> Document:
    """Entry `index` of the document's `stages` as a document."""
    prefix = ("stages", index)
    entry = document.values["stages"][index]
    origins = {p[2:]: o for p, o in document.origins.items() if p[:2] == prefix}
    return Document(entry if isinstance(entry, dict) else {}, origins)


def _nested(steps: tuple[str, ...], value: Any) -> dict[str, Any]:
    for step in reversed(steps):
        value = {step: value}
    nested: dict[str, Any] = value
    return nested


def _tops(keys: Iterable[str]) -> set[KeyPath]:
    return {(key,) for key in keys}


def _merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            merged[key] = _merge(old, value)
        elif not (isinstance(old, dict) and value is None):  # an empty section changes nothing
            merged[key] = value
    return merged
