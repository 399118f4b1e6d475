"""Warps as grids: the lens, the residual flow, their sum, resampling and safety. Plain torch."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
