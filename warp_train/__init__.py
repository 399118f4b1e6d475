"""warp_train: train networks that straighten photographs by geometry alone."""

__version__ = "0.1.0"
