"""Samples: where they come from, what bends them, and the order in which they are trained on."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
