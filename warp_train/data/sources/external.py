"""`external`: the user's own loaders, named as `module:function`."""

import importlib
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from warp_train.data.samples import UNKNOWN_LENS, Batch, collate
from warp_train.runtime.errors import WarpTrainError

_RANGE_TOLERANCE = 1e-3
_IMAGES = ("input_image", "target_image")
_OF_PYTHON = ("builtins", "itertools")
"""Modules of iterators that cannot start again, such as generators and `map`."""


def load_external(spec: str) -> tuple[Iterable[Any], Iterable[Any]]:
    """The (train, validation) loaders that `module:function` returns; each is iterated once per
    epoch.

    Modules in the working directory can be imported. Raises WarpTrainError, in one line, if the
    import or the call fails, if something else is returned, or if the train loader has no length
    or is empty.
    """
    module_name, _, function_name = spec.partition(":")
    where = f"data.external '{spec}'"
    sys.path.insert(0, str(Path.cwd()))
    try:
        function = getattr(importlib.import_module(module_name), function_name)
        loaders = function()
    except Exception as error:  # the user's code may raise anything
        raise WarpTrainError(f"{where}: {_reason(error)}") from error
    finally:
        sys.path.remove(str(Path.cwd()))
    if not isinstance(loaders, tuple | list) or len(loaders) != 2:
        raise WarpTrainError(
            f"{where}: must return (train_loader, val_loader), got {type(loaders).__name__}"
        )
    for name, loader in zip(("train", "validation"), loaders, strict=True):
        if not isinstance(loader, Iterable) or isinstance(loader, Iterator):
            raise WarpTrainError(
                f"{where}: the {name} loader must be iterable again in each epoch, "
                f"got {type(loader).__name__}"
            )
    train, validation = loaders
    if not (length := external_length(train)):
        lack = "has no length (give it __len__)" if length is None else "is empty"
        raise WarpTrainError(f"{where}: the train loader {lack}")
    return train, validation


def external_length(loader: Any) -> int | None:
    """The number of batches, or of single samples, in one pass; None for a loader without it."""
    try:
        return len(loader)
    except TypeError:  # also what a DataLoader over an iterable data set raises
        return None


def external_batches(
    loader: Iterable[Any],
    batch_size: int,
    where: str,
    *,
    least: int = 1,
    read_values: Callable[[int], bool] = lambda number: True,
) -> Iterator[Batch]:
    """The batches of one pass over a user's loader, each checked by `check_batch`.

    Args:
        loader: yields batches, or single samples (3-dim images).
        batch_size: number of single samples that are combined into a batch.
        where: start of error messages, such as "data.external 'my:loaders': train loader".
        least: number of batches or single samples that the pass has to yield.
        read_values: whether `check_range` may read the values of the batch of this number, from 0.
            That makes the host wait for a loader whose tensors are on a GPU.

    Raises:
        WarpTrainError: a batch is wrong, the loader raised an error, or the pass ended too early.
            The message has `where` and the number of the batch, from 1.
    """
    yield from _checked(_entries(loader, where, least), batch_size, where, read_values)


def probe_external(loader: Iterable[Any], batch_size: int, where: str) -> tuple[Batch, int]:
    """A first batch of a loader with a length, and the number of batches in one pass.

    Arguments and errors as of `external_batches`.
    """
    length = external_length(loader) or 1
    entries = _entries(loader, where, length)
    first = next(entries)
    chained = itertools.chain([first], entries)
    batch = next(_checked(chained, batch_size, where, lambda number: True))
    single = first["input_image"].dim() == 3
    return batch, length // batch_size if single else length


def _checked(
    entries: Iterable[Mapping[str, Any]],
    batch_size: int,
    where: str,
    read_values: Callable[[int], bool],
) -> Iterator[Batch]:
    seen = 0
    for number, batch in enumerate(_batched(entries, batch_size, where)):
        place = f"{where}, batch {number + 1}"
        check_batch(batch, place)
        if read_values(number):
            check_range(batch, place)
        yield with_defaults(batch, seen)
        seen += len(batch["input_image"])


def _entries(loader: Iterable[Any], where: str, least: int) -> Iterator[Mapping[str, Any]]:
    """What the loader yields in one pass."""
    again = "; it must start again each time it is iterated, as a list or a DataLoader does"
    seen = 0
    try:
        entries = iter(loader)
        if type(entries).__module__ in _OF_PYTHON and iter(loader) is entries:
            raise WarpTrainError(
                f"{where}: can be iterated only once ({type(entries).__name__}){again}"
            )
        for entry in entries:
            if not isinstance(entry, Mapping):
                raise WarpTrainError(
                    f"{where}, entry {seen + 1}: must be a dict of tensors, "
                    f"got {type(entry).__name__}"
                )
            seen += 1
            yield entry
    except WarpTrainError:
        raise
    except Exception as error:  # the user's code may raise anything
        raise WarpTrainError(f"{where}, entry {seen + 1}: {_reason(error)}") from error
    if seen < least:
        length = f", but its length is {least}" if least > 1 else ""
        raise WarpTrainError(f"{where}: one pass has ended after {seen} entries{length}{again}")


def _batched(entries: Iterable[Mapping[str, Any]], batch_size: int, where: str) -> Iterator[Batch]:
    waiting: list[Mapping[str, Any]] = []
    number = 0
    for entry in entries:
        image = entry.get("input_image")
        if isinstance(image, torch.Tensor) and image.dim() == 3:
            waiting.append(entry)
        else:
            number += 1
            yield dict(entry)
        if len(waiting) == batch_size:
            number += 1
            yield _collated(waiting, f"{where}, batch {number}")
            waiting = []
    if waiting:
        yield _collated(waiting, f"{where}, batch {number + 1}")


def _collated(samples: Sequence[Mapping[str, Any]], where: str) -> Batch:
    try:
        return collate(samples)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise WarpTrainError(
            f"{where}: its samples differ in keys, shapes or types ({_reason(error)})"
        ) from error


def check_batch(batch: Mapping[str, Any], where: str) -> None:
    """Raises WarpTrainError, which names the key, the expected value and the actual one.

    `input_image` and `target_image` are required: float32 [B, 3, H, W] of the same shape.
    `target_grid` float32 [B, H, W, 2], `target_params` float32 [B, 8], `index` int64 [B], and the
    texts `image_id` and `replaced`, B each, are optional. Reads no values of tensors.
    """
    for key in _IMAGES:
        _check_tensor(batch, key, torch.float32, "[B, 3, H, W]", (None, 3, None, None), where)
    count, _, height, width = batch["input_image"].shape
    same = (count, 3, height, width)
    _check_tensor(batch, "target_image", torch.float32, "as input_image", same, where)
    for key, dtype, layout, shape in (
        ("target_grid", torch.float32, "[B, H, W, 2]", (count, height, width, 2)),
        ("target_params", torch.float32, "[B, 8]", (count, 8)),
        ("index", torch.int64, "[B]", (count,)),
    ):
        if key in batch:
            _check_tensor(batch, key, dtype, layout, shape, where)
    for key in ("image_id", "replaced"):
        texts = batch.get(key, [""] * count)
        if not isinstance(texts, list | tuple) or [type(text) for text in texts] != [str] * count:
            raise WarpTrainError(f"{where}: '{key}' must be a list of {count} texts")


def check_range(batch: Mapping[str, Any], where: str) -> None:
    """Raises WarpTrainError unless the pictures are in 0..1. Waits for a GPU that holds them."""
    for key in _IMAGES:
        low, high = (float(end) for end in batch[key].aminmax())
        if not (low >= -_RANGE_TOLERANCE and high <= 1 + _RANGE_TOLERANCE):
            raise WarpTrainError(f"{where}: '{key}' must lie in 0..1, got {low:.4g} ... {high:.4g}")


def _check_tensor(
    batch: Mapping[str, Any],
    key: str,
    dtype: torch.dtype,
    layout: str,
    shape: tuple[int | None, ...],
    where: str,
) -> None:
    if key not in batch:
        raise WarpTrainError(f"{where}: '{key}' is missing; got {', '.join(map(str, batch))}")
    value, expected = batch[key], f"{_name(dtype)} {layout}"
    if not isinstance(value, torch.Tensor):
        raise WarpTrainError(f"{where}: '{key}' must be {expected}, got {type(value).__name__}")
    fits = value.dim() == len(shape) and all(
        want in (None, size) for want, size in zip(shape, value.shape, strict=True)
    )
    if value.dtype != dtype or not fits or value.numel() == 0:
        wanted = ", ".join("?" if size is None else str(size) for size in shape)
        raise WarpTrainError(
            f"{where}: '{key}' must be {expected} ([{wanted}]), got {_name(value.dtype)} "
            f"{list(value.shape)}"
        )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


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


def _reason(error: Exception) -> str:
    """The kind of an error and the first line of its message."""
    kind, lines = type(error).__name__, str(error).strip().splitlines() or [""]
    # A DataLoader puts the traceback of its worker before the message.
    of_worker = [line for line in lines if line.partition(":")[0].endswith(kind)]
    return of_worker[-1] if of_worker else f"{kind}: {lines[0]}"
