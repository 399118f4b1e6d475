"""Samples: where they come from, what bends them, and the order in which they are trained on."""

from warp_train.data.config import DataConfig, LensConfig
from warp_train.data.lenses import sample_lens
from warp_train.data.loading import GlobalBatchSampler, batches, build_loader, build_val_loader
from warp_train.data.samples import Batch, Sample, SampleKey, collate
from warp_train.data.sources import Source, build_sources
from warp_train.data.sources.external import external_batches, load_external

__all__ = [
    "Batch",
    "DataConfig",
    "GlobalBatchSampler",
    "LensConfig",
    "Sample",
    "SampleKey",
    "Source",
    "batches",
    "build_loader",
    "build_sources",
    "build_val_loader",
    "collate",
    "external_batches",
    "load_external",
    "sample_lens",
]
