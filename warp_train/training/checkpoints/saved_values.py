"""Checks of saved values against current ones, before torch loads them.

torch's own loaders check little: a damaged value would be noticed steps later, or never.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from warp_train.models.pretrained import plain
from warp_train.runtime.errors import WarpTrainError

ADAM_STATE = frozenset({"step", "exp_avg", "exp_avg_sq"})
_LARGEST_INT = 2**53
_LARGEST_FLOAT = 1e38


def as_ours(saved: Mapping[str, Any], ours: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The saved values of all keys of `ours`, if each is of the same kind.

    Releases of torch add and remove flags: a flag that was not saved keeps its current value, and
    an unknown one is ignored. Numbers must have been saved.

    Args:
        where: file and key, for messages.

    Raises:
        WarpTrainError: a value is missing, of another kind, negative, not finite or too large.
    """
    for key, value in ours.items():
        if key not in saved and not isinstance(value, bool | None):
            raise WarpTrainError(f"{where}.{key} is missing")
    return {
        key: _as_ours(saved[key], value, f"{where}.{key}") if key in saved else value
        for key, value in ours.items()
    }


def _as_ours(saved: Any, ours: Any, where: str) -> Any:
    if isinstance(ours, bool | None):
        fits = isinstance(saved, bool | None)
    elif isinstance(ours, int | float):
        kind, most = (int, _LARGEST_INT) if isinstance(ours, int) else (int | float, _LARGEST_FLOAT)
        fits = isinstance(saved, kind) and not isinstance(saved, bool) and 0 <= saved <= most
    elif isinstance(ours, list | tuple):
        fits = isinstance(saved, list) and len(saved) == len(ours)
        if fits:
            pairs = zip(saved, ours, strict=True)
            return type(ours)(_as_ours(there, here, where) for there, here in pairs)
    else:
        return ours  # functions and other objects are never read from a file
    if not fits:
        raise WarpTrainError(f"{where} cannot be {plain(repr(saved)[:80])}")
    return saved


def require_adam_state(state: Mapping[str, Tensor], parameter: Tensor, where: str) -> None:
    """Raises WarpTrainError unless `state` is AdamW's state of `parameter`.

    Args:
        where: file and parameter, for messages.
    """
    odd = min(ADAM_STATE ^ state.keys(), default=None)
    if odd is not None:
        there = "is missing" if odd in ADAM_STATE else "is not part of this optimizer's state"
        raise WarpTrainError(f"{where}.{plain(odd)} {there}")
    for key, value in state.items():
        shape = () if key == "step" else tuple(parameter.shape)
        kind = torch.float32 if key == "step" else parameter.dtype
        if tuple(value.shape) != shape or value.dtype != kind:
            raise WarpTrainError(
                f"{where}.{key} is {value.dtype} {list(value.shape)} there and {kind} "
                f"{list(shape)} here".replace("torch.", "")
            )
        if not torch.isfinite(value).all() or (key != "exp_avg" and (value < 0).any()):
            raise WarpTrainError(f"{where}.{key} has values that cannot result from training")
