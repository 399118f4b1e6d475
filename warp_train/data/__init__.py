"""Samples: their sources, the lenses that bend them, and the order of training."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
