"""Checkpoints: what they hold, how they lie on disk, and how all ranks save and restore them."""
