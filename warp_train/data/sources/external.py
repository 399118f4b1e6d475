"""`external`: the user's own loaders, named as `module:function`."""

import importlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from warp_train.data.samples import UNKNOWN_LENS, Batch, collate
from warp_train.runtime.errors import WarpTrainError

_RANGE_TOLERANCE = 1e-3


def load_external(spec: str) -> tuple[Iterable[Any], Iterable[Any]]:
    """The (train, val) loaders that `module:function` returns; each is iterated once per epoch.

    Modules in the working directory can be imported. Raises WarpTrainError, in one line, if the
    import or the call fails, or if something else is returned.
    """
    module_name, _, function_name = spec.partition(":")
    where = f"data.external '{spec}'"
    sys.path.insert(0, str(Path.cwd()))
    try:
        function = getattr(importlib.import_module(module_name), function_name)
        loaders = function()
    except Exception as error:  # the user's code may raise anything
        reason = (str(error).splitlines() or [""])[0]
        raise WarpTrainError(f"{where}: {type(error).__name__}: {reason}") from error
    finally:
        sys.path.remove(str(Path.cwd()))
    if not isinstance(loaders, tuple | list) or len(loaders) != 2:
        raise WarpTrainError(
            f"{where}: must return (train_loader, val_loader), got {type(loaders).__name__}"
        )
    for name, loader in zip(("train", "val"), loaders, strict=True):
        if not isinstance(loader, Iterable) or isinstance(loader, Iterator):
            raise WarpTrainError(
                f"{where}: the {name} loader must be iterable again in each epoch, "
                f"got {type(loader).__name__}"
            )
    return loaders[0], loaders[1]


def external_batches(loader: Iterable[Any], batch_size: int, where: str) -> Iterator[Batch]:
    """The batches of one pass over a user's loader; the first is checked by `check_batch`.

    Args:
        loader: yields batches, or single samples (3-dim images).
        batch_size: number of single samples that are combined into a batch.
        where: start of error messages, such as "data.external 'my:loaders' (train)".
    """
    first, seen = True, 0
    for batch in _batched(loader, batch_size, where):
        if first:
            check_batch(batch, where)
            first = False
        yield with_defaults(batch, seen)
        seen += len(batch["input_image"])


def _batched(loader: Iterable[Any], batch_size: int, where: str) -> Iterator[Batch]:
    waiting: list[Mapping[str, Any]] = []
    for entry in loader:
        if not isinstance(entry, Mapping):
            raise WarpTrainError(
                f"{where}: must yield dicts of tensors, got {type(entry).__name__}"
            )
        image = entry.get("input_image")
        if not (isinstance(image, torch.Tensor) and image.dim() == 3):
            yield dict(entry)
            continue
        waiting.append(entry)
        if len(waiting) == batch_size:
            yield collate(waiting)
            waiting = []
    if waiting:
        yield collate(waiting)


def check_batch(batch: Mapping[str, Any], where: str) -> None:
    """Raises WarpTrainError, which names the key, the expected value and the actual one.

    `input_image` and `target_image` are required: float32 [B, 3, H, W] in 0..1, of the same shape.
    `target_grid` float32 [B, H, W, 2] and `target_params` float32 [B, 8] are optional.
    """
    for key in ("input_image", "target_image"):
        _check_tensor(batch, key, "float32 [B, 3, H, W]", (None, 3, None, None), where)
        low, high = (float(end) for end in batch[key].aminmax())
        if not (low >= -_RANGE_TOLERANCE and high <= 1 + _RANGE_TOLERANCE):
            raise WarpTrainError(
                f"{where}: '{key}' must lie in 0..1, got {low:.4g} ... {high:.4g} (1st batch)"
            )
    count, _, height, width = batch["input_image"].shape
    _check_tensor(batch, "target_image", "input_image's", (count, 3, height, width), where)
    if "target_grid" in batch:
        _check_tensor(
            batch, "target_grid", "float32 [B, H, W, 2]", (count, height, width, 2), where
        )
    if "target_params" in batch:
        _check_tensor(batch, "target_params", "float32 [B, 8]", (count, 8), where)


def _check_tensor(
    batch: Mapping[str, Any], key: str, expected: str, shape: tuple[int | None, ...], where: str
) -> None:
    if key not in batch:
        raise WarpTrainError(f"{where}: '{key}' is missing; got {', '.join(map(str, batch))}")
    value = batch[key]
    if not isinstance(value, torch.Tensor):
        raise WarpTrainError(f"{where}: '{key}' must be {expected}, got {type(value).__name__}")
    fits = value.dim() == len(shape) and all(
        want in (None, size) for want, size in zip(shape, value.shape, strict=True)
    )
    if value.dtype != torch.float32 or not fits or value.numel() == 0:
        got = f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
        wanted = ", ".join("?" if size is None else str(size) for size in shape)
        raise WarpTrainError(f"{where}: '{key}' must be {expected} ([{wanted}]), got {got}")


def with_defaults(batch: Mapping[str, Any], start: int) -> Batch:
    """The batch with all keys of a sample: missing names and indices are numbered from `start`."""
    count, _, height, width = batch["input_image"].shape
    unknown = torch.from_numpy(UNKNOWN_LENS).float()
    return {
        "image_id": [f"external-{start + place}" for place in range(count)],
        "orig_size": torch.tensor([[height, width]] * count),
        "target_params": unknown.repeat(count, 1),
        "index": torch.arange(start, start + count),
        "replaced": [""] * count,
        **batch,
    }
