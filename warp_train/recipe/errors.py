"""Pydantic's validation errors as one line: file, key, value, and the allowed values."""

from __future__ import annotations

import dataclasses
import difflib
import re
import typing
from typing import Any

from pydantic import BaseModel, ValidationError

from warp_train.recipe.loading import Document
from warp_train.recipe.sections import PLACE
from warp_train.recipe.yaml_io import KeyPath
from warp_train.runtime.section import MODULE_FUNCTION

RUN_NAME = r"^\w[\w.+-]*$"

_MUST = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text; put quotes around it",
    "string_too_short": "text of at least {min_length} character",
    "string_too_long": "text of at most {max_length} characters",
    "path_type": "a path",
    "tuple_type": "a list such as [a, b]",
    "missing": "{length} values",
    "too_long": "{max_length} values",
    "model_type": "a section of `key: value`",
    "dataclass_type": "a section of `key: value`",
    "greater_than": "> {gt:g}",
    "greater_than_equal": ">= {ge:g}",
    "less_than": "< {lt:g}",
    "less_than_equal": "<= {le:g}",
    "literal_error": "{expected}",
}
_SECTION_ERRORS = ("value_error", "recipe_key")
_PATTERNS = {
    MODULE_FUNCTION: "`module:function`",
    PLACE: "a URL such as s3://bucket/runs, or a hub id such as user/name",
    RUN_NAME: "letters, digits and . _ + - only, since it names a folder",
}


def keys_of(model: Any) -> dict[str, Any]:
    """The keys of a section, spelled as in recipes, with their types; empty for other types."""
    if isinstance(model, type) and issubclass(model, BaseModel):
        return {f.alias or name: f.annotation for name, f in model.model_fields.items()}
    if dataclasses.is_dataclass(model):
        hints = typing.get_type_hints(model)
        return {f.name: hints[f.name] for f in dataclasses.fields(model)}
    return {}


def explain(error: ValidationError, document: Document, model: type[BaseModel]) -> str:
    """One line that explains the first problem and lists the keys of the others.

    Args:
        error: the error that the validation of `document` as a `model` has raised.
        document: the recipe, with the origin of each value.
        model: the type of the complete document.
    """
    problems = error.errors(include_url=False)
    paths = [_without_branch(_path(problem), model) for problem in problems]
    # A section may be merged from several files, so its error names the recipe without a line.
    is_section = bool(keys_of(_type_at(paths[0], model))) and problems[0]["type"] in _SECTION_ERRORS
    where = document.origin(() if is_section else paths[0]).where
    line = f"{where}: {_problem(problems[0], paths[0], document, model)}"
    others = [_dotted(path) for path in dict.fromkeys(paths) if path != paths[0]]
    return f"{line} (and {len(others)} more: {', '.join(others)})" if others else line


def _path(problem: Any) -> KeyPath:
    path: KeyPath = problem["loc"] + problem.get("ctx", {}).get("key", ())
    return path[:-1] if problem["type"] == "missing" and isinstance(path[-1], int) else path


def _without_branch(path: KeyPath, model: Any) -> KeyPath:
    """A key's path without the name that pydantic appends to it for each type it may have."""
    is_key = bool(keys_of(_type_at(path[:-1], model))) or not isinstance(path[-1], str)
    return path if is_key else path[:-1]


def _problem(problem: Any, path: KeyPath, document: Document, model: type[BaseModel]) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{_dotted(path)}: unknown key ({_known_keys(path, model)})"
    if kind == "recipe_key":
        return f"{_dotted(path)}: {problem['msg']}"
    if kind == "value_error":
        return f"{_dotted(path)}: {context['error']}"
    if kind == "missing" and path not in document.origins:
        return f"{_dotted(path)}: this key is missing{_choices(path, model)}"
    if kind == "missing":
        context = {"length": len(typing.get_args(_type_at(path, model)))}
    if kind == "string_pattern_mismatch":
        must = _PATTERNS.get(context["pattern"], f"text that matches {context['pattern']}")
    else:
        must = _MUST[kind].format(**context) if kind in _MUST else problem["msg"]
    written = document.origins[path].text or "nothing"
    near = _near(written, re.findall("'([^']*)'", must)) if kind == "literal_error" else ""
    return f"{_dotted(path)}: {written} is not allowed (must be {must}{near})"


def _known_keys(path: KeyPath, model: type[BaseModel]) -> str:
    """The nearest key to an unknown one, in its section or another, and all allowed keys."""
    allowed, wrong = list(keys_of(_type_at(path[:-1], model))), str(path[-1])
    near = difflib.get_close_matches(wrong, allowed, 1) or [
        dotted for dotted in _all_keys(model) if dotted.split(".")[-1] == wrong
    ]
    hint = f"did you mean '{near[0]}'? " if near else ""
    return f"{hint}allowed: {', '.join(allowed)}"


def _near(written: str, allowed: list[str]) -> str:
    near = difflib.get_close_matches(written, allowed, 1)
    return f"; did you mean '{near[0]}'?" if near else ""


def _choices(path: KeyPath, model: type[BaseModel]) -> str:
    choices = typing.get_args(_type_at(path, model))
    return f" (one of {', '.join(map(str, choices))})" if choices else ""


def _type_at(path: KeyPath, model: Any) -> Any:
    for step in path:
        model = keys_of(model).get(str(step))
    return model


def _all_keys(model: Any, prefix: str = "") -> list[str]:
    keys = []
    for name, annotation in keys_of(model).items():
        keys += [prefix + name, *_all_keys(annotation, f"{prefix}{name}.")]
    return keys


def _dotted(path: KeyPath) -> str:
    return ".".join(map(str, path)) or "recipe"
