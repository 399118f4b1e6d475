"""Exports the lens of a photo in the formats of other programs: OpenCV, lensfun and LCP."""
