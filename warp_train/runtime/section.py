"""The base of all recipe sections: frozen, typed and strict; and the differences between two."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from warp_train.runtime.home import with_home

_URL_AS_PATH = re.compile(r"[A-Za-z][\w+.-]+:/")
MODULE_FUNCTION = r"^[\w.]+:\w+$"

ModuleFunction = Annotated[str, Field(pattern=MODULE_FUNCTION)]
"""Names a function that a recipe plugs in, as `module:function`."""


class Section(BaseModel):
    """Base of all recipe sections: immutable, and an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    @field_validator("*", mode="after")
    @classmethod
    def _path_on_a_disk(cls, value: Any) -> Any:
        if not isinstance(value, Path):
            return value
        if _URL_AS_PATH.match(str(value)):  # a path has lost the second slash
            raise ValueError(f"{value} is a URL (must be a path on a disk of this machine)")
        return Path(with_home(str(value)))


def config_differences(saved: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """Keys in which two dumped configurations differ, as `train.max_steps: 100 -> 200`."""
    before, after = flatten(saved), flatten(current)
    return [
        f"{key}: {before.get(key, 'unset')} -> {after.get(key, 'unset')}"
        for key in sorted(before.keys() | after.keys())
        if key not in before or key not in after or before[key] != after[key]
    ]


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested mappings under dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
