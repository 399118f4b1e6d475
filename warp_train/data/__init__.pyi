from .config import DataConfig
from .lens_config import LensConfig
from .lenses import sample_lens
from .loading import GlobalBatchSampler, batches, build_loader, build_val_loader
from .samples import Batch, Sample, SampleKey, collate
from .sources import Source, build_sources
from .sources.external import external_batches, load_external

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
