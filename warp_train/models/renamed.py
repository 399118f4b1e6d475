"""Names that tensors had in earlier versions: their weights and checkpoints load in this one."""

from collections.abc import Mapping
from typing import TypeVar

Value = TypeVar("Value")

_RENAMED = {
    "parametric_head.doubt.": "parametric_head.uncertainty.",
    "parametric_head.plumb_line.say.": "parametric_head.plumb_line.log_weights.",
}
"""Parts of names: those in an optimizer's file stand between a prefix and a suffix."""


def current_name(name: str) -> str:
    """The name in this version."""
    for old, new in _RENAMED.items():
        name = name.replace(old, new)
    return name


def first_name(name: str) -> str:
    """The name in the first version, for what must not change when a tensor is renamed."""
    for old, new in _RENAMED.items():
        name = name.replace(new, old)
    return name


def with_current_names(tensors: Mapping[str, Value]) -> dict[str, Value]:
    """`tensors` by their names in this version.

    A file that has a tensor by both names is of no version, and keeps the two apart.
    """
    return {
        name if current_name(name) in tensors else current_name(name): value
        for name, value in tensors.items()
    }
