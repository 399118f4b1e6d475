"""Straight-line worlds: rooms, facades, floors, shelves, blinds and print, in perspective."""

from warp_train.data.drawing.worlds import draw_world

__all__ = ["draw_world"]
