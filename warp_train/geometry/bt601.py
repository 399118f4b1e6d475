"""The weights of ITU-R BT.601, apart from torch: the proxy score needs them without it."""

LUMA_WEIGHTS = (0.299, 0.587, 0.114)
"""Of red, green and blue in luma: those that OpenCV and Pillow turn RGB to grey with."""
