"""Sources of samples: for each value of `data.source`, a module of the same name.

A source module has a function `open_source(config, seed)` that returns the training and the
validation source. `external` is the exception: its loaders come from `external.load_external`.
"""

import importlib
from typing import Any, Protocol

from warp_train.data.config import DataConfig
from warp_train.data.samples import Sample, SampleKey
from warp_train.runtime.errors import WarpTrainError


class Source(Protocol):
    """A map-style data set. Every random choice about a sample is a function of its key."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: SampleKey, /) -> Sample: ...


def build_sources(config: DataConfig, seed: int) -> tuple[Source, Source]:
    """The training and the validation source of a recipe.

    Raises:
        WarpTrainError: a folder is missing or empty, a manifest lacks a column or a file, a group
            is in both training and validation, or a line of `data.warps` is wrong. The message
            names it.
    """
    if config.source == "external":
        raise WarpTrainError(
            "data.source 'external' has no sources; data.external returns its loaders"
        )
    module: Any = importlib.import_module(f"{__name__}.{config.source}")
    sources: tuple[Source, Source] = module.open_source(config, seed)
    return sources
