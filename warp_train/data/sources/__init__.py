"""Where samples come from: one module for each value of `data.source`, named like it.

A source module has a function `open_source(config, seed)` that returns the training and the
validation source. `external` is the exception: it has loaders, see `external.load_external`.
"""

import importlib
from typing import Any, Protocol

from warp_train.data.config import DataConfig
from warp_train.data.samples import Sample, SampleKey
from warp_train.runtime.errors import WarpTrainError


class Source(Protocol):
    """A map-style data set; every random choice about a sample follows from its key."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: SampleKey, /) -> Sample: ...


def build_sources(config: DataConfig, seed: int) -> tuple[Source, Source]:
    """The training and the validation source of a recipe.

    Raises:
        WarpTrainError: a folder is missing or empty, a manifest lacks a column or a file, a group
            is in both, or a line of `data.warps` is wrong; it is named.
    """
    if config.source == "external":
        raise WarpTrainError("data.source 'external' is loaded by data.external")
    module: Any = importlib.import_module(f"{__name__}.{config.source}")
    sources: tuple[Source, Source] = module.open_source(config, seed)
    return sources
